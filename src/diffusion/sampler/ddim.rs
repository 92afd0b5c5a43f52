//! DDIM (Song et al. 2021).

use super::{Schedule, step_noise, timesteps};
use burn::tensor::Tensor;

/// Settings of [`ddim`].
#[derive(Clone, Copy, Debug)]
pub struct Ddim {
    /// Number of evaluations of predict.
    pub steps: usize,
    /// Scale of the added noise: 0 is deterministic, 1 has DDPM's variance.
    pub eta: f64,
    /// Whether to clip the predicted x_0 to [-1, 1].
    pub clip_x0: bool,
    /// Seed of the noise that is added if eta > 0.
    pub seed: u64,
}

/// Samples by DDIM (Song et al. 2021, equation 12) over [`timesteps`]: from `x_T`
/// `[B, 3, side, side]` to x_0.
pub fn ddim(
    schedule: &Schedule,
    x_t: Tensor<4>,
    settings: Ddim,
    predict: impl FnMut(Tensor<4>, usize) -> Tensor<4>,
) -> Tensor<4> {
    over(&timesteps(schedule, settings.steps), schedule, x_t, settings, predict)
}

/// Runs [`ddim`] over `times`.
pub(super) fn over(
    times: &[usize],
    schedule: &Schedule,
    x_t: Tensor<4>,
    settings: Ddim,
    mut predict: impl FnMut(Tensor<4>, usize) -> Tensor<4>,
) -> Tensor<4> {
    let mut x = x_t;
    for (i, &t) in times.iter().enumerate() {
        let next = times.get(i + 1).copied().unwrap_or(0);
        let (a, a_next) = (schedule.alpha_bar(t), schedule.alpha_bar(next));
        let output = predict(x.clone(), t);
        let x_0 = schedule.prediction().x_0(&x, output.clone(), a, settings.clip_x0);
        let eps = if settings.clip_x0 {
            // The noise that is consistent with the clipped image.
            (x - x_0.clone() * a.sqrt()) / (1.0 - a).sqrt()
        } else {
            schedule.prediction().eps(&x, output, a)
        };
        let sigma =
            settings.eta * ((1.0 - a_next) / (1.0 - a) * (1.0 - a / a_next)).max(0.0).sqrt();
        x = x_0 * a_next.sqrt() + eps * (1.0 - a_next - sigma * sigma).max(0.0).sqrt();
        if sigma > 0.0 {
            x = x.clone() + step_noise(&x, settings.seed, t) * sigma;
        }
    }
    x
}
