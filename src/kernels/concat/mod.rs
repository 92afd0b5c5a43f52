//! Concatenation of feature maps along their channels, on NHWC memory: a WGSL kernel on wgpu
//! devices, our own loop on the CPU backend. reference.rs is the same in plain tensor operations;
//! the tests check that all implementations agree.

mod autodiff;
mod cases;
mod cpu;
mod reference;
mod wgsl;

pub use cases::ConcatOperation;

use crate::kernels::choice::references;
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{Tensor, assert_shape};

/// The inputs of one call.
#[derive(Clone, Debug, ExtensionType)]
pub struct ConcatInputs<B: Backend> {
    /// The first operand, `[B, C1, H, W]`.
    pub a: FloatTensor<B>,
    /// The second operand, `[B, C2, H, W]`.
    pub b: FloatTensor<B>,
}

/// The operation on every backend, by default the reference.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait Concat: Backend {
    /// Computes [`concat`](fn@concat).
    fn forward(#[extension_type] inputs: ConcatInputs<Self>) -> FloatTensor<Self> {
        reference::forward::<Self>(inputs.a, inputs.b)
    }

    /// Returns the gradients of both operands: the first `channels` channels of `dy`
    /// `[B, C1 + C2, H, W]`, and the others.
    fn backward(dy: FloatTensor<Self>, channels: usize) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::backward::<Self>(dy, channels)
    }
}

/// Concatenates `a` `[B, C1, H, W]` and `b` `[B, C2, H, W]` to `[B, C1 + C2, H, W]` over NHWC
/// memory.
///
/// # Panics
/// If batch or pixels differ.
pub fn concat(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    let ([batch, _, height, width], [_, channels, ..]) = (a.dims(), b.dims());
    assert_shape!(b, [batch, channels, height, width]);
    let inputs = ConcatInputs { a: a.into_dispatch(), b: b.into_dispatch() };
    Tensor::from_dispatch(if references() {
        reference::forward::<Dispatch>(inputs.a, inputs.b)
    } else {
        <Dispatch as Concat>::forward(inputs)
    })
}

/// Returns the work of either pass on a `whole` of `[B, C, H, W]`: everything is read and written.
pub fn work(whole: [usize; 4]) -> Work {
    Work::floats(&[2 * whole.iter().product::<usize>()])
}
