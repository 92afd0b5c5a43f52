//! The peak operations in operations that every backend has.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;

/// The chains of [`multiply_add`]. In WGSL each has four elements, which makes 24 independent sums.
pub(super) const CHAINS: usize = 6;

/// Copies `x`.
pub(super) fn copy<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul_scalar(x, 1.0f32.into())
}

/// Computes the chains one after the other.
pub(super) fn multiply_add<B: Backend>(x: FloatTensor<B>, rounds: usize) -> FloatTensor<B> {
    let half = B::float_mul_scalar(x.clone(), 0.5f32.into());
    let chain = |i: usize| {
        let start =
            B::float_add_scalar(B::float_mul_scalar(x.clone(), 0.0f32.into()), (i as f32).into());
        (0..rounds)
            .fold(start, |a, _| B::float_add(B::float_mul_scalar(a, 0.5f32.into()), half.clone()))
    };
    let sum = (0..CHAINS).map(chain).reduce(B::float_add).expect("chains");
    B::float_mul_scalar(sum, (1.0 / CHAINS as f32).into())
}
