//! Single-head self-attention over the pixels of a feature map: one fused kernel that never keeps
//! the matrix of weights, in WGSL on wgpu devices and on the CPU backend.
//!
//! out = softmax(q k^T / sqrt(C)) v for each image, q, k, v `[H W, C]`
//!
//! reference.rs is the same in plain tensor operations, and the tests hold all of them equal in
//! value and gradient.

mod autodiff;
mod cases;
mod cpu;
mod reference;
mod wgsl;

pub use cases::AttentionOperation;

use super::choice::{cpu_kernels, references};
use super::launch::Work;
use super::layout::{to_nchw, to_nhwc};
use super::precision;
use super::shader::Elem;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

/// The operation on every backend: by default the reference.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait Attention: Backend {
    /// Computes [`attention`]. Returns the result `[B, C, H, W]`, and what this backend's backward
    /// pass needs: the logarithm of each row's sum of exponentials, `[B, H W]`. (The reference
    /// needs nothing and returns the result twice.) Shaders round what they read of feature maps to
    /// `factors`.
    fn forward(qkv: FloatTensor<Self>, factors: Elem) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let _ = factors;
        reference::forward::<Self>(qkv)
    }

    /// Computes the gradient of `qkv` `[B, 3C, H, W]` from `d_out` `[B, C, H, W]`, that of the
    /// result, and from what [`Attention::forward`] returned. The weights are computed once more.
    fn backward(
        d_out: FloatTensor<Self>,
        qkv: FloatTensor<Self>,
        out: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        factors: Elem,
    ) -> FloatTensor<Self> {
        let _ = (out, log_sums, factors);
        reference::backward::<Self>(d_out, qkv)
    }
}

/// `qkv` `[B, 3C, H, W]` (q ‖ k ‖ v) over NHWC memory; returns `[B, C, H, W]` over NHWC memory.
///
/// # Panics
/// If the channels are no multiple of three.
pub fn attention(qkv: Tensor<4>) -> Tensor<4> {
    let [_, channels, ..] = qkv.dims();
    assert!(channels.is_multiple_of(3), "attention: qkv has {channels} channels, no multiple of 3");
    if references() {
        return precision::map(Tensor::from_dispatch(
            reference::forward::<Dispatch>(qkv.into_dispatch()).0,
        ));
    }
    let c = channels / 3;
    if c.is_multiple_of(4) || cpu_kernels(&qkv.device()) {
        return kernel(qkv);
    }
    kernel(pad(qkv, c.next_multiple_of(4))).narrow(1, 0, c)
}

fn kernel(qkv: Tensor<4>) -> Tensor<4> {
    precision::map(Tensor::from_dispatch(
        <Dispatch as Attention>::forward(qkv.into_dispatch(), precision::factors()).0,
    ))
}

/// qkv whose q, k and v have `to` channels, zeros behind their own: the WGSL kernel reads four at a
/// time. q makes up for the larger divisor of its scores.
fn pad(qkv: Tensor<4>, to: usize) -> Tensor<4> {
    let [b, channels, h, w] = qkv.dims();
    let c = channels / 3;
    let zeros = Tensor::zeros([b, h, w, to - c], (&qkv.device(), qkv.dtype()));
    let qkv = to_nhwc(qkv);
    let [q, k, v] = [0, 1, 2].map(|i| qkv.clone().narrow(3, i * c, c));
    let q = q * (to as f64 / c as f64).sqrt();
    to_nchw(Tensor::cat(vec![q, zeros.clone(), k, zeros.clone(), v, zeros], 3))
}

/// Returns the work of `maps` feature maps `[B, C, H, W]`, read or written, and of `products`
/// matrix products of `[H W, C]` and `[C, H W]` an image.
fn work([b, c, h, w]: [usize; 4], maps: usize, products: usize) -> Work {
    let n = h * w;
    Work { operations: (products * 2 * b * n * n * c) as f64, ..Work::floats(&[maps * b * n * c]) }
}

/// Returns the work of the forward pass, whose result is `[B, C, H, W]`: q, k, v read and the
/// result written; the products q k^T and of the weights with v.
pub fn forward_work(shape: [usize; 4]) -> Work {
    work(shape, 4, 2)
}

/// Returns the work of the backward pass: q, k, v and the result's gradient read, three gradients
/// written; the gradients of both products, and the weights once more.
pub fn backward_work(shape: [usize; 4]) -> Work {
    work(shape, 7, 5)
}

/// Returns the work of the backward pass as it is launched, for the queries and for the keys: both
/// compute the weights and their gradients.
fn passes_work(shape: [usize; 4]) -> [Work; 2] {
    [work(shape, 6, 3), work(shape, 6, 4)]
}
