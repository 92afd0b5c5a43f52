//! Batch normalisation, with the residual connection and the ReLU that may follow it, on NHWC memory: WGSL kernels on wgpu
//! devices, our own loops on the CPU backend.
//!
//! y = relu(gamma * (x - mean) / sqrt(var + eps) + beta + residual), mean and (biased) var over batch and pixels in training,
//! the running ones in inference.

mod autodiff;
mod cpu;
mod running;
pub mod wgsl;

use crate::kernels::choice::{cpu_kernels, references};
use crate::kernels::layout;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, backend_extension};
use burn::nn::BatchNorm;
use burn::tensor::activation::relu;
use burn::tensor::{Tensor, assert_shape};

/// Applies `norm` to `x` `[B, C, H, W]`, adds `residual` (of the same shape), then ReLU if `with_relu`. On an autodiff device,
/// unless `norm` is frozen, batch statistics are used and the running ones updated (with the unbiased variance, as PyTorch
/// does).
///
/// # Panics
/// If `residual` has another shape.
pub fn batch_norm(norm: &BatchNorm, x: Tensor<4>, residual: Option<Tensor<4>>, with_relu: bool) -> Tensor<4> {
    let (device, training) = (x.device(), norm.training.is_enabled());
    let [b, c, h, w] = x.dims();
    if let Some(residual) = &residual {
        assert_shape!(residual, [b, c, h, w]);
    }
    if references() || (device.is_autodiff() && !training) {
        return reference(norm, x, residual, with_relu);
    }
    let options = Options { eps: norm.epsilon as f32, relu: with_relu };
    let (x, residual) = (x.into_dispatch(), residual.map(Tensor::into_dispatch));
    let (gamma, beta) = (norm.gamma.val().into_dispatch(), norm.beta.val().into_dispatch());
    if !device.is_autodiff() {
        let statistics = Tensor::cat(vec![norm.running_mean.value(), norm.running_var.value()], 0).into_dispatch();
        return Tensor::from_dispatch(match residual {
            Some(residual) => <Dispatch as BatchNormOp>::normalise_add(x, residual, statistics, gamma, beta, options),
            None => <Dispatch as BatchNormOp>::normalise(x, statistics, gamma, beta, options),
        });
    }
    let (y, statistics) = match residual {
        Some(residual) => <Dispatch as BatchNormOp>::train_add(x, residual, gamma, beta, options),
        None => <Dispatch as BatchNormOp>::train(x, gamma, beta, options),
    };
    let statistics: Tensor<1> = Tensor::from_dispatch(statistics);
    let update = if cpu_kernels(&device) { running::update } else { running::update_wgsl };
    update(norm, statistics, b * h * w);
    Tensor::from_dispatch(y)
}

/// Burn's own operations: the oracle of the kernels.
pub fn reference(norm: &BatchNorm, x: Tensor<4>, residual: Option<Tensor<4>>, with_relu: bool) -> Tensor<4> {
    let y = layout::add(norm.forward(x), residual);
    if with_relu { relu(y.permute([0, 2, 3, 1])).permute([0, 3, 1, 2]) } else { y }
}

/// The constants of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Added to the variance.
    pub eps: f32,
    /// Whether ReLU follows.
    pub relu: bool,
}

/// The operations, routed to the backend of their tensors.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait BatchNormOp: burn::backend::Backend {
    /// By the batch's statistics. Returns the result and `[2C]`: mean, then biased variance (no gradients flow into those).
    fn train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// As [`train`](BatchNormOp::train), with a residual added before the ReLU.
    fn train_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// By the given statistics, `[2C]`.
    fn normalise(
        x: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self>;

    /// As [`normalise`](BatchNormOp::normalise), with a residual added before the ReLU.
    fn normalise_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self>;
}

/// The running statistics on wgpu devices.
#[backend_extension(Cube)]
pub trait RunningOp: burn::backend::Backend {
    /// Running `mean` and `variance` `[C]` after a batch with these `statistics` `[2C]`, whose variance times `unbiased` counts
    /// for the share `momentum`.
    fn running(
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        momentum: f32,
        unbiased: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// Gradients of one call.
pub(crate) struct Gradients<T> {
    pub x: T,
    pub residual: T,
    pub gamma: T,
    pub beta: T,
}

/// What a backend without autodiff implements for the gradients.
pub(crate) trait BatchNormGradients: burn::backend::Backend {
    /// `y`, the result, is given where a residual was added. `small`: the batch's statistics, gamma and beta.
    fn gradients(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        y: Option<FloatTensor<Self>>,
        small: [FloatTensor<Self>; 3],
        options: Options,
    ) -> Gradients<FloatTensor<Self>>;
}
