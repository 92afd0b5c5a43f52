//! Batch normalisation, with the residual connection and the ReLU that may follow it, over NHWC
//! memory: WGSL kernels on wgpu devices, hand-written loops on the CPU backend.
//!
//! y = relu(gamma * (x - mean) / sqrt(var + eps) + beta + residual), where mean and (biased) var
//! are those over batch and pixels in training, and the running statistics in inference.
//!
//! reference.rs implements the same in plain tensor operations; the tests check that all
//! implementations agree in value and in every gradient.

mod autodiff;
mod cases;
mod cpu;
mod inputs;
mod reference;
mod running;
mod wgsl;

pub use cases::BatchNormOperation;
pub use inputs::{
    BatchNormGradients, BatchNormInputs, BatchNormParameters, Options, RunningInputs, Statistics,
};
pub use running::{Pending, Running, put_off};

use crate::kernels::choice::references;
use crate::kernels::operand::Optional;
use crate::kernels::work::Work;
use crate::kernels::{plan, precision};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::nn;
use burn::tensor::{Tensor, assert_shape};

/// The operation on a backend; the default implementation is the reference.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait BatchNorm: Backend {
    /// Computes [`batch_norm`]. Returns the result `[B, C, H, W]` and the statistics `[2C]`,
    /// through which no gradients flow.
    fn forward(
        #[extension_type] inputs: BatchNormInputs<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::forward(inputs)
    }

    /// Computes the gradients of a call that used the batch's statistics, `statistics` `[2C]`, from
    /// `dy` `[B, C, H, W]`, the gradient of the result. `y`, the result, is given if there was a
    /// residual; it tells where the ReLU passes the gradient.
    fn backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        #[extension_type] y: Optional<Self>,
        statistics: FloatTensor<Self>,
        #[extension_type] parameters: BatchNormParameters<Self>,
    ) -> BatchNormGradients<Self> {
        let _ = statistics;
        reference::backward(dy, x, y, parameters)
    }
}

/// Applies `norm` to `x` `[B, C, H, W]`, adds `residual` (of the same shape), then applies a ReLU
/// if `with_relu`. On an autodiff device, unless `norm` is frozen, it uses the batch's statistics
/// and updates the running ones (with the unbiased variance, as PyTorch does).
///
/// # Panics
/// If `residual` has another shape.
pub fn batch_norm(
    norm: &nn::BatchNorm,
    x: Tensor<4>,
    residual: Option<Tensor<4>>,
    with_relu: bool,
) -> Tensor<4> {
    let device = x.device();
    let [b, c, h, w] = x.dims();
    if let Some(residual) = &residual {
        assert_shape!(residual, [b, c, h, w]);
    }
    let learns = device.is_autodiff() && norm.training.is_enabled();
    let given = || {
        let parts = [norm.running_mean.value(), norm.running_var.value()];
        let both = Tensor::cat(parts.to_vec(), 0).to_device(&device);
        plan::joined(&both, &parts);
        both.into_dispatch()
    };
    let inputs = BatchNormInputs {
        x: x.into_dispatch(),
        residual: Optional::new(residual.map(Tensor::into_dispatch)),
        parameters: BatchNormParameters {
            statistics: if learns { Statistics::OfBatch } else { Statistics::Given(given()) },
            gamma: norm.gamma.val().into_dispatch(),
            beta: norm.beta.val().into_dispatch(),
            options: Options { eps: norm.epsilon as f32, relu: with_relu },
        },
    };
    let (y, statistics) = if references() {
        reference::forward(inputs)
    } else {
        <Dispatch as BatchNorm>::forward(inputs)
    };
    if learns {
        running::update(norm, Tensor::from_dispatch(statistics), b * h * w);
    }
    precision::map(Tensor::from_dispatch(y))
}

/// Returns the work of the forward pass on `[B, C, H, W]`, which reads x and writes the result.
pub fn forward_work(shape: [usize; 4]) -> Work {
    Work::floats(&[2 * shape.iter().product::<usize>()])
}

/// Returns the work of the backward pass on `[B, C, H, W]`, which reads x and the gradient of the
/// result and writes the gradient of x.
pub fn backward_work(shape: [usize; 4]) -> Work {
    Work::floats(&[3 * shape.iter().product::<usize>()])
}
