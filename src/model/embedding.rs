//! The time embedding.

use super::constant::constant;
use crate::kernels::linear::dense;
use crate::kernels::silu::silu;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use std::f64::consts::TAU;

/// 2 pi rounded to so few bits that integer multiples of it are exact.
const ABOUT_A_TURN: f64 = 6.28125;

/// Returns the sines and then the cosines of `angles` `[B, N]` in radians, up to a few thousand:
/// `[B, 2 N]`.
pub(crate) fn waves(angles: Tensor<2>) -> Tensor<2> {
    Tensor::cat(sin_cos(angles).into(), 1)
}

/// Returns the sines and the cosines of `angles` in radians, up to a few thousand.
///
/// Whole turns are subtracted first, because the sines of large angles differ between drivers:
/// Vulkan guarantees their accuracy only from -pi to pi.
pub(crate) fn sin_cos<const D: usize>(angles: Tensor<D>) -> [Tensor<D>; 2] {
    let turns = (angles.clone() / TAU).round();
    let rest = angles - turns.clone() * ABOUT_A_TURN - turns * (TAU - ABOUT_A_TURN);
    [rest.clone().sin(), rest.cos()]
}

/// The time embedding, t / T in (0, 1] to a vector: sinusoids, then Linear, SiLU, Linear.
#[derive(Module, Debug)]
pub struct TimeEmbedding {
    linear1: Linear,
    linear2: Linear,
    #[module(skip)]
    frequencies: usize,
    #[module(skip)]
    scale: f32,
}

impl TimeEmbedding {
    /// Creates an embedding with `sinusoids` (an even number of) sines and cosines of
    /// `scale` * t / T and `dim` outputs.
    pub fn new(sinusoids: usize, dim: usize, scale: f32, device: &Device) -> Self {
        Self {
            linear1: LinearConfig::new(sinusoids, dim).init(device),
            linear2: LinearConfig::new(dim, dim).init(device),
            frequencies: sinusoids / 2,
            scale,
        }
    }

    /// Returns the sinusoids of `t` `[B]` in (0, 1]: `[B, sinusoids]`.
    pub fn waves(&self, t: Tensor<1>) -> Tensor<2> {
        let frequencies = constant(self.angular_frequencies(), 1, &t.device());
        waves(t.unsqueeze_dim::<2>(1) * self.scale * frequencies)
    }

    /// Maps the output of [`waves`](Self::waves) to `[B, dim]`.
    pub fn forward(&self, waves: Tensor<2>) -> Tensor<2> {
        dense(&self.linear2, silu(dense(&self.linear1, waves, None)), None)
    }

    /// Returns 10000^(-i / (n - 1)) for i in 0..n.
    fn angular_frequencies(&self) -> Vec<f32> {
        let n = self.frequencies;
        let step = -(10_000f64.ln()) / (n.max(2) - 1) as f64;
        (0..n).map(|i| (step * i as f64).exp() as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_match_f64_up_to_a_thousand_radians() {
        let angles: Vec<f32> = (0..4000).map(|i| i as f32 * 0.250_61 - 1.0).collect();
        let got = waves(Tensor::<1>::from_data(angles.as_slice(), &Device::flex()).unsqueeze())
            .into_data();
        let got: Vec<f32> = got.try_into_vec().expect("f32");
        let want = angles
            .iter()
            .map(|a| f64::from(*a).sin())
            .chain(angles.iter().map(|a| f64::from(*a).cos()));
        // About half a unit in the last place of 6.28; without the second part of the turn the
        // error would be 0.3.
        let worst = got
            .iter()
            .zip(want)
            .map(|(got, want)| (f64::from(*got) - want).abs())
            .fold(0.0, f64::max);
        assert!(got.iter().all(|v| v.is_finite()) && worst < 2e-6, "{worst}");
    }
}
