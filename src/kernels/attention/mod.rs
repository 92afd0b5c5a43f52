//! Single-head self-attention over the pixels of a feature map: on the CPU backend one fused kernel that never keeps the
//! matrix of weights, on wgpu devices plain tensor operations.
//!
//! out = softmax(q k^T / sqrt(C)) v for each image, q, k, v `[H W, C]`

mod autodiff;
mod cpu;

use crate::kernels::choice::cpu_kernels;
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
    if !cpu_kernels(&qkv.device()) {
        return reference(qkv);
    }
    Tensor::from_dispatch(<Dispatch as AttentionOp>::self_attention(qkv.into_dispatch()))
}

/// [`attention`] in plain tensor operations: the oracle of the CPU kernel, and what wgpu devices run.
pub fn reference(qkv: Tensor<4>) -> Tensor<4> {
    let [b, channels, height, width] = qkv.dims();
    let c = channels / 3;
    let qkv = qkv.permute([0, 2, 3, 1]).reshape([b, height * width, channels]);
    let [q, k, v] = [0, 1, 2].map(|i| qkv.clone().narrow(2, i * c, c));
    let weights = softmax(q.matmul(k.swap_dims(1, 2)) / (c as f64).sqrt(), 2);
    weights.matmul(v).reshape([b, height, width, c]).permute([0, 3, 1, 2])
}

/// The differentiable operation on the CPU backend.
#[backend_extension(Autodiff, Flex)]
pub trait AttentionOp: burn::backend::Backend {
    /// See [`attention`].
    fn self_attention(qkv: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What a backend without autodiff implements: the two passes.
pub(crate) trait AttentionKernels: burn::backend::Backend {
    /// Returns the result and `[B, H W]`: the logarithm of each row's sum of exponentials.
    fn forward(qkv: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of `qkv`, whose weights are computed again.
    fn backward(d_out: FloatTensor<Self>, qkv: FloatTensor<Self>, log_sums: FloatTensor<Self>) -> FloatTensor<Self>;
}
