//! 2-d convolution with zero padding, over NHWC memory: hand-written kernels on the CPU backend and
//! in WGSL.
//!
//! ```text
//! y[b, o, i, j] = bias[o] + residual[b, o, i, j]
//!     + sum over c, k, l of w[o, c, k, l] * x[b, c, stride i + k - padding, stride j + l -
//!     padding]
//! ```
//!
//! The convolution of x after nearest-neighbour upsampling is one operation as well
//! ([`Conv2dOptions::UPSAMPLE`]).

mod autodiff;
mod cases;
mod cpu;
mod inputs;
mod reference;
mod shape;
mod tile;
mod upsample;
mod wgsl;

pub use cases::Conv2dOperation;
pub use inputs::{Conv2dGradients, Conv2dInputs, Conv2dOptions};
pub use tile::Tile;
pub use wgsl::f16_path;

use crate::kernels::choice::references;
use crate::kernels::operand::Optional;
use crate::kernels::precision;
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Shape, Tensor, assert_shape};
use shape::ConvShape;

/// The operation on a backend; the default implementation is the reference.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait Conv2d: Backend {
    /// Computes [`conv2d`].
    fn forward(#[extension_type] inputs: Conv2dInputs<Self>) -> FloatTensor<Self> {
        reference::forward(inputs)
    }

    /// Computes those gradients of x, the weight and the bias that are `wanted` from `dy`
    /// `[B, O, H', W']`, the gradient of the result.
    fn backward(
        dy: FloatTensor<Self>,
        #[extension_type] inputs: Conv2dInputs<Self>,
        wanted: [bool; 3],
    ) -> Conv2dGradients<Self> {
        reference::backward(dy, inputs, wanted)
    }
}

/// Convolves `x` `[B, C, H, W]` with `weight` `[O, C, K, K]` and adds `bias` `[O]` and `residual`
/// `[B, O, H', W']`. Returns `[B, O, H', W']` over NHWC memory. In half precision, all of these
/// except the weight and the bias are f16 feature maps.
///
/// # Panics
/// If a shape doesn't fit. The message names the operand.
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<4>>,
    options: Conv2dOptions,
) -> Tensor<4> {
    precision::map(product(precision::map(x), precision::factor(weight), bias, residual, options))
}

/// Computes [`conv2d`] without converting the types of x and of the result.
pub(crate) fn product(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<4>>,
    options: Conv2dOptions,
) -> Tensor<4> {
    let [_, channels, _, _] = x.dims();
    let [out, _, kernel, _] = weight.dims();
    assert_shape!(weight, [out, channels, kernel, kernel]);
    let [batch, _, out_height, out_width] = out_dims(x.dims(), &weight.shape(), options);
    if let Some(residual) = &residual {
        assert_shape!(residual, [batch, out, out_height, out_width]);
    }
    if let Some(bias) = &bias {
        assert_shape!(bias, [out]);
    }
    let options = Conv2dOptions { factors: precision::factors(), ..options };
    let inputs = Conv2dInputs {
        x: x.into_dispatch(),
        weight: weight.into_dispatch(),
        bias: Optional::new(bias.map(Tensor::into_dispatch)),
        residual: Optional::new(residual.map(Tensor::into_dispatch)),
        options,
    };
    Tensor::from_dispatch(if references() {
        reference::forward(inputs)
    } else {
        <Dispatch as Conv2d>::forward(inputs)
    })
}

/// Returns the sizes of a call with `x` of `dims`. For a call that upsamples, these are the sizes
/// of the convolution whose transpose it is.
fn conv_shape(dims: [usize; 4], weight: &Shape, options: Conv2dOptions) -> ConvShape {
    let Conv2dOptions { stride, padding, upsample, .. } = options;
    if upsample {
        assert!(
            (weight[2], stride, padding) == (3, 1, 1),
            "conv2d: upsampling requires a 3x3 kernel, stride 1 and padding 1"
        );
        return upsample::shape(dims, weight[0]);
    }
    let [batch, c_in, height, width] = dims;
    ConvShape { batch, c_in, c_out: weight[0], height, width, kernel: weight[2], stride, padding }
}

/// Returns the shape `[B, O, H', W']` of the result of a call with `x` of `dims`.
fn out_dims(dims: [usize; 4], weight: &Shape, options: Conv2dOptions) -> [usize; 4] {
    let shape = conv_shape(dims, weight, options);
    let [height, width] = if options.upsample {
        [shape.height, shape.width]
    } else {
        [shape.out_height(), shape.out_width()]
    };
    [dims[0], weight[0], height, width]
}

/// Returns the work of the forward pass of a call with `x` of `dims` and `weight` `[O, C, K, K]`.
/// The gradients of x and of the weight take as much: two tensors are read and one is written, and
/// the operations are those of the direct algorithm, on the upsampled input if the call upsamples.
/// (Other algorithms need fewer.)
pub fn pass_work(dims: [usize; 4], weight: [usize; 4], options: Conv2dOptions) -> Work {
    let [_, channels, kernel, _] = weight;
    let [x, y, weights] = [dims, out_dims(dims, &Shape::new(weight), options), weight]
        .map(|dims| dims.iter().product::<usize>());
    Work {
        operations: 2.0 * (y * channels * kernel * kernel) as f64,
        ..Work::floats(&[x, weights, y])
    }
}
