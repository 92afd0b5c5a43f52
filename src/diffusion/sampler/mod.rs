//! Samplers: free functions over a closure `eps_fn(x_t, t)` that predicts the noise.

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

/// Settings of [`sample`].
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Which sampler.
    pub kind: Sampler,
    /// Evaluations of eps_fn.
    pub steps: usize,
    /// The noise level t that the image to begin with is at; none: it is x_T.
    pub from: Option<usize>,
    /// DDIM's eta; the other samplers have none and ignore it.
    pub eta: f64,
    /// Clip the predicted x_0 to [-1, 1].
    pub clip_x0: bool,
    /// Seed of the noise that DDPM and DDIM with eta > 0 add.
    pub seed: u64,
}

/// From `x_t` `[B, 3, side, side]` to x_0 by the sampler that `settings` name. Which times it takes is the sampler's own where that
/// is x_T; from another level on all take [`log_snr_timesteps_from`] there: uniform ones leave out the low noise in which detail is
/// made.
pub fn sample(
    schedule: &Schedule,
    x_t: Tensor<4>,
    settings: Sampling,
    eps_fn: impl FnMut(Tensor<4>, usize) -> Tensor<4>,
) -> Tensor<4> {
    let Sampling { kind, steps, from, eta, clip_x0, seed } = settings;
    let times = match (from, kind) {
        (Some(from), _) => log_snr_timesteps_from(schedule, from, steps),
        (None, Sampler::Ddim | Sampler::Ddpm) => timesteps(schedule, steps),
        (None, Sampler::DpmSolver) => log_snr_timesteps(schedule, steps),
    };
    match kind {
        Sampler::Ddim => ddim::over(&times, schedule, x_t, Ddim { steps, eta, clip_x0, seed }, eps_fn),
        Sampler::Ddpm => ddpm::over(&times, schedule, x_t, Ddpm { steps, clip_x0, seed }, eps_fn),
        Sampler::DpmSolver => dpm_solver::over(&times, schedule, x_t, clip_x0, eps_fn),
    }
}

/// `steps` times t in descending order, the middles of as many equal parts of 0..=T; the step after the last one is t = 0.
///
/// Not from T on: there alpha_bar is (almost) 0 for the cosine schedules, so that the first x_0 would be a guess multiplied by
/// 1 / sqrt(alpha_bar_T) <= 100, and a long step would make it part of the image.
pub fn timesteps(schedule: &Schedule, steps: usize) -> Vec<usize> {
    let n = schedule.steps();
    let steps = steps.clamp(1, n);
    (0..steps).map(|i| n - (2 * i + 1) * n / (2 * steps)).collect()
}

/// x_0 = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t), clipped to [-1, 1] if `clip`.
fn predicted_x_0(x_t: &Tensor<4>, eps: Tensor<4>, alpha_bar: f64, clip: bool) -> Tensor<4> {
    let x_0 = (x_t.clone() - eps * (1.0 - alpha_bar).sqrt()) / alpha_bar.sqrt();
    if clip { x_0.clamp(-1.0, 1.0) } else { x_0 }
}

/// The noise that the step away from `t` adds, shaped as `x`; each t has a stream of its own.
fn step_noise(x: &Tensor<4>, seed: u64, t: usize) -> Tensor<4> {
    let shape = x.dims();
    let noise = rng::normal(&mut rng::stream(seed, Purpose::Sampling, t as u64), shape.iter().product());
    Tensor::from_data(TensorData::new(noise, shape), &x.device())
}

#[cfg(test)]
mod tests;
