//! Max-pooling over 3x3 windows with stride 2 and padding 1, on NHWC memory: the pool after torchvision's 7x7 stem.
//!
//! `y[b, c, i, j] = max over k, l in -1..=1 of x[b, c, 2 i + k, 2 j + l]`, over the pixels that are there

use super::layout::{to_nchw, to_nhwc};
use burn::tensor::Tensor;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;

/// Pools `x` `[B, C, H, W]`; returns `[B, C, H', W']` over NHWC memory, H' and W' being half of H and W, rounded up.
pub fn max_pool(x: Tensor<4>) -> Tensor<4> {
    reference(x)
}

/// Computes the same in plain tensor operations.
pub fn reference(x: Tensor<4>) -> Tensor<4> {
    let y = to_nhwc(max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1])));
    let dims = y.dims();
    // A flat shape makes the memory follow the order of the axes.
    to_nchw(y.reshape([dims.iter().product::<usize>()]).reshape(dims))
}
