//! Concatenation in operations that every backend has, on NHWC memory.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Slice;

/// Computes the result.
pub(super) fn forward<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    let [a, b] = [a, b].map(|x| B::float_permute(x, &[0, 2, 3, 1]));
    B::float_permute(B::float_cat(vec![a, b], 3), &[0, 3, 1, 2])
}

/// Returns the first `channels` channels of `dy`, and the others.
pub(super) fn backward<B: Backend>(
    dy: FloatTensor<B>,
    channels: usize,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [batch, both, height, width] = dy.shape().dims();
    let part = |channels| {
        let part = [
            Slice::from(0..batch),
            Slice::from(channels),
            Slice::from(0..height),
            Slice::from(0..width),
        ];
        B::float_slice(dy.clone(), &part)
    };
    (part(0..channels), part(channels..both))
}
