//! One training step of SODA (arXiv 2311.17901).
//!
//! The encoder maps the view x_source to z. The target view x_0 is noised at a random timestep t,
//! x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, and the denoiser predicts eps (or v)
//! from x_t, t and z. The squared error trains both networks.

use super::checkpoint::State;
use super::decorrelation::decorrelation;
use super::masking::{Mask, draw_masks};
use super::optim::Gradients;
use crate::config::{Config, Precision, Sides, TrainConfig};
use crate::data::bytes_of;
use crate::data::loader::Batch;
use crate::diffusion::Schedule;
use crate::diffusion::forward::{draw_levels, q_sample, times_of};
use crate::diffusion::schedule::Level;
use crate::diffusion::weight::weights;
use crate::kernels::adamw;
use crate::kernels::precision::Precision as Compute;
use crate::rng::{self, Purpose, Stream};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use std::collections::VecDeque;

/// The two views of a batch on the device, images as `[B, 3, side, side]`.
pub struct Pair {
    /// The encoder's view, normalised.
    pub x_source: Tensor<4>,
    /// The denoiser's target view, in [-1, 1].
    pub x_0: Tensor<4>,
    /// The geometry of x_0 relative to x_source, `[B, 4]`, see
    /// [`Geometry::within`](crate::data::crop::Geometry::within); `None`: the same as x_source.
    pub view: Option<Tensor<2>>,
}

impl Pair {
    /// Uploads views from the host: NCHW values, images of `sides`.
    pub fn new(
        sides: Sides,
        source: Vec<f32>,
        target: Vec<f32>,
        view: Option<Vec<f32>>,
        device: &Device,
    ) -> Self {
        let batch = source.len() / bytes_of(sides.source);
        let images = |values, side| {
            Tensor::from_data(TensorData::new(values, [batch, 3, side, side]), device)
        };
        let view = view.map(|view| Tensor::from_data(TensorData::new(view, [batch, 4]), device));
        Self { x_source: images(source, sides.source), x_0: images(target, sides.target), view }
    }

    /// Uploads both views of `batch`, and with view conditioning their relative geometry.
    ///
    /// # Panics
    /// If the networks of `config` have other sides than its views, see [`Config::checked`].
    pub fn of_batch(batch: Batch, config: &Config, device: &Device) -> Self {
        assert_eq!(
            config.model.sides,
            config.data.sides(),
            "Config::checked makes the sides agree"
        );
        let view = config.model.unet.view_conditioning.then_some(batch.geometry);
        Self::new(config.model.sides, batch.source, batch.target, view, device)
    }

    /// Splits the batch into parts of these sizes.
    fn parts(self, sizes: &[usize]) -> Vec<Pair> {
        if sizes.len() == 1 {
            return vec![self];
        }
        let mut start = 0;
        let part = |n: &usize| {
            let from = start;
            start += n;
            Pair {
                x_source: self.x_source.clone().narrow(0, from, *n),
                x_0: self.x_0.clone().narrow(0, from, *n),
                view: self.view.clone().map(|view| view.narrow(0, from, *n)),
            }
        };
        sizes.iter().map(part).collect()
    }
}

/// The results of a step, still on the device.
pub struct Outcome {
    /// The mean squared error on eps (or v), weighted by noise level, plus the penalty on z if the
    /// recipe has one, `[1]`.
    pub loss: Tensor<1>,
    /// The L2 norm of all gradients before clipping, `[1]`.
    pub grad_norm: Tensor<1>,
    /// The state of dynamic loss scaling in mixed precision, `[4]`.
    pub loss_scale: Option<Tensor<1>>,
}

/// Takes training step number `step` (from 1): encode x_source, noise x_0 (`train.denoisings`
/// times), predict, compare, update. `lr` is the learning rate of the denoiser.
pub fn step(
    mut state: State,
    pair: Pair,
    schedule: &Schedule,
    config: &Config,
    step: u64,
    lr: f64,
) -> (State, Outcome) {
    let cut = Cut::whole(&config.train, pair.x_0.dims()[0]);
    let gradients = gradients(&mut state, pair, schedule, config, step, &cut);
    let norm = adamw::norm(gradients.by_name.values().cloned().collect());
    state.position.images += cut.batch as u64;
    update(state, gradients, norm, &|_| true, config, step, lr)
}

/// The parts of a batch that one process handles.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// Sizes of the parts that come before its own, in order.
    pub before: Vec<usize>,
    /// Sizes of its own parts.
    pub own: Vec<usize>,
    /// Number of images in the whole batch.
    pub batch: usize,
}

impl Cut {
    /// Takes the whole of a batch of `batch` images. (A trial step may have fewer than the recipe.)
    pub fn whole(train: &TrainConfig, batch: usize) -> Self {
        Self { before: Vec::new(), own: train.micro_batch.parts(batch), batch }
    }
}

/// Computes the loss and the gradients of a batch, or of the parts of it that `cut` names and
/// `pair` holds, each weighted by its share of the batch: encode, noise, predict, compare.
pub fn gradients(
    state: &mut State,
    pair: Pair,
    schedule: &Schedule,
    config: &Config,
    step: u64,
    cut: &Cut,
) -> Gradients {
    let device = pair.x_0.device();
    let train = &config.train;
    // The networks in training compute in the recipe's precision. The EMA, which is evaluated,
    // always computes in f32.
    state.model = state.model.clone().in_precision(match train.precision {
        Precision::F32 => Compute::F32,
        Precision::Mixed => Compute::F16,
    });
    let scale = state.optim.scale(train.precision, &device.clone().inner());
    // The random values, apart from the masks of dropout, don't depend on how the batch is cut or on
    // which process takes a part.
    let mut draws = Draws::new(schedule, config, step, cut.batch);
    cut.before.iter().for_each(|n| draws.skip(*n));
    let mut total = Gradients::default();
    for part in pair.parts(&cut.own) {
        let [n, ..] = part.x_0.dims();
        // z = encoder(x_source), optionally with a penalty on correlated dimensions.
        let z = state.model.encode(part.x_source);
        let penalty =
            (train.decorrelation > 0.0).then(|| decorrelation(z.clone()) * train.decorrelation);
        // One z serves all denoisings of its image, each with its own t, eps and mask.
        let z = repeated(z, train.denoisings);
        let x_0 = repeated(part.x_0, train.denoisings);
        let view = part.view.map(|view| repeated(view, train.denoisings));
        // x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps.
        let Draw { levels, mask, eps, dropout } = draws.next(n);
        let t = times_of(&levels, &device);
        let eps = Tensor::from_data(TensorData::new(eps, x_0.dims()), &device);
        let x_t = q_sample(x_0.clone(), &t, eps.clone());
        // The denoiser sees x_t, t and the masked z, and predicts the target: eps or v.
        let target = schedule.prediction().target(x_0, eps, &t);
        let output = state.model.predict(x_t, t.time, z, mask.tensor(&device), view, Some(dropout));
        let errors = (output - target).square();
        let loss = match weights(train.loss_weight, schedule, &levels, &device) {
            Some(weights) => (errors * weights).mean(),
            None => errors.mean(),
        };
        let loss = penalty.into_iter().fold(loss, |loss, penalty| loss + penalty);
        total.add(&state.model, loss, n as f64 / cut.batch as f64, scale.as_ref());
    }
    total
}

/// Divides out the loss scale, clips by the global norm, and updates by AdamW (the encoder at
/// lr x ratio) and the EMA, in one pass over the parameters that are `mine`. `norm` `[1]` is the
/// norm of the gradients of all parameters.
pub fn update(
    mut state: State,
    gradients: Gradients,
    norm: Tensor<1>,
    mine: &dyn Fn(&str) -> bool,
    config: &Config,
    step: u64,
    lr: f64,
) -> (State, Outcome) {
    let loss = gradients.loss();
    let train = &config.train;
    let (model, grad_norm) =
        state.optim.update(lr, state.model, (gradients.by_name, norm), mine, &mut state.ema, train);
    state.model = model;
    // The last kernel of a step: a device that has counted it has done the step.
    state.tally.add();
    state.position.step = step;
    state.position.updates = state.optim.updates;
    let loss_scale = state.optim.loss_scale.clone();
    (state, Outcome { loss, grad_norm, loss_scale })
}

/// The random values of a step.
struct Draws<'a> {
    config: &'a Config,
    levels: VecDeque<Level>,
    masks: Stream,
    noise: Stream,
    dropout: Stream,
}

/// The random values of a part of a batch: `train.denoisings` of each for every image.
struct Draw {
    levels: Vec<Level>,
    mask: Mask,
    /// Values of `[n * denoisings, 3, side, side]`.
    eps: Vec<f32>,
    dropout: u64,
}

impl<'a> Draws<'a> {
    fn new(schedule: &Schedule, config: &'a Config, step: u64, batch: usize) -> Self {
        let train = &config.train;
        let [masks, mut times, noise, dropout] =
            [Purpose::Masks, Purpose::Time, Purpose::Noise, Purpose::Dropout]
                .map(|purpose| rng::stream(config.seed, purpose, step));
        let levels =
            draw_levels(schedule, [batch, train.denoisings], train.stratified_t, &mut times);
        Self { config, levels: levels.into(), masks, noise, dropout }
    }

    /// Samples the values of the next `n` images, which form one part.
    fn next(&mut self, n: usize) -> Draw {
        let count = n * self.config.train.denoisings;
        Draw {
            levels: self.levels.drain(..count).collect(),
            mask: draw_masks(count, self.config, &mut self.masks),
            eps: rng::normal(&mut self.noise, count * bytes_of(self.config.model.sides.target)),
            dropout: self.dropout.random(),
        }
    }

    /// Skips the values of the next `n` images, a part that another process takes.
    fn skip(&mut self, n: usize) {
        drop(self.next(n));
    }
}

/// Repeats each row `draws` times in succession: `[B, ..]` to `[B * draws, ..]`.
fn repeated<const D: usize>(x: Tensor<D>, draws: usize) -> Tensor<D> {
    if draws == 1 {
        return x;
    }
    let mut shape = x.dims();
    let (batch, row) = (shape[0], shape[1..].iter().product::<usize>());
    shape[0] *= draws;
    x.reshape([batch, 1, row]).expand([batch, draws, row]).reshape(shape)
}
