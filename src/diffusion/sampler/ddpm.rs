//! DDPM's ancestral sampling (Ho et al. 2020).

use super::{Schedule, step_noise, timesteps};
use burn::tensor::Tensor;

/// Settings of [`ddpm`].
#[derive(Clone, Copy, Debug)]
pub struct Ddpm {
    /// Number of evaluations of predict; one per level of the schedule is the published algorithm.
    pub steps: usize,
    /// Whether to clip the predicted x_0 to [-1, 1].
    pub clip_x0: bool,
    /// Seed of the noise that is added in every step except the last.
    pub seed: u64,
}

/// Samples by ancestral sampling (Ho et al. 2020, algorithm 2) over [`timesteps`]: from `x_T`
/// `[B, 3, side, side]` to x_0.
///
/// Each step from t to the next time s of the chain samples the posterior q(x_s | x_t, x_0) at the
/// predicted x_0 (their equations 6 and 7, with alpha = alpha_bar_t / alpha_bar_s of the chain in
/// place of the alpha of a single level):
///
/// ```text
/// x_s = sqrt(alpha_bar_s) (1 - alpha) / (1 - alpha_bar_t) x_0
///       + sqrt(alpha) (1 - alpha_bar_s) / (1 - alpha_bar_t) x_t
///       + sqrt((1 - alpha) (1 - alpha_bar_s) / (1 - alpha_bar_t)) noise
/// ```
///
/// The last step, to the clean image, has no variance. [`ddim`](super::ddim()) with eta 1 samples
/// the same chain.
pub fn ddpm(
    schedule: &Schedule,
    x_t: Tensor<4>,
    settings: Ddpm,
    predict: impl FnMut(Tensor<4>, usize) -> Tensor<4>,
) -> Tensor<4> {
    over(&timesteps(schedule, settings.steps), schedule, x_t, settings, predict)
}

/// Runs [`ddpm`] over `times`.
pub(super) fn over(
    times: &[usize],
    schedule: &Schedule,
    x_t: Tensor<4>,
    settings: Ddpm,
    mut predict: impl FnMut(Tensor<4>, usize) -> Tensor<4>,
) -> Tensor<4> {
    let mut x = x_t;
    for (i, &t) in times.iter().enumerate() {
        let s = times.get(i + 1).copied().unwrap_or(0);
        let (a_t, a_s) = (schedule.alpha_bar(t), schedule.alpha_bar(s));
        let alpha = a_t / a_s;
        let output = predict(x.clone(), t);
        let x_0 = schedule.prediction().x_0(&x, output, a_t, settings.clip_x0);
        let (of_x_0, of_x_t) =
            (a_s.sqrt() * (1.0 - alpha) / (1.0 - a_t), alpha.sqrt() * (1.0 - a_s) / (1.0 - a_t));
        x = x_0 * of_x_0 + x * of_x_t;
        let variance = (1.0 - alpha) * (1.0 - a_s) / (1.0 - a_t);
        // Between two levels on the floor of alpha_bar the variance is 0.
        if variance > 0.0 {
            x = x.clone() + step_noise(&x, settings.seed, t) * variance.sqrt();
        }
    }
    x
}
