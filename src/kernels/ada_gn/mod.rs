//! Adaptive group normalisation, the denoiser's only doorway for t and z.
//!
//! out = dropout(activation(z_s * (t_s * GN(h) + t_b) + z_b)), GN(h) = gamma * (h - mean) / sqrt(var + eps) + beta
//!
//! with mean and (biased) variance over each image's group of channels. [`ada_gn`] runs one fused WGSL kernel on wgpu
//! devices and one fused loop on the CPU backend, forward and backward; [`mod@reference`] is the same in plain tensor
//! operations, and the tests hold all of them equal in value and every gradient.

mod autodiff;
mod cpu;
pub mod reference;
pub mod wgsl;

use crate::kernels::choice::references;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, backend_extension};
use burn::tensor::{Tensor, assert_shape};
use burn_flex::Flex;

/// What follows the affine part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The identity.
    None,
    /// x / (1 + e^-x).
    Silu,
}

/// Element-wise dropout whose mask is a hash of (key, element): the same on every backend, made again in the backward
/// pass instead of kept. Elements are counted in NHWC order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of zeroing an element, in [0, 1); what is kept is scaled by 1 / (1 - p).
    pub p: f32,
    /// Key of this layer and step.
    pub key: [u32; 2],
}

impl Dropout {
    /// Hashes below this are dropped.
    pub(crate) fn threshold(self) -> u32 {
        (f64::from(self.p) * 4_294_967_296.0) as u32
    }
}

/// The constants of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaGnOptions {
    /// Number of groups; divides C.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Follows the affine part.
    pub activation: Activation,
    /// Follows the activation.
    pub dropout: Option<Dropout>,
}

/// t and z as scale ‖ shift for each channel: two `[B, 2C]` tensors.
#[derive(Clone, Debug)]
pub struct Modulation<T> {
    /// t_s ‖ t_b.
    pub t: T,
    /// z_s ‖ z_b.
    pub z: T,
}

/// Fused AdaGN with its gradients.
///
/// `h` `[B, C, H, W]`; `t_mod`, `z_mod` `[B, 2C]`, scale ‖ shift; `gamma`, `beta` `[C]`. Returns `[B, C, H, W]` in the memory
/// layout of the device's convolutions.
///
/// # Panics
/// If a shape doesn't fit or `groups` doesn't divide C, naming the operand.
pub fn ada_gn(
    h: Tensor<4>,
    t_mod: Tensor<2>,
    z_mod: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    options: AdaGnOptions,
) -> Tensor<4> {
    let [batch, channels, _, _] = check(&h, &gamma, &beta, &options);
    assert_shape!(t_mod, [batch, 2 * channels]);
    assert_shape!(z_mod, [batch, 2 * channels]);
    if references() {
        return reference::ada_gn(h, t_mod, z_mod, gamma, beta, options);
    }
    Tensor::from_dispatch(<Dispatch as AdaGn>::ada_gn(
        h.into_dispatch(),
        t_mod.into_dispatch(),
        z_mod.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        options,
    ))
}

/// The same kernel without modulation: dropout(activation(GN(h))).
///
/// `h` `[B, C, H, W]`; `gamma`, `beta` `[C]`. Returns `[B, C, H, W]`.
///
/// # Panics
/// As [`ada_gn`].
pub fn group_norm(h: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>, options: AdaGnOptions) -> Tensor<4> {
    check(&h, &gamma, &beta, &options);
    if references() {
        return reference::group_norm(h, gamma, beta, options);
    }
    Tensor::from_dispatch(<Dispatch as AdaGn>::group_norm(
        h.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        options,
    ))
}

fn check(h: &Tensor<4>, gamma: &Tensor<1>, beta: &Tensor<1>, options: &AdaGnOptions) -> [usize; 4] {
    let shape = h.dims();
    let channels = shape[1];
    assert_shape!(gamma, [channels]);
    assert_shape!(beta, [channels]);
    assert!(
        options.groups > 0 && channels.is_multiple_of(options.groups),
        "ada_gn: groups = {} doesn't divide h's {channels} channels",
        options.groups
    );
    if let Some(dropout) = options.dropout {
        assert!((0.0..1.0).contains(&dropout.p), "ada_gn: dropout p = {} lies outside [0, 1)", dropout.p);
    }
    shape
}

/// The differentiable operations, routed to the backend of their tensors.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait AdaGn: burn::backend::Backend {
    /// See [`ada_gn`].
    fn ada_gn(
        h: FloatTensor<Self>,
        t_mod: FloatTensor<Self>,
        z_mod: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> FloatTensor<Self>;

    /// See [`group_norm`].
    fn group_norm(
        h: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> FloatTensor<Self>;
}

/// Gradients of one call, in the order of its operands.
pub(crate) struct AdaGnGrads<T> {
    pub h: T,
    pub modulation: Option<Modulation<T>>,
    pub gamma: T,
    pub beta: T,
}

/// What a backend without autodiff implements: the two passes.
pub(crate) trait AdaGnKernels: burn::backend::Backend {
    /// Returns the result and, for the backward pass, A, D, mean and 1/deviation of each image's channels, in an order of the
    /// backend's own: u = A * xhat + D is the argument of the activation.
    fn forward(
        h: FloatTensor<Self>,
        modulation: Option<Modulation<FloatTensor<Self>>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `d_out` `[B, C, H, W]` is the gradient of the result.
    fn backward(
        d_out: FloatTensor<Self>,
        h: FloatTensor<Self>,
        saved: FloatTensor<Self>,
        modulation: Option<Modulation<FloatTensor<Self>>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> AdaGnGrads<FloatTensor<Self>>;
}

macro_rules! without_autodiff {
    ($backend:ty) => {
        impl AdaGn for $backend {
            fn ada_gn(
                h: FloatTensor<Self>,
                t_mod: FloatTensor<Self>,
                z_mod: FloatTensor<Self>,
                gamma: FloatTensor<Self>,
                beta: FloatTensor<Self>,
                options: AdaGnOptions,
            ) -> FloatTensor<Self> {
                <Self as AdaGnKernels>::forward(h, Some(Modulation { t: t_mod, z: z_mod }), gamma, beta, options).0
            }

            fn group_norm(
                h: FloatTensor<Self>,
                gamma: FloatTensor<Self>,
                beta: FloatTensor<Self>,
                options: AdaGnOptions,
            ) -> FloatTensor<Self> {
                <Self as AdaGnKernels>::forward(h, None, gamma, beta, options).0
            }
        }
    };
}
without_autodiff!(burn::backend::wgpu::CubeBackend);
without_autodiff!(Flex);
