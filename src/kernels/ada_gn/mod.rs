//! Adaptive group normalisation, the only way in which t and z enter the denoiser.
//!
//! ```text
//! out = dropout(activation(z_s * (t_s * GN(h) + t_b) + z_b))
//! GN(h) = gamma * (h - mean) / sqrt(var + eps) + beta
//! ```
//!
//! with mean and (biased) variance over each image's group of channels. [`ada_gn`] runs one fused
//! WGSL kernel on wgpu devices and one fused loop on the CPU backend, forward and backward.
//! reference.rs implements the same in plain tensor operations; the tests check that all
//! implementations agree in value and in every gradient.

mod autodiff;
mod cases;
mod cpu;
mod reference;
mod wgsl;

pub use cases::AdaGnOperation;

use crate::kernels::choice::references;
use crate::kernels::precision;
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{Tensor, assert_shape};

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
    fn map<To: Backend>(
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
    fn map<To: Backend>(
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

/// The operation on a backend; the default implementation is the reference.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait AdaGn: Backend {
    /// Computes [`ada_gn`] or [`group_norm`]. Returns the result `[B, C, H, W]`, and what this
    /// backend's backward pass needs from the forward pass.
    fn forward(
        #[extension_type] inputs: AdaGnInputs<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::forward(inputs)
    }

    /// Computes the gradients of the operands from `d_out` `[B, C, H, W]`, the gradient of the
    /// result, and from `saved`, the second value that [`AdaGn::forward`] returned.
    fn backward(
        d_out: FloatTensor<Self>,
        saved: FloatTensor<Self>,
        #[extension_type] inputs: AdaGnInputs<Self>,
    ) -> AdaGnGradients<Self> {
        let _ = saved;
        reference::backward(d_out, inputs)
    }
}

/// Computes fused AdaGN, with gradients for all tensor operands.
///
/// `h` `[B, C, H, W]`; `t_mod`, `z_mod` `[B, 2C]`, scale ‖ shift; `gamma`, `beta` `[C]`. Returns
/// `[B, C, H, W]` in the memory layout of the device's convolutions.
///
/// # Panics
/// If a shape doesn't fit, `groups` doesn't divide C, or the dropout probability lies outside [0,
/// 1). The message names the operand or option.
pub fn ada_gn(
    h: Tensor<4>,
    t_mod: Tensor<2>,
    z_mod: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    options: AdaGnOptions,
) -> Tensor<4> {
    let [batch, channels, _, _] = h.dims();
    assert_shape!(t_mod, [batch, 2 * channels]);
    assert_shape!(z_mod, [batch, 2 * channels]);
    run(
        h,
        Modulation::By { t: t_mod.into_dispatch(), z: z_mod.into_dispatch() },
        gamma,
        beta,
        options,
    )
}

/// Runs the same kernel without modulation: dropout(activation(GN(h))).
///
/// `h` `[B, C, H, W]`; `gamma`, `beta` `[C]`. Returns `[B, C, H, W]`.
///
/// # Panics
/// As [`ada_gn`].
pub fn group_norm(
    h: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    options: AdaGnOptions,
) -> Tensor<4> {
    run(h, Modulation::Absent, gamma, beta, options)
}

fn run(
    h: Tensor<4>,
    modulation: Modulation<Dispatch>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    options: AdaGnOptions,
) -> Tensor<4> {
    check(&h, &gamma, &beta, &options);
    let parameters = AdaGnParameters {
        modulation,
        gamma: gamma.into_dispatch(),
        beta: beta.into_dispatch(),
        options,
    };
    let inputs = AdaGnInputs { h: h.into_dispatch(), parameters };
    let (out, _) = if references() {
        reference::forward(inputs)
    } else {
        <Dispatch as AdaGn>::forward(inputs)
    };
    precision::map(Tensor::from_dispatch(out))
}

fn check(h: &Tensor<4>, gamma: &Tensor<1>, beta: &Tensor<1>, options: &AdaGnOptions) {
    let [_, channels, _, _] = h.dims();
    assert_shape!(gamma, [channels]);
    assert_shape!(beta, [channels]);
    assert!(
        options.groups > 0 && channels.is_multiple_of(options.groups),
        "ada_gn: groups = {} doesn't divide h's {channels} channels",
        options.groups
    );
    if let Some(dropout) = options.dropout {
        assert!(
            (0.0..1.0).contains(&dropout.p),
            "ada_gn: dropout p = {} lies outside [0, 1)",
            dropout.p
        );
    }
}

/// Returns the work of the forward pass on `[B, C, H, W]`, which reads h and writes the result.
pub fn forward_work(shape: [usize; 4]) -> Work {
    Work::floats(&[2 * shape.iter().product::<usize>()])
}

/// Returns the work of the backward pass on `[B, C, H, W]`, which reads h and the gradient of the
/// result and writes the gradient of h.
pub fn backward_work(shape: [usize; 4]) -> Work {
    Work::floats(&[3 * shape.iter().product::<usize>()])
}
