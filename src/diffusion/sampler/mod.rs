//! Samplers: free functions over a closure `predict(x_t, t)` that returns what the schedule's
//! networks predict, eps or v.

mod ddim;
mod ddpm;
mod dpm_solver;
mod inversion;

pub use ddim::{Ddim, ddim};
pub use ddpm::{Ddpm, ddpm};
pub use dpm_solver::{DpmSolver, dpm_solver_pp_2m, log_snr_timesteps, log_snr_timesteps_from};
pub use inversion::{Inversion, ddim_inversion};

use super::Schedule;
use crate::config::Sampler;
use crate::rng::{self, Purpose};
use burn::tensor::{Tensor, TensorData};

/// What sampling starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// A random x_T.
    Noise,
    /// The x_T that [`ddim_inversion`] found with the same number of steps.
    Inverted,
    /// An image at the noise level t.
    Level(usize),
}

/// Settings of [`sample`].
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// The sampler.
    pub kind: Sampler,
    /// Number of evaluations of predict.
    pub steps: usize,
    /// What sampling starts from.
    pub from: Begin,
    /// DDIM's eta; the other samplers ignore it.
    pub eta: f64,
    /// Whether to clip the predicted x_0 to [-1, 1].
    pub clip_x0: bool,
    /// Seed of the noise that DDPM, and DDIM with eta > 0, add.
    pub seed: u64,
}

/// Samples x_0 from `x_t` `[B, 3, side, side]` with the sampler that `settings` name.
///
/// From x_T each sampler uses its own timesteps, preceded by t = T if the schedule [begins at pure
/// noise](Schedule::begins_at_pure_noise). From another level all samplers use
/// [`log_snr_timesteps_from`] it, because uniform timesteps leave out the low noise levels, where
/// detail is made.
pub fn sample(
    schedule: &Schedule,
    x_t: Tensor<4>,
    settings: Sampling,
    predict: impl FnMut(Tensor<4>, usize) -> Tensor<4>,
) -> Tensor<4> {
    let Sampling { kind, steps, from, eta, clip_x0, seed } = settings;
    let times = match (from, kind) {
        (Begin::Level(from), _) => log_snr_timesteps_from(schedule, from, steps),
        (Begin::Noise, _) if schedule.begins_at_pure_noise() => {
            from_pure_noise(schedule, kind, steps)
        }
        (_, Sampler::Ddim | Sampler::Ddpm) => timesteps(schedule, steps),
        (_, Sampler::DpmSolver) => log_snr_timesteps(schedule, steps),
    };
    match kind {
        Sampler::Ddim => {
            ddim::over(&times, schedule, x_t, Ddim { steps, eta, clip_x0, seed }, predict)
        }
        Sampler::Ddpm => ddpm::over(&times, schedule, x_t, Ddpm { steps, clip_x0, seed }, predict),
        Sampler::DpmSolver => dpm_solver::over(&times, schedule, x_t, clip_x0, predict),
    }
}

/// Returns `steps` timesteps in descending order, the midpoints of as many equal parts of 0..=T;
/// the last step goes to t = 0.
///
/// They don't start at T: there alpha_bar is (almost) 0 for the cosine schedules, so the first x_0
/// would be a guess multiplied by 1 / sqrt(alpha_bar_T) <= 100, and a long step would make it part
/// of the image.
pub fn timesteps(schedule: &Schedule, steps: usize) -> Vec<usize> {
    middles(schedule.steps(), steps)
}

/// Returns the midpoints of `steps` equal parts of 0..=`n`, in descending order.
fn middles(n: usize, steps: usize) -> Vec<usize> {
    let steps = steps.clamp(1, n);
    (0..steps).map(|i| n - (2 * i + 1) * n / (2 * steps)).collect()
}

/// Returns `steps` timesteps in descending order: T, then the sampler's own below it.
fn from_pure_noise(schedule: &Schedule, kind: Sampler, steps: usize) -> Vec<usize> {
    let (first, below) = (schedule.steps(), schedule.steps() - 1);
    let rest = match (steps.min(first) - 1, kind) {
        (0, _) => Vec::new(),
        (rest, Sampler::Ddim | Sampler::Ddpm) => middles(below, rest),
        (rest, Sampler::DpmSolver) => log_snr_timesteps_from(schedule, below, rest),
    };
    [vec![first], rest].concat()
}

/// Samples the noise that the step from `t` adds, in the shape of `x`; each t has its own stream.
fn step_noise(x: &Tensor<4>, seed: u64, t: usize) -> Tensor<4> {
    let shape = x.dims();
    let noise =
        rng::normal(&mut rng::stream(seed, Purpose::Sampling, t as u64), shape.iter().product());
    Tensor::from_data(TensorData::new(noise, shape), &x.device())
}

#[cfg(test)]
mod tests;
