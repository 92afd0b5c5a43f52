//! What the denoiser predicts, eps or v, and the image and noise that follow from either.
//!
//! ```text
//! x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps
//! v   = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0       (Salimans and Ho 2022)
//! ```
//!
//! (x_t, v) is a rotation of (x_0, eps), so both are recovered from v without a division, even at
//! pure noise, where x_0 = -v.

use super::forward::Times;
use crate::config::Prediction;
use burn::tensor::Tensor;

impl Prediction {
    /// Returns the training target of the denoiser; images are `[B, 3, side, side]`.
    pub fn target(self, x_0: Tensor<4>, eps: Tensor<4>, times: &Times) -> Tensor<4> {
        match self {
            Self::Eps => eps,
            Self::V => eps * times.signal.clone() - x_0 * times.noise.clone(),
        }
    }

    /// Returns the x_0 that `output` predicts for `x_t` at `alpha_bar`, clipped to [-1, 1] if
    /// `clip`.
    pub fn x_0(self, x_t: &Tensor<4>, output: Tensor<4>, alpha_bar: f64, clip: bool) -> Tensor<4> {
        let sigma = (1.0 - alpha_bar).sqrt();
        let x_0 = match self {
            Self::Eps => (x_t.clone() - output * sigma) / alpha_bar.sqrt(),
            Self::V => x_t.clone() * alpha_bar.sqrt() - output * sigma,
        };
        if clip { x_0.clamp(-1.0, 1.0) } else { x_0 }
    }

    /// Returns the noise that `output` predicts in `x_t` at `alpha_bar`.
    pub fn eps(self, x_t: &Tensor<4>, output: Tensor<4>, alpha_bar: f64) -> Tensor<4> {
        match self {
            Self::Eps => output,
            Self::V => x_t.clone() * (1.0 - alpha_bar).sqrt() + output * alpha_bar.sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DiffusionConfig, Levels, ScheduleKind};
    use crate::diffusion::Schedule;
    use crate::diffusion::forward::{q_sample, times};
    use crate::diffusion::guidance::guided;
    use crate::rng::{self, Purpose};
    use burn::tensor::{Device, TensorData};

    fn images(index: u64) -> Tensor<4> {
        let values = rng::normal(&mut rng::stream(1, Purpose::Test, index), 2 * 3 * 16 * 16);
        Tensor::from_data(TensorData::new(values, [2, 3, 16, 16]), &Device::flex())
    }

    fn largest(x: Tensor<4>) -> f32 {
        let value = x.abs().max().into_scalar::<f32>();
        assert!(value.is_finite());
        value
    }

    fn schedule(prediction: Prediction) -> Schedule {
        let config = DiffusionConfig::new(ScheduleKind::InvertedCosine, 1000);
        Schedule::new(&DiffusionConfig { prediction, levels: Levels::Continuous, ..config })
    }

    #[test]
    fn the_image_and_the_noise_are_recovered_from_the_target() {
        for prediction in [Prediction::Eps, Prediction::V] {
            let schedule = schedule(prediction);
            for t in [1, 300, 999, 1000] {
                let at = times(&schedule, &[t, t], &Device::flex());
                let (x_0, eps, a) = (images(0), images(1), schedule.alpha_bar(t));
                let x_t = q_sample(x_0.clone(), &at, eps.clone());
                let target = prediction.target(x_0.clone(), eps.clone(), &at);
                let wrong = largest(prediction.x_0(&x_t, target.clone(), a, false) - x_0.clone());
                // Rounding error, which eps divides by sqrt(alpha_bar) >= 0.01.
                assert!(
                    wrong < if prediction == Prediction::V { 1e-5 } else { 1e-3 },
                    "{prediction:?} at {t}: {wrong}"
                );
                assert!(largest(prediction.eps(&x_t, target.clone(), a) - eps.clone()) < 1e-5);
                assert!(largest(prediction.x_0(&x_t, target.clone(), a, true)) <= 1.0);
                let another = largest(prediction.eps(&x_t, target * 0.9, a) - eps);
                assert!(
                    another > 1e-3 || a == 0.0,
                    "another output means another noise, except at pure noise"
                );
            }
        }
    }

    #[test]
    fn at_high_noise_an_error_of_v_keeps_its_size_and_one_of_eps_grows_a_hundredfold() {
        let (x_t, output, error) = (images(0), images(1), images(2) * 0.01);
        let moved = |prediction: Prediction, a| {
            let x_0 = |output| prediction.x_0(&x_t, output, a, false);
            largest(x_0(output.clone() + error.clone()) - x_0(output.clone()))
                / largest(error.clone())
        };
        assert!((moved(Prediction::V, 1e-4) - 1.0).abs() < 1e-2);
        assert!((moved(Prediction::Eps, 1e-4) - 100.0).abs() < 1.0);
        // In pure noise x_0 is -v and all of x_t is noise.
        assert_eq!(
            largest(Prediction::V.x_0(&x_t, output.clone(), 0.0, false) + output.clone()),
            0.0
        );
        assert_eq!(largest(Prediction::V.eps(&x_t, output, 0.0) - x_t), 0.0);
    }

    #[test]
    fn guidance_of_v_is_guidance_of_eps() {
        let (x_t, a) = (images(0), 0.3);
        let eps = |v: Tensor<4>| Prediction::V.eps(&x_t, v, a);
        let (with, without) = (images(1), images(2));
        let of_v = eps(guided(with.clone(), without.clone(), 1.5));
        let of_eps = guided(eps(with), eps(without), 1.5);
        assert!(largest(of_v.clone() - of_eps) < 1e-5);
        assert!(largest(of_v - eps(images(1))) > 0.1, "guidance changes the prediction");
    }
}
