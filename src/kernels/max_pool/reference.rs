//! Max-pooling by Burn's own operation: the reference for our kernels, and the implementation on
//! backends without one.

use crate::kernels::autodiff;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

/// Computes the result.
pub(super) fn forward<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::max_pool2d(x, [3, 3], [2, 2], [1, 1], [1, 1], false)
}

/// Computes the gradient, by Burn's autodiff.
pub(super) fn backward<B: Backend>(dy: FloatTensor<B>, x: FloatTensor<B>) -> FloatTensor<B> {
    let [dx] = autodiff::gradients::<B, 1>([x], dy, |[x]| forward::<Autodiff<B>>(x));
    dx
}
