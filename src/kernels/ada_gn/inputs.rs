//! The operands and the constants of AdaGN, and its gradients.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};

/// The activation after the affine part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The identity.
    None,
    /// x / (1 + e^-x).
    Silu,
}

/// Element-wise dropout whose mask is a hash of (key, element): the same on every backend, and
/// re-computed in the backward pass instead of stored. Elements are counted in NHWC order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of zeroing an element, in [0, 1); the others are scaled by 1 / (1 - p).
    pub p: f32,
    /// The key of this layer and step.
    pub key: [u32; 2],
}

impl Dropout {
    /// Returns the threshold below which a hash drops its element.
    pub(crate) fn threshold(self) -> u32 {
        (f64::from(self.p) * 4_294_967_296.0) as u32
    }
}

/// The constants of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaGnOptions {
    /// Number of groups, a divisor of C.
    pub groups: usize,
    /// The term added to the variance.
    pub eps: f32,
    /// The activation after the affine part.
    pub activation: Activation,
    /// The dropout after the activation.
    pub dropout: Option<Dropout>,
}

/// The operands that modulate, if any.
#[derive(Clone, Debug, ExtensionType)]
pub enum Modulation<B: Backend> {
    /// Plain group normalisation.
    Absent,
    /// Modulation by t and z, `[B, 2C]` each: scale ‖ shift of each channel.
    By {
        /// t_s ‖ t_b.
        t: FloatTensor<B>,
        /// z_s ‖ z_b.
        z: FloatTensor<B>,
    },
}

impl<B: Backend> Modulation<B> {
    /// Applies `change` to each tensor.
    pub(super) fn map<To: Backend>(
        self,
        change: impl Fn(FloatTensor<B>) -> FloatTensor<To>,
    ) -> Modulation<To> {
        match self {
            Self::Absent => Modulation::Absent,
            Self::By { t, z } => Modulation::By { t: change(t), z: change(z) },
        }
    }
}

/// The small operands and the constants of one call.
#[derive(Clone, Debug, ExtensionType)]
pub struct AdaGnParameters<B: Backend> {
    /// The modulation by t and z.
    #[extension_type]
    pub modulation: Modulation<B>,
    /// `[C]`.
    pub gamma: FloatTensor<B>,
    /// `[C]`.
    pub beta: FloatTensor<B>,
    /// The constants.
    pub options: AdaGnOptions,
}

impl<B: Backend> AdaGnParameters<B> {
    /// Applies `change` to each tensor.
    pub(super) fn map<To: Backend>(
        self,
        change: impl Fn(FloatTensor<B>) -> FloatTensor<To>,
    ) -> AdaGnParameters<To> {
        let Self { modulation, gamma, beta, options } = self;
        AdaGnParameters {
            modulation: modulation.map(&change),
            gamma: change(gamma),
            beta: change(beta),
            options,
        }
    }
}

/// The inputs of one call.
#[derive(Clone, Debug, ExtensionType)]
pub struct AdaGnInputs<B: Backend> {
    /// `[B, C, H, W]`.
    pub h: FloatTensor<B>,
    /// The other operands and the constants.
    #[extension_type]
    pub parameters: AdaGnParameters<B>,
}

/// The gradients of one call.
#[derive(Clone, Debug, ExtensionType)]
pub struct AdaGnGradients<B: Backend> {
    /// `[B, C, H, W]`.
    pub h: FloatTensor<B>,
    /// Gradients of t and z, if they modulate.
    #[extension_type]
    pub modulation: Modulation<B>,
    /// `[C]`.
    pub gamma: FloatTensor<B>,
    /// `[C]`.
    pub beta: FloatTensor<B>,
}
