//! Batch normalisation in operations that every backend has: the reference that the kernels are
//! tested against, and the fallback where there is no kernel.

use super::inputs::{
    BatchNormGradients, BatchNormInputs, BatchNormParameters, Options, RunningInputs, Statistics,
};
use crate::kernels::autodiff;
use crate::kernels::operand::Optional;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::Slice;

/// Computes the result, in NHWC memory, and the statistics `[2C]`.
pub(super) fn forward<B: Backend>(inputs: BatchNormInputs<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let BatchNormInputs {
        x,
        residual,
        parameters: BatchNormParameters { statistics, gamma, beta, options },
    } = inputs;
    let eps = f64::from(options.eps);
    let (y, statistics) = match statistics {
        Statistics::OfBatch => {
            let norm = B::batch_norm_train(x, gamma, beta, eps);
            (norm.output, B::float_detach(B::float_cat(vec![norm.mean, norm.variance], 0)))
        }
        Statistics::Given(statistics) => {
            let [mean, variance] = halves::<B>(statistics.clone());
            (B::batch_norm(x, gamma, beta, mean, variance, eps), statistics)
        }
    };
    let mut y = B::float_permute(y, &[0, 2, 3, 1]);
    if let Optional::Given(residual) = residual {
        y = B::float_add(y, B::float_permute(residual, &[0, 2, 3, 1]));
    }
    let y = if options.relu { B::relu(y) } else { y };
    (B::float_permute(y, &[0, 3, 1, 2]), statistics)
}

/// Computes the gradients by Burn's autodiff.
pub(super) fn backward<B: Backend>(
    dy: FloatTensor<B>,
    x: FloatTensor<B>,
    y: Optional<B>,
    parameters: BatchNormParameters<B>,
) -> BatchNormGradients<B> {
    let BatchNormParameters { gamma, beta, options, .. } = parameters;
    // The gradient of a residual is what the ReLU passes; so is the gradient of the term that it
    // was added to.
    let (residual, dy, relu) = match y {
        Optional::Absent => (Optional::Absent, dy, options.relu),
        Optional::Given(y) => {
            let dy = if options.relu { B::relu_backward(y, dy) } else { dy };
            (Optional::Given(dy.clone()), dy, false)
        }
    };
    let [x, gamma, beta] = autodiff::gradients::<B, 3>([x, gamma, beta], dy, |[x, gamma, beta]| {
        let options = Options { relu, ..options };
        let parameters =
            BatchNormParameters { statistics: Statistics::OfBatch, gamma, beta, options };
        forward::<Autodiff<B>>(BatchNormInputs { x, residual: Optional::Absent, parameters }).0
    });
    BatchNormGradients { x, residual, gamma, beta }
}

/// Computes the running statistics after one more batch.
pub(super) fn running<B: Backend>(inputs: RunningInputs<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let RunningInputs { mean, variance, statistics, momentum, unbiased } = inputs;
    let update = |running: FloatTensor<B>, new: FloatTensor<B>| {
        let kept = B::float_mul_scalar(running, (1.0 - momentum).into());
        B::float_add(kept, B::float_mul_scalar(new, momentum.into()))
    };
    let [batch_mean, batch_variance] = halves::<B>(statistics);
    let batch_variance = B::float_mul_scalar(batch_variance, unbiased.into());
    (update(mean, batch_mean), update(variance, batch_variance))
}

/// Returns both halves of `statistics`: mean and variance.
fn halves<B: Backend>(statistics: FloatTensor<B>) -> [FloatTensor<B>; 2] {
    let c = statistics.shape()[0] / 2;
    [0, c].map(|from| B::float_slice(statistics.clone(), &[Slice::from(from..from + c)]))
}
