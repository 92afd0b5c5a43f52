//! Batch normalisation, with ReLU where it follows: on the CPU backend our own kernel on NHWC memory, on wgpu devices
//! Burn's operation.
//!
//! y = relu(gamma * (x - mean) / sqrt(var + eps) + beta), mean and (biased) var over batch and pixels in training, the
//! running ones in inference.

mod autodiff;
mod cpu;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, backend_extension};
use burn::nn::BatchNorm;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

/// Applies `norm` to `x` `[B, C, H, W]`, then ReLU if `with_relu`. On an autodiff device, unless `norm` is frozen, batch
/// statistics are used and the running ones updated (with the unbiased variance, as PyTorch does).
pub fn batch_norm(norm: &BatchNorm, x: Tensor<4>, with_relu: bool) -> Tensor<4> {
    let (device, training) = (x.device(), norm.training.is_enabled());
    let on_cpu = device.clone().inner() == Device::flex();
    if !on_cpu || (device.is_autodiff() && !training) {
        return reference(norm, x, with_relu);
    }
    let options = Options { eps: norm.epsilon as f32, relu: with_relu };
    if !device.is_autodiff() {
        let statistics = Tensor::cat(vec![norm.running_mean.value(), norm.running_var.value()], 0);
        return Tensor::from_dispatch(<Dispatch as BatchNormOp>::normalise(
            x.into_dispatch(),
            statistics.into_dispatch(),
            norm.gamma.val().into_dispatch(),
            norm.beta.val().into_dispatch(),
            options,
        ));
    }
    let [b, c, h, w] = x.dims();
    let (y, statistics) = <Dispatch as BatchNormOp>::train(
        x.into_dispatch(),
        norm.gamma.val().into_dispatch(),
        norm.beta.val().into_dispatch(),
        options,
    );
    let statistics: Tensor<1> = Tensor::from_dispatch(statistics);
    let n = (b * h * w) as f64;
    let update = |running: Tensor<1>, new: Tensor<1>| running * (1.0 - norm.momentum) + new.detach() * norm.momentum;
    let mean = update(norm.running_mean.value_sync(), statistics.clone().narrow(0, 0, c));
    let variance = statistics.narrow(0, c, c) * (n / (n - 1.0).max(1.0));
    let variance = update(norm.running_var.value_sync(), variance);
    norm.running_mean.update(mean.detach());
    norm.running_var.update(variance.detach());
    Tensor::from_dispatch(y)
}

/// Burn's own operations: the oracle of the CPU kernel.
pub fn reference(norm: &BatchNorm, x: Tensor<4>, with_relu: bool) -> Tensor<4> {
    let y = norm.forward(x);
    if with_relu { relu(y) } else { y }
}

/// The constants of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Added to the variance.
    pub eps: f32,
    /// Whether ReLU follows.
    pub relu: bool,
}

/// The operations on the CPU backend.
#[backend_extension(Autodiff, Flex)]
pub trait BatchNormOp: burn::backend::Backend {
    /// By the batch's statistics. Returns the result and `[2C]`: mean, then biased variance (no gradients flow into those).
    fn train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// By given `statistics` `[2C]`; without gradients.
    fn normalise(
        x: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self>;
}

/// Gradients of x, gamma and beta.
pub(crate) trait BatchNormGradients: burn::backend::Backend {
    fn gradients(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> [FloatTensor<Self>; 3];
}
