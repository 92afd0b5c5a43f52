//! One training step, as the paper has it.

use super::checkpoint::State;
use crate::config::Config;
use crate::diffusion::Schedule;
use crate::diffusion::forward::{draw_t, q_sample};
use crate::rng::{self, Purpose, Stream};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

/// One batch on the device, the images `[B, 3, 32, 32]`.
pub struct Pair {
    /// The encoder's view, normalised.
    pub x_source: Tensor<4>,
    /// The denoiser's view, in [-1, 1].
    pub x_0: Tensor<4>,
    /// How x_0 lies in x_source, `[B, 4]`, see [`Geometry::within`](crate::data::crop::Geometry::within); none: as x_source.
    pub view: Option<Tensor<2>>,
}

impl Pair {
    /// From values on the host, images as NCHW.
    pub fn new(source: Vec<f32>, target: Vec<f32>, view: Option<Vec<f32>>, device: &Device) -> Self {
        let batch = source.len() / (3 * 32 * 32);
        let images = |values| Tensor::from_data(TensorData::new(values, [batch, 3, 32, 32]), device);
        let view = view.map(|view| Tensor::from_data(TensorData::new(view, [batch, 4]), device));
        Self { x_source: images(source), x_0: images(target), view }
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
    let mask = draw_masks(batch, config, &mut draws(Purpose::Masks), &device);
    let t = draw_t(schedule, batch, &mut draws(Purpose::Time), &device);
    let eps = Tensor::from_data(
        TensorData::new(rng::normal(&mut draws(Purpose::Noise), batch * 3 * 32 * 32), [batch, 3, 32, 32]),
        &device,
    );
    let x_t = q_sample(pair.x_0, &t, eps.clone());
    let dropout_key = draws(Purpose::Dropout).random();
    let eps_hat = state.model.predict_eps(x_t, t.time, z, mask, pair.view, Some(dropout_key));
    let loss = (eps_hat - eps).square().mean();

    let grads = loss.backward();
    // Global-norm clip, AdamW (the encoder at lr x ratio) and the EMA, in one pass over the parameters.
    let (model, grad_norm) = state.optim.step(lr, state.model, grads, &mut state.ema, &config.train);
    state.model = model;
    state.position.step = step;
    state.position.updates = state.optim.updates;
    (state, Outcome { loss: loss.inner(), grad_norm })
}

/// `[B, Z]`, 1 where z passes: an image's whole z is dropped with probability `z_drop` (classifier-free guidance), else each
/// of its sections by itself with probability `layer_mask` (layer masking). `[B, 1]` where layer_mask is 0.
pub fn draw_masks(batch: usize, config: &Config, stream: &mut Stream, device: &Device) -> Tensor<2> {
    let train = &config.train;
    let mut passes = |p: f64| if stream.random_bool(p) { 0.0 } else { 1.0 };
    let (values, width): (Vec<f32>, usize) = if train.layer_mask == 0.0 {
        ((0..batch).map(|_| passes(train.z_drop)).collect(), 1)
    } else {
        let sections = config.model.sections();
        let mut image = || {
            let whole = passes(train.z_drop);
            // Drawn for dropped images too, so that every image takes as many numbers of the stream.
            let kept: Vec<f32> = sections.iter().map(|_| whole * passes(train.layer_mask)).collect();
            sections.iter().zip(kept).flat_map(|(section, kept)| std::iter::repeat_n(kept, section.len())).collect::<Vec<_>>()
        };
        ((0..batch).flat_map(|_| image()).collect(), config.model.z_dim)
    };
    Tensor::from_data(TensorData::new(values, [batch, width]), device)
}
