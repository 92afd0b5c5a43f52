//! The mean of each channel over an image's pixels, by which a network pools its last feature map.
//!
//! `y[b, c] = 1 / (H W) sum over i, j of x[b, c, i, j]`
//!
//! One launch on wgpu devices; plain tensor operations elsewhere, and when gradients are needed.

mod cases;
mod reference;
mod wgsl;

pub use cases::PixelMeanOperation;

use crate::kernels::choice::{cpu_kernels, references};
use crate::kernels::layout;
use crate::kernels::precision::in_f32;
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_flex::Flex;

/// The operation on every backend, by default the reference. It isn't differentiable.
#[backend_extension(Cube, Flex)]
pub trait PixelMean: Backend {
    /// Computes [`pixel_mean`].
    fn forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::forward::<Self>(x)
    }
}

impl PixelMean for Flex {}

/// Returns the means of `x` `[B, C, H, W]` over its pixels, `[B, C]`, in f32 in any precision.
///
/// # Panics
/// If `x` has no pixels.
pub fn pixel_mean(x: Tensor<4>) -> Tensor<2> {
    let ([b, c, h, w], device) = (x.dims(), x.device());
    assert!(h * w > 0, "pixel_mean: x has no pixels, its shape is {:?}", x.dims());
    if device.is_autodiff() || references() || cpu_kernels(&device) {
        return layout::to_nhwc(in_f32(x)).reshape([b, h * w, c]).mean_dim(1).reshape([b, c]);
    }
    Tensor::from_dispatch(<Dispatch as PixelMean>::forward(x.into_dispatch()))
}

/// Returns the work on `[B, C, H, W]`: x is read, the means are written.
pub fn work([b, c, h, w]: [usize; 4]) -> Work {
    Work::floats(&[b * c * h * w, b * c])
}
