//! The optimizer in operations that every backend has: the reference for the kernels, and the
//! implementation on backends without one.

use super::inputs::{AdamWInputs, AdamWParameter, FACTORS, Several};
use crate::kernels::operand::Optional;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{BoolDType, Slice};

/// Returns the updated parameter.
pub(super) fn forward<B: Backend>(inputs: AdamWInputs<B>) -> AdamWParameter<B> {
    let AdamWInputs {
        parameter: AdamWParameter { weight, first, second, average },
        grad,
        clip,
        factors,
    } = inputs;
    let factor = |i: usize| B::float_slice(factors.clone(), &[Slice::from(i..i + 1)]);
    let factors: [FloatTensor<B>; FACTORS] = std::array::from_fn(factor);
    let [beta1, rest1, beta2, rest2, rate, correction, epsilon, shrink, ema, ema_rest] = factors;
    let blend = |a, of_a, b, of_b| B::float_add(B::float_mul(a, of_a), B::float_mul(b, of_b));
    let below = B::float_lower_elem(clip.clone(), 0.0f32.into(), BoolDType::Native);
    let skipped = B::bool_expand(below, weight.shape());
    let old = AdamWParameter::<B> {
        weight: weight.clone(),
        first: first.clone(),
        second: second.clone(),
        average: average.clone(),
    };
    let grad = B::float_mul(grad, clip);
    let first = blend(first, beta1, grad.clone(), rest1);
    let second = blend(second, beta2, B::float_mul(grad.clone(), grad), rest2);
    let root = B::float_sqrt(B::float_mul(second.clone(), correction));
    let update = B::float_mul(B::float_div(first.clone(), B::float_add(root, epsilon)), rate);
    let weight = B::float_sub(B::float_mul(weight, shrink), update);
    let average = blend(average, ema, weight.clone(), ema_rest);
    let kept = |new, old| B::float_mask_where(new, skipped.clone(), old);
    AdamWParameter {
        weight: kept(weight, old.weight),
        first: kept(first, old.first),
        second: kept(second, old.second),
        average: kept(average, old.average),
    }
}

/// Appends the sums of squares of `tensors` to `sums`.
pub(super) fn add_squares<B: Backend>(tensors: Several<B>, sums: Optional<B>) -> FloatTensor<B> {
    append_all(tensors, sums, |x| B::float_sum(B::float_mul(x.clone(), x)))
}

/// Appends `sum` of each of `tensors`, `[1]`, to `sums`.
pub(super) fn append_all<B: Backend>(
    tensors: Several<B>,
    sums: Optional<B>,
    sum: impl Fn(FloatTensor<B>) -> FloatTensor<B>,
) -> FloatTensor<B> {
    let add = |sums, x| Optional::Given(append(sums, sum(x)));
    tensors
        .into_vec()
        .into_iter()
        .fold(sums, add)
        .into_option()
        .expect("there is at least one tensor")
}

/// Appends `sum`, `[1]`, to `sums`.
fn append<B: Backend>(sums: Optional<B>, sum: FloatTensor<B>) -> FloatTensor<B> {
    match sums {
        Optional::Absent => sum,
        Optional::Given(sums) => B::float_cat(vec![sums, sum], 0),
    }
}

/// Returns the root of the sum of `sums`.
pub(super) fn root<B: Backend>(sums: FloatTensor<B>) -> FloatTensor<B> {
    B::float_sqrt(B::float_sum(sums))
}
