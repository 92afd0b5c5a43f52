//! SiLU of vectors and of parts of them, which is applied to t and z before they modulate the
//! denoiser.
//!
//! `y[b, i] = v / (1 + exp(-v))`, v = `x[b, first + i]`
//!
//! One launch per part on wgpu devices; plain tensor operations elsewhere, and when gradients are
//! needed.

mod cases;
mod reference;
mod wgsl;

pub use cases::SiluOperation;

use crate::kernels::choice::{cpu_kernels, references};
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Tensor, activation};
use burn_flex::Flex;
use std::ops::Range;

/// The operation on every backend, by default the reference. It isn't differentiable.
#[backend_extension(Cube, Flex)]
pub trait Silu: Backend {
    /// Computes SiLU of `length` elements of each row of `x` `[B, N]`, from element `first` on.
    /// Returns `[B, length]`.
    fn forward(x: FloatTensor<Self>, first: usize, length: usize) -> FloatTensor<Self> {
        reference::forward::<Self>(x, first, length)
    }
}

impl Silu for Flex {}

/// Applies SiLU to `x` `[B, N]`.
pub fn silu(x: Tensor<2>) -> Tensor<2> {
    if has_kernel(&x) {
        let length = x.dims()[1];
        return launched(x, 0..length);
    }
    activation::silu(x)
}

/// Returns the SiLU of each of the `parts` of the rows of `x` `[B, N]`.
///
/// # Panics
/// If a part extends beyond the row.
pub fn silu_parts(x: Tensor<2>, parts: &[Range<usize>]) -> Vec<Tensor<2>> {
    let [_, width] = x.dims();
    assert!(parts.iter().all(|part| part.end <= width), "silu: parts {parts:?} of rows of {width}");
    if has_kernel(&x) {
        return parts.iter().map(|part| launched(x.clone(), part.clone())).collect();
    }
    let y = activation::silu(x);
    parts.iter().map(|part| y.clone().narrow(1, part.start, part.len())).collect()
}

/// Returns whether our kernel runs: on wgpu devices, without gradients.
fn has_kernel(x: &Tensor<2>) -> bool {
    let device = x.device();
    !device.is_autodiff() && !references() && !cpu_kernels(&device)
}

fn launched(x: Tensor<2>, part: Range<usize>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Silu>::forward(x.into_dispatch(), part.start, part.len()))
}

/// Returns the work on `length` elements of each of `rows` rows, read and written.
pub fn work(rows: usize, length: usize) -> Work {
    Work::floats(&[2 * rows * length])
}
