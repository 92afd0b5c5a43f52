//! One training step, as the paper has it.

use super::checkpoint::State;
use super::decorrelation::decorrelation;
use super::optim::Gradients;
use crate::config::{Config, Precision, Sides};
use crate::data::bytes_of;
use crate::diffusion::Schedule;
use crate::diffusion::forward::{draw_levels, q_sample, times_of};
use crate::diffusion::weight::weights;
use crate::kernels::precision::Precision as Compute;
use crate::rng::{self, Purpose, Stream};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

/// One batch on the device, the images `[B, 3, side, side]`.
pub struct Pair {
    /// The encoder's view, normalised.
    pub x_source: Tensor<4>,
    /// The denoiser's view, in [-1, 1].
    pub x_0: Tensor<4>,
    /// How x_0 lies in x_source, `[B, 4]`, see [`Geometry::within`](crate::data::crop::Geometry::within); none: as x_source.
    pub view: Option<Tensor<2>>,
}

impl Pair {
    /// From values on the host, images of `sides` as NCHW.
    pub fn new(sides: Sides, source: Vec<f32>, target: Vec<f32>, view: Option<Vec<f32>>, device: &Device) -> Self {
        let batch = source.len() / bytes_of(sides.source);
        let images = |values, side| Tensor::from_data(TensorData::new(values, [batch, 3, side, side]), device);
        let view = view.map(|view| Tensor::from_data(TensorData::new(view, [batch, 4]), device));
        Self { x_source: images(source, sides.source), x_0: images(target, sides.target), view }
    }

    /// In parts of `size` images (0: all), the last one smaller.
    fn parts(self, size: usize) -> Vec<Pair> {
        let [batch, ..] = self.x_0.dims();
        if size == 0 || size >= batch {
            return vec![self];
        }
        let part = |start: usize| {
            let n = size.min(batch - start);
            Pair {
                x_source: self.x_source.clone().narrow(0, start, n),
                x_0: self.x_0.clone().narrow(0, start, n),
                view: self.view.clone().map(|view| view.narrow(0, start, n)),
            }
        };
        (0..batch).step_by(size).map(part).collect()
    }
}

/// What a step leaves to be read, still on the device.
pub struct Outcome {
    /// Mean squared error on the noise (or v), weighted by level, with the penalty on z where there is one, `[1]`.
    pub loss: Tensor<1>,
    /// L2 norm of all gradients before the clip, `[1]`.
    pub grad_norm: Tensor<1>,
    /// In mixed precision the state of its loss scaling, `[4]`.
    pub loss_scale: Option<Tensor<1>>,
}

/// Step number `step` (from 1) of training: encode, noise (`train.denoisings` times), predict, compare, update. `lr` is the denoiser's.
pub fn step(mut state: State, pair: Pair, schedule: &Schedule, config: &Config, step: u64, lr: f64) -> (State, Outcome) {
    let device = pair.x_0.device();
    let [batch, ..] = pair.x_0.dims();
    let train = &config.train;
    let draws = train.denoisings;
    let [mut masks, mut times, mut noise, mut dropout] =
        [Purpose::Masks, Purpose::Time, Purpose::Noise, Purpose::Dropout].map(|purpose| rng::stream(config.seed, purpose, step));
    let levels = draw_levels(schedule, [batch, draws], train.stratified_t, &mut times);
    let mut levels = levels.as_slice();
    let mut total = Gradients::default();
    // The networks in training compute in the recipe's precision; their average, which is scored, always in f32.
    state.model = state.model.in_precision(match train.precision {
        Precision::F32 => Compute::F32,
        Precision::Mixed => Compute::F16,
    });
    let scale = state.optim.scale(train.precision, &device.clone().inner());

    // One part, but where memory is short. The draws are the same however the batch is cut.
    for part in pair.parts(train.micro_batch) {
        let [n, ..] = part.x_0.dims();
        let at;
        (at, levels) = levels.split_at(n * draws);
        let z = state.model.encode(part.x_source);
        let penalty = (train.decorrelation > 0.0).then(|| decorrelation(z.clone()) * train.decorrelation);
        let z = repeated(z, draws);
        let x_0 = repeated(part.x_0, draws);
        let view = part.view.map(|view| repeated(view, draws));
        let mask = draw_masks(n * draws, config, &mut masks, &device);
        let t = times_of(at, &device);
        let shape = x_0.dims();
        let eps = Tensor::from_data(TensorData::new(rng::normal(&mut noise, shape.iter().product()), shape), &device);
        let x_t = q_sample(x_0.clone(), &t, eps.clone());
        let target = schedule.prediction().target(x_0, eps, &t);
        let output = state.model.predict(x_t, t.time, z, mask, view, Some(dropout.random()));
        let errors = (output - target).square();
        let loss = match weights(train.loss_weight, schedule, at, &device) {
            Some(weights) => (errors * weights).mean(),
            None => errors.mean(),
        };
        let loss = penalty.into_iter().fold(loss, |loss, penalty| loss + penalty);
        total.add(&state.model, loss, n as f64 / batch as f64, scale.as_ref());
    }

    let loss = total.loss();
    // The loss scale divided out, global-norm clip, AdamW (the encoder at lr x ratio) and the EMA, in one pass over the parameters.
    let (model, grad_norm) = state.optim.step(lr, state.model, total.by_name, &mut state.ema, train);
    state.model = model;
    // The last work of a step: what the device counts it has done.
    state.tally.add();
    state.position.step = step;
    state.position.images += batch as u64;
    state.position.updates = state.optim.updates;
    let loss_scale = state.optim.loss_scale.clone();
    (state, Outcome { loss, grad_norm, loss_scale })
}

/// Each row `draws` times, one after the other: `[B, ..]` to `[B draws, ..]`.
fn repeated<const D: usize>(x: Tensor<D>, draws: usize) -> Tensor<D> {
    if draws == 1 {
        return x;
    }
    let mut shape = x.dims();
    let (batch, row) = (shape[0], shape[1..].iter().product::<usize>());
    shape[0] *= draws;
    x.reshape([batch, 1, row]).expand([batch, draws, row]).reshape(shape)
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
