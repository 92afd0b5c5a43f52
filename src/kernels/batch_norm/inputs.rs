//! The operands and the constants of batch normalisation and of the update of its running
//! statistics, and the gradients.

use crate::kernels::operand::Optional;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};

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
    pub(super) fn map<To: Backend>(
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
    pub(super) fn map<To: Backend>(
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

/// The inputs of one update of the running statistics.
#[derive(Clone, Debug, ExtensionType)]
pub struct RunningInputs<B: Backend> {
    /// The running mean so far, `[C]`.
    pub mean: FloatTensor<B>,
    /// The running variance so far, `[C]`.
    pub variance: FloatTensor<B>,
    /// `[2C]`: the batch's mean and biased variance.
    pub statistics: FloatTensor<B>,
    /// The weight of the batch in the running average.
    pub momentum: f64,
    /// The factor that makes the batch's variance unbiased.
    pub unbiased: f64,
}
