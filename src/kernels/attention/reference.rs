//! Attention in operations that every backend has: the reference that the kernels are tested
//! against, and the fallback where there is no kernel.

use crate::kernels::autodiff;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Shape, Slice};

/// Computes the result and returns it twice, as the backward pass needs nothing else.
pub(super) fn forward<B: Backend>(qkv: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let [b, channels, height, width] = qkv.shape().dims();
    let (c, n) = (channels / 3, height * width);
    let qkv = B::float_reshape(B::float_permute(qkv, &[0, 2, 3, 1]), Shape::new([b, n, channels]));
    let [q, k, v] = [0, 1, 2].map(|i| {
        let part = [Slice::from(0..b), Slice::from(0..n), Slice::from(i * c..(i + 1) * c)];
        B::float_slice(qkv.clone(), &part)
    });
    let scores = B::float_div_scalar(
        B::float_matmul(q, B::float_swap_dims(k, 1, 2)),
        (c as f64).sqrt().into(),
    );
    let out = B::float_matmul(B::softmax(scores, 2), v);
    let out =
        B::float_permute(B::float_reshape(out, Shape::new([b, height, width, c])), &[0, 3, 1, 2]);
    (out.clone(), out)
}

/// Computes the gradient of `qkv` by Burn's autodiff.
pub(super) fn backward<B: Backend>(d_out: FloatTensor<B>, qkv: FloatTensor<B>) -> FloatTensor<B> {
    let [d_qkv] = autodiff::gradients::<B, 1>([qkv], d_out, |[qkv]| {
        forward::<burn::backend::Autodiff<B>>(qkv).0
    });
    d_qkv
}
