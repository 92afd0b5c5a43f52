//! SiLU in operations that every backend has.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Slice;

/// Computes the result.
pub(super) fn forward<B: Backend>(
    x: FloatTensor<B>,
    first: usize,
    length: usize,
) -> FloatTensor<B> {
    let [rows, _] = x.shape().dims();
    let part = B::float_slice(x, &[Slice::from(0..rows), Slice::from(first..first + length)]);
    B::float_mul(part.clone(), B::sigmoid(part))
}
