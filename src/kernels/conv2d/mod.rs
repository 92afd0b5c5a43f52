//! 2-d convolution with zero padding, on NHWC memory: our own kernels on the CPU backend and in
//! WGSL.
//!
//! `y[b, o, i, j] = bias[o] + residual[b, o, i, j] + sum over c, k, l of w[o, c, k, l] * x[b, c,
//! stride i + k - padding, stride j + l - padding]`
//!
//! The same of x after nearest-neighbour upsampling is one operation too
//! ([`Conv2dOptions::UPSAMPLE`]).

mod autodiff;
mod cases;
mod cpu;
mod reference;
mod shape;
mod tile;
mod upsample;
mod wgsl;

pub use cases::Conv2dOperation;
pub use tile::Tile;
pub use wgsl::f16_path;

use crate::kernels::choice::references;
use crate::kernels::launch::Work;
use crate::kernels::operand::Optional;
use crate::kernels::precision;
use crate::kernels::shader::Elem;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{Shape, Tensor, assert_shape};
use shape::ConvShape;

/// Distance between outputs, and zeros around the input, along both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// 1 or 2.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Whether every pixel of the input stands for 2x2 (for 3x3 kernels, stride 1 and padding 1).
    pub upsample: bool,
    /// The tile that GPUs use; without one, what fits the size. (A software adapter that is given
    /// one runs the shaders of GPUs.)
    pub tile: Option<Tile>,
    /// What x, the weight and the result's gradient are rounded to as factors of products; f16 maps
    /// are f16 anyway. (Every call sets it by the current precision.)
    pub factors: Elem,
}

impl Conv2dOptions {
    /// A 3x3 convolution, with padding 1, of the input upsampled to twice its height and width.
    pub const UPSAMPLE: Self =
        Self { stride: 1, padding: 1, upsample: true, tile: None, factors: Elem::F32 };

    /// A convolution with as many outputs as inputs, or one for every `stride` of them along each
    /// side.
    pub fn same(kernel: usize, stride: usize) -> Self {
        Self { stride, padding: kernel / 2, upsample: false, tile: None, factors: Elem::F32 }
    }
}

/// What one call takes.
#[derive(Clone, Debug, ExtensionType)]
pub struct Conv2dInputs<B: Backend> {
    /// `[B, C, H, W]`.
    pub x: FloatTensor<B>,
    /// `[O, C, K, K]`.
    pub weight: FloatTensor<B>,
    /// `[O]`. The backward pass doesn't look at it.
    #[extension_type]
    pub bias: Optional<B>,
    /// `[B, O, H', W']`. The backward pass doesn't look at it.
    #[extension_type]
    pub residual: Optional<B>,
    /// The constants.
    pub options: Conv2dOptions,
}

impl<B: Backend> Conv2dInputs<B> {
    /// Returns the same, each tensor by `change`.
    fn map<To: Backend>(
        self,
        change: impl Fn(FloatTensor<B>) -> FloatTensor<To>,
    ) -> Conv2dInputs<To> {
        let Self { x, weight, bias, residual, options } = self;
        let (bias, residual) = (bias.map(&change), residual.map(&change));
        Conv2dInputs { x: change(x), weight: change(weight), bias, residual, options }
    }
}

/// Those gradients of one call that were wanted. That of the residual is the result's.
#[derive(Clone, Debug, ExtensionType)]
pub struct Conv2dGradients<B: Backend> {
    /// `[B, C, H, W]`.
    #[extension_type]
    pub x: Optional<B>,
    /// `[O, C, K, K]`.
    #[extension_type]
    pub weight: Optional<B>,
    /// `[O]`.
    #[extension_type]
    pub bias: Optional<B>,
}

/// The operation on every backend: by default the reference.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait Conv2d: Backend {
    /// Computes [`conv2d`].
    fn forward(#[extension_type] inputs: Conv2dInputs<Self>) -> FloatTensor<Self> {
        reference::forward(inputs)
    }

    /// Computes those gradients of x, the weight and the bias that are `wanted` from `dy` `[B, O,
    /// H', W']`, that of the result.
    fn backward(
        dy: FloatTensor<Self>,
        #[extension_type] inputs: Conv2dInputs<Self>,
        wanted: [bool; 3],
    ) -> Conv2dGradients<Self> {
        reference::backward(dy, inputs, wanted)
    }
}

/// Convolves `x` `[B, C, H, W]` with `weight` `[O, C, K, K]` and adds `bias` `[O]` and `residual`
/// `[B, O, H', W']`. Returns `[B, O, H', W']` over NHWC memory. In half precision all of these but
/// the weight and the bias are feature maps of f16.
///
/// # Panics
/// If a shape doesn't fit, naming the operand.
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<4>>,
    options: Conv2dOptions,
) -> Tensor<4> {
    precision::map(product(precision::map(x), precision::factor(weight), bias, residual, options))
}

/// [`conv2d`], whose x and result stay of the type that they are.
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

/// Returns the sizes of a call with `x` of `dims`; of one that upsamples, those of the convolution
/// that it is the transpose of.
fn conv_shape(dims: [usize; 4], weight: &Shape, options: Conv2dOptions) -> ConvShape {
    let Conv2dOptions { stride, padding, upsample, .. } = options;
    if upsample {
        assert!(
            (weight[2], stride, padding) == (3, 1, 1),
            "conv2d: upsampling is for 3x3 kernels, stride 1 and padding 1"
        );
        return upsample::shape(dims, weight[0]);
    }
    let [batch, c_in, height, width] = dims;
    ConvShape { batch, c_in, c_out: weight[0], height, width, kernel: weight[2], stride, padding }
}

/// Returns `[B, O, H', W']` of a call with `x` of `dims`.
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
/// The gradients of x and of the weight take as much: two tensors are read, one is written, and the
/// operations are those of the direct algorithm, on the upsampled input where that is asked for.
/// (Other algorithms get by with fewer.)
pub fn pass_work(dims: [usize; 4], weight: [usize; 4], options: Conv2dOptions) -> Work {
    let [_, channels, kernel, _] = weight;
    let [x, y, weights] = [dims, out_dims(dims, &Shape::new(weight), options), weight]
        .map(|dims| dims.iter().product::<usize>());
    Work {
        operations: 2.0 * (y * channels * kernel * kernel) as f64,
        ..Work::floats(&[x, weights, y])
    }
}
