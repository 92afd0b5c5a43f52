//! Batch normalisation, with the residual connection and the ReLU that may follow it, on NHWC
//! memory: WGSL kernels on wgpu devices, our own loops on the CPU backend.
//!
//! y = relu(gamma * (x - mean) / sqrt(var + eps) + beta + residual), mean and (biased) var over
//! batch and pixels in training, the running ones in inference.
//!
//! reference.rs is the same in plain tensor operations, and the tests hold all of them equal in
//! value and every gradient.

mod autodiff;
mod cases;
mod cpu;
mod reference;
mod running;
mod wgsl;

pub use cases::BatchNormOperation;
pub use running::{Pending, Running, RunningInputs, put_off};

use crate::kernels::choice::references;
use crate::kernels::launch::Work;
use crate::kernels::operand::Optional;
use crate::kernels::plan;
use crate::kernels::precision;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
use burn::nn;
use burn::tensor::{Tensor, assert_shape};

/// The constants of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Added to the variance.
    pub eps: f32,
    /// Whether ReLU follows.
    pub relu: bool,
}

/// What x is normalised by: mean, then biased variance of each channel.
#[derive(Clone, Debug, ExtensionType)]
pub enum Statistics<B: Backend> {
    /// Those of the batch.
    OfBatch,
    /// These, `[2C]`.
    Given(FloatTensor<B>),
}

impl<B: Backend> Statistics<B> {
    /// The same, by `change`.
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

/// The small operands of one call, and its constants.
#[derive(Clone, Debug, ExtensionType)]
pub struct BatchNormParameters<B: Backend> {
    /// What x is normalised by.
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
    /// The same, each tensor by `change`.
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

/// What one call takes.
#[derive(Clone, Debug, ExtensionType)]
pub struct BatchNormInputs<B: Backend> {
    /// `[B, C, H, W]`.
    pub x: FloatTensor<B>,
    /// `[B, C, H, W]`, added before the ReLU.
    #[extension_type]
    pub residual: Optional<B>,
    /// The rest.
    #[extension_type]
    pub parameters: BatchNormParameters<B>,
}

/// Gradients of one call by the batch's statistics.
#[derive(Clone, Debug, ExtensionType)]
pub struct BatchNormGradients<B: Backend> {
    /// `[B, C, H, W]`.
    pub x: FloatTensor<B>,
    /// `[B, C, H, W]`, where there was one.
    #[extension_type]
    pub residual: Optional<B>,
    /// `[C]`.
    pub gamma: FloatTensor<B>,
    /// `[C]`.
    pub beta: FloatTensor<B>,
}

/// The operation on every backend: by default the reference.
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
    /// `dy` `[B, C, H, W]`, that of the result. `y`, the result, is given where there was a
    /// residual: it tells what the ReLU let through.
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

/// Applies `norm` to `x` `[B, C, H, W]`, adds `residual` (of the same shape), then ReLU if
/// `with_relu`. On an autodiff device, unless `norm` is frozen, batch statistics are used and the
/// running ones updated (with the unbiased variance, as PyTorch does).
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

/// Returns the work of the forward pass on `[B, C, H, W]`: x read, the result written.
pub fn forward_work(shape: [usize; 4]) -> Work {
    Work::floats(&[2 * shape.iter().product::<usize>()])
}

/// Returns the work of the backward pass on `[B, C, H, W]`: x and the result's gradient read, the
/// other gradient written.
pub fn backward_work(shape: [usize; 4]) -> Work {
    Work::floats(&[3 * shape.iter().product::<usize>()])
}
