//! The time embedding.

use crate::kernels::linear::dense;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData, activation::silu};

/// t / T in (0, 1] to a vector: sinusoids, then Linear, SiLU, Linear.
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
    /// `sinusoids` (even) sines and cosines of `scale` * t / T, `dim` outputs.
    pub fn new(sinusoids: usize, dim: usize, scale: f32, device: &Device) -> Self {
        Self {
            linear1: LinearConfig::new(sinusoids, dim).init(device),
            linear2: LinearConfig::new(dim, dim).init(device),
            frequencies: sinusoids / 2,
            scale,
        }
    }

    /// `t` `[B]` in (0, 1] to `[B, dim]`.
    pub fn forward(&self, t: Tensor<1>) -> Tensor<2> {
        let angles =
            t.clone().unsqueeze_dim::<2>(1) * self.scale * Tensor::<2>::from_data(self.angular_frequencies(), &t.device());
        let waves = Tensor::cat(vec![angles.clone().sin(), angles.cos()], 1);
        dense(&self.linear2, silu(dense(&self.linear1, waves)))
    }

    /// 10000^(-i / (n - 1)) for i in 0..n, as `[1, n]`.
    fn angular_frequencies(&self) -> TensorData {
        let n = self.frequencies;
        let step = -(10_000f64.ln()) / (n.max(2) - 1) as f64;
        let values: Vec<f32> = (0..n).map(|i| (step * i as f64).exp() as f32).collect();
        TensorData::new(values, [1, n])
    }
}
