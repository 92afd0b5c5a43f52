//! The convolution in operations that every backend has: the reference that our kernels are tested
//! against, and the fallback where there is no kernel.

use super::inputs::{Conv2dGradients, Conv2dInputs};
use crate::kernels::autodiff;
use crate::kernels::operand::Optional;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::Shape;
use burn::tensor::ops::ConvOptions;

const TO_NHWC: [usize; 4] = [0, 2, 3, 1];
const TO_NCHW: [usize; 4] = [0, 3, 1, 2];

/// Computes the result by Burn's own convolution.
pub(super) fn forward<B: Backend>(inputs: Conv2dInputs<B>) -> FloatTensor<B> {
    let Conv2dInputs { x, weight, bias, residual, options } = inputs;
    let x = if options.upsample { upsample::<B>(x) } else { x };
    let [stride, padding] = [options.stride, options.padding].map(|n| [n, n]);
    let y = B::conv2d(x, weight, bias.into_option(), ConvOptions::new(stride, padding, [1, 1], 1));
    match residual {
        // Added in the memory layout of feature maps.
        Optional::Given(residual) => {
            let [y, residual] = [y, residual].map(|x| B::float_permute(x, &TO_NHWC));
            B::float_permute(B::float_add(y, residual), &TO_NCHW)
        }
        Optional::Absent => y,
    }
}

/// Computes the gradients by Burn's autodiff, then drops those that aren't wanted.
pub(super) fn backward<B: Backend>(
    dy: FloatTensor<B>,
    inputs: Conv2dInputs<B>,
    wanted: [bool; 3],
) -> Conv2dGradients<B> {
    let Conv2dInputs { x, weight, options, .. } = inputs;
    // The result is linear in the bias, so any bias will do.
    let bias = B::float_zeros(Shape::new([weight.shape()[0]]), &x.device(), x.dtype().into());
    let all = autodiff::gradients::<B, 3>([x, weight, bias], dy, |[x, weight, bias]| {
        let (bias, residual) = (Optional::Given(bias), Optional::Absent);
        forward::<Autodiff<B>>(Conv2dInputs { x, weight, bias, residual, options })
    });
    let [x, weight, bias] = all.map(Some);
    let [x, weight, bias] = [(x, wanted[0]), (weight, wanted[1]), (bias, wanted[2])]
        .map(|(gradient, wanted)| Optional::new(gradient.filter(|_| wanted)));
    Conv2dGradients { x, weight, bias }
}

/// Upsamples by nearest neighbour, `[B, C, H, W]` to `[B, C, 2H, 2W]`.
fn upsample<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [b, c, h, w] = x.shape().dims();
    let x = B::float_reshape(B::float_permute(x, &TO_NHWC), Shape::new([b, h, 1, w, 1, c]));
    let x = B::float_reshape(
        B::float_expand(x, Shape::new([b, h, 2, w, 2, c])),
        Shape::new([b, 2 * h, 2 * w, c]),
    );
    B::float_permute(x, &TO_NCHW)
}
