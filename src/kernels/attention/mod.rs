//! Single-head self-attention over the pixels of a feature map: one fused kernel that never keeps the matrix of weights, in
//! WGSL on wgpu devices and on the CPU backend.
//!
//! out = softmax(q k^T / sqrt(C)) v for each image, q, k, v `[H W, C]`
//!
//! [`fn@reference`] is the same in plain tensor operations, and the tests hold all of them equal in value and gradient.

mod autodiff;
mod cpu;
pub mod wgsl;

use super::choice::{cpu_kernels, references};
use super::layout::{to_nchw, to_nhwc};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, backend_extension};
use burn::tensor::{Tensor, activation::softmax};

/// `qkv` `[B, 3C, H, W]` (q ‖ k ‖ v) over NHWC memory; returns `[B, C, H, W]` over NHWC memory.
///
/// # Panics
/// If the channels are no multiple of three.
pub fn attention(qkv: Tensor<4>) -> Tensor<4> {
    let [_, channels, ..] = qkv.dims();
    assert!(channels.is_multiple_of(3), "attention: qkv has {channels} channels, no multiple of 3");
    if references() {
        return reference(qkv);
    }
    let c = channels / 3;
    if c.is_multiple_of(4) || cpu_kernels(&qkv.device()) {
        return kernel(qkv);
    }
    kernel(pad(qkv, c.next_multiple_of(4))).narrow(1, 0, c)
}

fn kernel(qkv: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as AttentionOp>::self_attention(qkv.into_dispatch()))
}

/// qkv whose q, k and v have `to` channels, zeros behind their own: the WGSL kernel reads four at a time. q makes up for the
/// larger divisor of its scores.
fn pad(qkv: Tensor<4>, to: usize) -> Tensor<4> {
    let [b, channels, h, w] = qkv.dims();
    let c = channels / 3;
    let zeros = Tensor::zeros([b, h, w, to - c], &qkv.device());
    let qkv = to_nhwc(qkv);
    let [q, k, v] = [0, 1, 2].map(|i| qkv.clone().narrow(3, i * c, c));
    let q = q * (to as f64 / c as f64).sqrt();
    to_nchw(Tensor::cat(vec![q, zeros.clone(), k, zeros.clone(), v, zeros], 3))
}

/// [`attention`] in plain tensor operations: the oracle of the kernels.
pub fn reference(qkv: Tensor<4>) -> Tensor<4> {
    let [b, channels, height, width] = qkv.dims();
    let c = channels / 3;
    let qkv = qkv.permute([0, 2, 3, 1]).reshape([b, height * width, channels]);
    let [q, k, v] = [0, 1, 2].map(|i| qkv.clone().narrow(2, i * c, c));
    let weights = softmax(q.matmul(k.swap_dims(1, 2)) / (c as f64).sqrt(), 2);
    weights.matmul(v).reshape([b, height, width, c]).permute([0, 3, 1, 2])
}

/// The differentiable operation, routed to the backend of its tensor.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait AttentionOp: burn::backend::Backend {
    /// See [`attention`].
    fn self_attention(qkv: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What a backend without autodiff implements: the two passes.
pub(crate) trait AttentionKernels: burn::backend::Backend {
    /// Returns the result and `[B, H W]`: the logarithm of each row's sum of exponentials.
    fn forward(qkv: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of `qkv`, whose weights are computed again, from what [`AttentionKernels::forward`] returned.
    fn backward(
        d_out: FloatTensor<Self>,
        qkv: FloatTensor<Self>,
        out: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}
