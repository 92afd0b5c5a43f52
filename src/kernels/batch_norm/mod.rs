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
mod reference;
mod running;
mod wgsl;

pub use cases::BatchNormOperation;
pub use running::{Pending, Running, RunningInputs, put_off};

use crate::kernels::choice::references;
use crate::kernels::operand::Optional;
use crate::kernels::plan;
use crate::kernels::precision;
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
use burn::nn;
use burn::tensor::{Tensor, assert_shape};

/// The constants of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The term added to the variance.
    pub eps: f32,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// The statistics that normalise x: mean, then biased variance of each channel.
#[derive(Clone, Debug, ExtensionType)]
pub enum Statistics<B: Backend> {
    /// The statistics of the batch.
    OfBatch,
    /// These statistics, `[2C]`.
    Given(FloatTensor<B>),
}

impl<B: Backend> Statistics<B> {
    /// Applies `change` to the tensor, if there is one.
    fn map<To: Backend>(
        self,
        change: impl FnOnce(FloatTensor<B>) -> FloatTensor<To>,
    ) -> Statistics<To> {
        match self {
            Self::OfBatch => Statistics::OfBatch,
            Self::Given(statistics) => Statistics::Given(change(statistics)),
        }
    }
}

/// The small operands and the constants of one call.
#[derive(Clone, Debug, ExtensionType)]
pub struct BatchNormParameters<B: Backend> {
    /// The statistics that normalise x.
    #[extension_type]
    pub statistics: Statistics<B>,
    /// `[C]`.
    pub gamma: FloatTensor<B>,
    /// `[C]`.
    pub beta: FloatTensor<B>,
    /// The constants.
    pub options: Options,
}

impl<B: Backend> BatchNormParameters<B> {
    /// Applies `change` to each tensor.
    fn map<To: Backend>(
        self,
        change: impl Fn(FloatTensor<B>) -> FloatTensor<To>,
    ) -> BatchNormParameters<To> {
        let Self { statistics, gamma, beta, options } = self;
        BatchNormParameters {
            statistics: statistics.map(&change),
            gamma: change(gamma),
            beta: change(beta),
            options,
        }
    }
}

/// The inputs of one call.
#[derive(Clone, Debug, ExtensionType)]
pub struct BatchNormInputs<B: Backend> {
    /// `[B, C, H, W]`.
    pub x: FloatTensor<B>,
    /// `[B, C, H, W]`, added before the ReLU.
    #[extension_type]
    pub residual: Optional<B>,
    /// The other operands and the constants.
    #[extension_type]
    pub parameters: BatchNormParameters<B>,
}

/// The gradients of one call that used the batch's statistics.
#[derive(Clone, Debug, ExtensionType)]
pub struct BatchNormGradients<B: Backend> {
    /// `[B, C, H, W]`.
    pub x: FloatTensor<B>,
    /// `[B, C, H, W]`, if there was a residual.
    #[extension_type]
    pub residual: Optional<B>,
    /// `[C]`.
    pub gamma: FloatTensor<B>,
    /// `[C]`.
    pub beta: FloatTensor<B>,
}

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
