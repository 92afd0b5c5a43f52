//! One training step, as the paper has it.

use super::checkpoint::State;
use crate::config::Config;
use crate::diffusion::Schedule;
use crate::diffusion::forward::{draw_t, q_sample};
use crate::rng::{self, Purpose, Stream};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

/// One batch on the device, both `[B, 3, 32, 32]`.
pub struct Pair {
    /// The encoder's view, normalised.
    pub x_source: Tensor<4>,
    /// The denoiser's view, in [-1, 1].
    pub x_0: Tensor<4>,
}

impl Pair {
    /// From NCHW values on the host.
    pub fn new(source: Vec<f32>, target: Vec<f32>, device: &Device) -> Self {
        let batch = source.len() / (3 * 32 * 32);
        let tensor = |values| Tensor::from_data(TensorData::new(values, [batch, 3, 32, 32]), device);
        Self { x_source: tensor(source), x_0: tensor(target) }
    }
}

/// What a step leaves to be read, still on the device.
pub struct Outcome {
    /// Mean squared error on the noise, `[1]`.
    pub loss: Tensor<1>,
    /// L2 norm of all gradients before the clip, `[1]`.
    pub grad_norm: Tensor<1>,
}

/// Step number `step` (from 1) of training: encode, noise, predict, compare, update. `lr` is the denoiser's.
pub fn step(mut state: State, pair: Pair, schedule: &Schedule, config: &Config, step: u64, lr: f64) -> (State, Outcome) {
    let device = pair.x_0.device();
    let [batch, ..] = pair.x_0.dims();
    let draws = |purpose| rng::stream(config.seed, purpose, step);

    let z = state.model.encode(pair.x_source);
    let mask = draw_masks(batch, config.train.z_drop, &mut draws(Purpose::Masks), &device);
    let t = draw_t(schedule, batch, &mut draws(Purpose::Time), &device);
    let eps = Tensor::from_data(
        TensorData::new(rng::normal(&mut draws(Purpose::Noise), batch * 3 * 32 * 32), [batch, 3, 32, 32]),
        &device,
    );
    let x_t = q_sample(pair.x_0, &t, eps.clone());
    let dropout_key = draws(Purpose::Dropout).random();
    let eps_hat = state.model.predict_eps(x_t, t.time, z, mask, Some(dropout_key));
    let loss = (eps_hat - eps).square().mean();

    let grads = loss.backward();
    // Global-norm clip, AdamW (the encoder at lr x ratio) and the EMA, in one pass over the parameters.
    let (model, grad_norm) = state.optim.step(lr, state.model, grads, &mut state.ema, &config.train);
    state.model = model;
    state.position.step = step;
    state.position.updates = state.optim.updates;
    (state, Outcome { loss: loss.inner(), grad_norm })
}

/// [B, 1]: 0 with probability `z_drop`, dropping an image's whole z (classifier-free guidance), else 1.
fn draw_masks(batch: usize, z_drop: f64, stream: &mut Stream, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..batch).map(|_| if stream.random_bool(z_drop) { 0.0 } else { 1.0 }).collect();
    Tensor::from_data(TensorData::new(values, [batch, 1]), device)
}
