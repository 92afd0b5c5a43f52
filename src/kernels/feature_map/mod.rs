//! What happens to feature maps between convolutions: concatenation, on NHWC memory: WGSL kernels on wgpu devices, our own loops
//! on the CPU backend. (Upsampling is part of the convolution after it, see `conv2d`.)

mod autodiff;
mod cpu;
pub mod wgsl;

use super::choice::references;
use super::layout::{to_nchw, to_nhwc};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, backend_extension};
use burn::tensor::{Tensor, assert_shape};

/// `a` `[B, C1, H, W]` and `b` `[B, C2, H, W]` to `[B, C1 + C2, H, W]`.
///
/// # Panics
/// If batch or pixels differ.
pub fn concat(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    let ([batch, _, height, width], [_, channels, ..]) = (a.dims(), b.dims());
    assert_shape!(b, [batch, channels, height, width]);
    if references() {
        return reference::concat(a, b);
    }
    Tensor::from_dispatch(<Dispatch as FeatureMapOp>::concat(a.into_dispatch(), b.into_dispatch()))
}

/// The same in plain tensor operations: the oracle of the kernels.
pub mod reference {
    use super::{Tensor, to_nchw, to_nhwc};

    /// As [`super::concat`].
    pub fn concat(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
        to_nchw(Tensor::cat(vec![to_nhwc(a), to_nhwc(b)], 3))
    }
}

/// The differentiable operation, routed to the backend of its tensors.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait FeatureMapOp: burn::backend::Backend {
    /// See [`concat`](fn@concat).
    fn concat(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What a backend without autodiff implements for its gradients.
pub(crate) trait FeatureMapGradients: burn::backend::Backend {
    /// The first `channels` channels of `dy`, and the others.
    fn split(dy: FloatTensor<Self>, channels: usize) -> [FloatTensor<Self>; 2];
}
