//! The mean over the pixels in operations that every backend has, on NHWC memory.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

/// Computes the result.
pub(super) fn forward<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [b, c, h, w] = x.shape().dims();
    let pixels = B::float_reshape(B::float_permute(x, &[0, 2, 3, 1]), Shape::new([b, h * w, c]));
    B::float_reshape(B::float_mean_dim(pixels, 1), Shape::new([b, c]))
}
