//! DDIM inversion: the noise from which DDIM returns to an image.

use super::{Schedule, timesteps};
use burn::tensor::Tensor;

/// Settings of [`ddim_inversion`].
#[derive(Clone, Copy, Debug)]
pub struct Inversion {
    /// Number of steps, the same as in the [`ddim`](super::ddim()) that decodes.
    pub steps: usize,
    /// Additional evaluations of predict in each step; 0 is the usual choice.
    pub refinements: usize,
}

/// Maps the image `x_0` `[B, 3, side, side]` to an `x_T` from which [`ddim`](super::ddim()) with as
/// many steps, eta 0 and no clipping returns to it: DDIM (Song et al. 2021, equation 12) run
/// upwards over the same timesteps. Takes steps * (1 + refinements) evaluations of predict.
///
/// The step down from t to s uses eps(x_t, t), so the step up has to solve x_t = step(x_s,
/// eps(x_t, t)). It evaluates eps at t, at the x_t that the previous eps leads to, instead of at
/// (x_s, s) as is common. This takes as many evaluations, needs none at t = 0, for which the
/// network is not trained, and makes the round trip second order in the step length. Every
/// refinement repeats this from the new x_t (fixed-point iteration); it converges where the step is
/// short relative to the curvature of the data's density, and may do harm where it isn't.
pub fn ddim_inversion(
    schedule: &Schedule,
    x_0: Tensor<4>,
    settings: Inversion,
    mut predict: impl FnMut(Tensor<4>, usize) -> Tensor<4>,
) -> Tensor<4> {
    let mut eps_at = |x_t: Tensor<4>, t| {
        let output = predict(x_t.clone(), t);
        schedule.prediction().eps(&x_t, output, schedule.alpha_bar(t))
    };
    let (mut x, mut s) = (x_0, 0);
    let mut last_eps: Option<Tensor<4>> = None;
    for &t in timesteps(schedule, settings.steps).iter().rev() {
        let (a_s, a_t) = (schedule.alpha_bar(s), schedule.alpha_bar(t));
        let of_x = (a_t / a_s).sqrt();
        let of_eps = (1.0 - a_t).sqrt() - of_x * (1.0 - a_s).sqrt();
        let step = |eps: Tensor<4>| x.clone() * of_x + eps * of_eps;
        let mut x_t = last_eps.map_or_else(|| x.clone(), step);
        let mut eps = eps_at(x_t, t);
        for _ in 0..settings.refinements {
            x_t = step(eps);
            eps = eps_at(x_t, t);
        }
        x = step(eps.clone());
        (last_eps, s) = (Some(eps), t);
    }
    x
}
