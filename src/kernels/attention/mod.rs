//! Single-head self-attention over the pixels of a feature map: one fused kernel, in WGSL on wgpu
//! devices and on the CPU backend, that never keeps the matrix of attention weights.
//!
//! out = softmax(q k^T / sqrt(C)) v for each image, with q, k, v `[H W, C]`
//!
//! reference.rs implements the same in plain tensor operations; the tests check that all
//! implementations agree in value and gradient.

mod autodiff;
mod cases;
mod cpu;
mod reference;
mod wgsl;

pub use cases::AttentionOperation;

use super::choice::{cpu_kernels, references};
use super::layout::{to_nchw, to_nhwc};
use super::precision;
use super::shader::Elem;
use super::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

/// The operation on a backend; the default implementation is the reference.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait Attention: Backend {
    /// Computes [`attention`]. Returns the result `[B, C, H, W]`, and what this backend's backward
    /// pass needs: the logarithm of each row's sum of exponentials, `[B, H W]`. (The reference
    /// needs nothing and returns the result twice.) Shaders round the feature map values that they
    /// read to `factors`.
    fn forward(qkv: FloatTensor<Self>, factors: Elem) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let _ = factors;
        reference::forward::<Self>(qkv)
    }

    /// Computes the gradient of `qkv` `[B, 3C, H, W]` from `d_out` `[B, C, H, W]`, the gradient of
    /// the result, and from what [`Attention::forward`] returned. The weights are re-computed.
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

/// Computes self-attention of `qkv` `[B, 3C, H, W]` (q ‖ k ‖ v) over NHWC memory. Returns
/// `[B, C, H, W]` over NHWC memory.
///
/// # Panics
/// If the number of channels is not a multiple of three.
pub fn attention(qkv: Tensor<4>) -> Tensor<4> {
    let [_, channels, ..] = qkv.dims();
    assert!(
        channels.is_multiple_of(3),
        "attention: qkv has {channels} channels, which is not a multiple of 3"
    );
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

/// Pads q, k and v with zeros to `to` channels each, as the WGSL kernel reads four channels at a
/// time. Scales q to compensate for the larger divisor of its scores.
fn pad(qkv: Tensor<4>, to: usize) -> Tensor<4> {
    let [b, channels, h, w] = qkv.dims();
    let c = channels / 3;
    let zeros = Tensor::zeros([b, h, w, to - c], (&qkv.device(), qkv.dtype()));
    let qkv = to_nhwc(qkv);
    let [q, k, v] = [0, 1, 2].map(|i| qkv.clone().narrow(3, i * c, c));
    let q = q * (to as f64 / c as f64).sqrt();
    to_nchw(Tensor::cat(vec![q, zeros.clone(), k, zeros.clone(), v, zeros], 3))
}

/// Returns the work of reading or writing `maps` feature maps `[B, C, H, W]` and of `products`
/// matrix products of `[H W, C]` and `[C, H W]` per image.
fn work([b, c, h, w]: [usize; 4], maps: usize, products: usize) -> Work {
    let n = h * w;
    Work { operations: (products * 2 * b * n * n * c) as f64, ..Work::floats(&[maps * b * n * c]) }
}

/// Returns the work of the forward pass, whose result is `[B, C, H, W]`: it reads q, k and v and
/// writes the result; the products are q k^T and the weights times v.
pub fn forward_work(shape: [usize; 4]) -> Work {
    work(shape, 4, 2)
}

/// Returns the work of the backward pass: it reads q, k, v and the gradient of the result and
/// writes three gradients; the products are the gradients of both forward products, and the weights
/// once more.
pub fn backward_work(shape: [usize; 4]) -> Work {
    work(shape, 7, 5)
}

/// Returns the work of the two launches of the backward pass, for the queries and for the keys.
/// Both compute the weights and their gradients.
fn passes_work(shape: [usize; 4]) -> [Work; 2] {
    [work(shape, 6, 3), work(shape, 6, 4)]
}
