//! What happens to feature maps between convolutions: concatenation and nearest-neighbour upsampling, on NHWC memory: WGSL
//! kernels on wgpu devices, our own loops on the CPU backend.

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

/// Every pixel four times: `[B, C, H, W]` to `[B, C, 2H, 2W]`.
pub fn upsample(x: Tensor<4>) -> Tensor<4> {
    if references() {
        return reference::upsample(x);
    }
    Tensor::from_dispatch(<Dispatch as FeatureMapOp>::upsample(x.into_dispatch()))
}

/// The same in plain tensor operations: the oracle of the kernels.
pub mod reference {
    use super::{Tensor, to_nchw, to_nhwc};

    /// As [`super::concat`].
    pub fn concat(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
        to_nchw(Tensor::cat(vec![to_nhwc(a), to_nhwc(b)], 3))
    }

    /// As [`super::upsample`].
    pub fn upsample(x: Tensor<4>) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        let x: Tensor<6> = to_nhwc(x).reshape([b, h, 1, w, 1, c]);
        to_nchw(x.expand([b, h, 2, w, 2, c]).reshape([b, 2 * h, 2 * w, c]))
    }
}

/// The differentiable operations, routed to the backend of their tensors.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait FeatureMapOp: burn::backend::Backend {
    /// See [`concat`](fn@concat).
    fn concat(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`upsample`].
    fn upsample(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What a backend without autodiff implements for the gradients.
pub(crate) trait FeatureMapGradients: burn::backend::Backend {
    /// The first `channels` channels of `dy`, and the others.
    fn split(dy: FloatTensor<Self>, channels: usize) -> [FloatTensor<Self>; 2];

    /// The sums of every 2x2 pixels.
    fn sum_2x2(dy: FloatTensor<Self>) -> FloatTensor<Self>;
}
