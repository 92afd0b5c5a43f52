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
mod inputs;
mod reference;
mod wgsl;

pub use cases::AdaGnOperation;
pub use inputs::{
    Activation, AdaGnGradients, AdaGnInputs, AdaGnOptions, AdaGnParameters, Dropout, Modulation,
};

use crate::kernels::choice::references;
use crate::kernels::precision;
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Tensor, assert_shape};

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
