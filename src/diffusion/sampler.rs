//! Samplers: free functions over a closure `eps_fn(x_t, t)` that predicts the noise.

use super::Schedule;
use crate::rng::{self, Purpose};
use burn::tensor::{Tensor, TensorData};

/// `steps` times t in descending order, the middles of as many equal parts of 0..=T; the step after the last one is t = 0.
///
/// Not from T on: there alpha_bar is (almost) 0 for the cosine schedules, so that the first x_0 would be a guess multiplied by
/// 1 / sqrt(alpha_bar_T) <= 100, and a long step would make it part of the image.
pub fn timesteps(schedule: &Schedule, steps: usize) -> Vec<usize> {
    let n = schedule.steps();
    let steps = steps.clamp(1, n);
    (0..steps).map(|i| n - (2 * i + 1) * n / (2 * steps)).collect()
}

/// Settings of [`ddim`].
#[derive(Clone, Copy, Debug)]
pub struct Ddim {
    /// Evaluations of eps_fn.
    pub steps: usize,
    /// 0 is deterministic, 1 has DDPM's variance.
    pub eta: f64,
    /// Clip the predicted x_0 to [-1, 1].
    pub clip_x0: bool,
    /// Seed of the noise that eta > 0 adds.
    pub seed: u64,
}

/// DDIM (Song et al. 2021, equation 12): from `x_T` `[B, 3, 32, 32]` to x_0.
pub fn ddim(
    schedule: &Schedule,
    x_t: Tensor<4>,
    settings: Ddim,
    mut eps_fn: impl FnMut(Tensor<4>, usize) -> Tensor<4>,
) -> Tensor<4> {
    let times = timesteps(schedule, settings.steps);
    let mut x = x_t;
    for (i, &t) in times.iter().enumerate() {
        let next = times.get(i + 1).copied().unwrap_or(0);
        let (a, a_next) = (schedule.alpha_bar(t), schedule.alpha_bar(next));
        let eps = eps_fn(x.clone(), t);
        let mut x_0 = (x.clone() - eps.clone() * (1.0 - a).sqrt()) / a.sqrt();
        let eps = if settings.clip_x0 {
            x_0 = x_0.clamp(-1.0, 1.0);
            // The noise that goes with the clipped image.
            (x - x_0.clone() * a.sqrt()) / (1.0 - a).sqrt()
        } else {
            eps
        };
        let sigma = settings.eta * ((1.0 - a_next) / (1.0 - a) * (1.0 - a / a_next)).max(0.0).sqrt();
        x = x_0 * a_next.sqrt() + eps * (1.0 - a_next - sigma * sigma).max(0.0).sqrt();
        if sigma > 0.0 {
            let shape = x.dims();
            let noise = rng::normal(&mut rng::stream(settings.seed, Purpose::Sampling, t as u64), shape.iter().product());
            x = x.clone() + Tensor::<4>::from_data(TensorData::new(noise, shape), &x.device()) * sigma;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DiffusionConfig, ScheduleKind};
    use crate::diffusion::{forward, guidance};
    use burn::tensor::Device;

    fn images(index: u64) -> Tensor<4> {
        let values = rng::normal(&mut rng::stream(1, Purpose::Test, index), 2 * 3 * 32 * 32);
        Tensor::from_data(TensorData::new(values, [2, 3, 32, 32]), &Device::flex())
    }

    fn largest(x: Tensor<4>) -> f32 {
        let data = x.abs().max().into_data().try_to_vec::<f32>().expect("f32");
        assert!(data[0].is_finite());
        data[0]
    }

    fn exact(schedule: &Schedule, x_0: &Tensor<4>, x: Tensor<4>, t: usize) -> Tensor<4> {
        let a = schedule.alpha_bar(t);
        (x - x_0.clone() * a.sqrt()) / (1.0 - a).sqrt()
    }

    #[test]
    fn ddim_returns_x_0_for_the_exact_noise_whatever_eta_and_schedule() {
        let x_0 = images(0).clamp(-1.0, 1.0);
        for schedule in [ScheduleKind::Linear, ScheduleKind::Cosine, ScheduleKind::InvertedCosine] {
            let schedule = Schedule::new(&DiffusionConfig { schedule, steps: 1000 });
            for (steps, eta, clip_x0) in
                [(1, 0.0, false), (10, 0.0, true), (100, 0.0, false), (100, 1.0, false), (1000, 0.5, true)]
            {
                let out = ddim(&schedule, images(1), Ddim { steps, eta, clip_x0, seed: 3 }, |x, t| exact(&schedule, &x_0, x, t));
                // f32 rounding, amplified by 1 / sqrt(alpha_bar_T) <= 158 in the first step.
                let error = largest(out - x_0.clone());
                assert!(error < 2e-4, "{steps} steps, eta {eta}: {error}");
            }
        }
    }

    #[test]
    fn ddim_misses_x_0_for_a_wrong_noise() {
        let x_0 = images(0).clamp(-1.0, 1.0);
        let schedule = Schedule::new(&DiffusionConfig { schedule: ScheduleKind::Linear, steps: 1000 });
        let settings = Ddim { steps: 20, eta: 0.0, clip_x0: false, seed: 3 };
        let out = ddim(&schedule, images(1), settings, |x, t| exact(&schedule, &x_0, x, t) * 0.9);
        assert!(largest(out - x_0) > 0.05);
    }

    #[test]
    fn timesteps_are_the_middles_of_equal_parts() {
        let schedule = Schedule::new(&DiffusionConfig { schedule: ScheduleKind::Linear, steps: 1000 });
        assert_eq!(timesteps(&schedule, 4), [875, 625, 375, 125]);
        assert_eq!(timesteps(&schedule, 1000), (1..=1000).rev().collect::<Vec<_>>());
        assert_eq!(timesteps(&schedule, 3), [834, 500, 167]);
        assert_eq!(timesteps(&schedule, 1), [500]);
    }

    #[test]
    fn q_sample_has_the_stated_moments() {
        let schedule = Schedule::new(&DiffusionConfig { schedule: ScheduleKind::InvertedCosine, steps: 1000 });
        let times = forward::times(&schedule, &[500, 1000], &Device::flex());
        let x_t = forward::q_sample(Tensor::ones([2, 3, 32, 32], &Device::flex()), &times, images(0));
        let first = x_t.clone().narrow(0, 0, 1);
        let mean = first.clone().mean().into_scalar::<f32>();
        let deviation = (first - mean).square().mean().sqrt().into_scalar::<f32>();
        // Standard error of a mean over 3,072 pixels is 0.013.
        assert!((mean - 0.5f32.sqrt()).abs() < 0.065 && (deviation - 0.5f32.sqrt()).abs() < 0.05, "{mean} {deviation}");
    }

    #[test]
    fn guidance_weight_0_is_the_conditional_prediction() {
        assert_eq!(largest(guidance::guided(images(0), images(1), 0.0) - images(0)), 0.0);
        let w = guidance::guided(images(0), images(1), 1.0) - (images(0) * 2.0 - images(1));
        assert!(largest(w) < 1e-5);
    }
}
