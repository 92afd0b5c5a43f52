//! 2-d convolution with zero padding, on NHWC memory: our own kernels on the CPU backend and in WGSL.
//!
//! `y[b, o, i, j] = bias[o] + residual[b, o, i, j] + sum over c, k, l of w[o, c, k, l] * x[b, c, stride i + k - padding, stride j + l - padding]`
//!
//! The same of x after nearest-neighbour upsampling is one operation too ([`Conv2dOptions::UPSAMPLE`]).

mod autodiff;
pub mod cpu;
mod cpu_gather;
mod cpu_tiles;
mod cpu_weights;
mod cpu_winograd;
mod cpu_winograd_weights;
mod gpu;
mod taps;
mod upsample;
pub mod wgsl;

use crate::kernels::buffers::Buffer;
use crate::kernels::choice::references;
use crate::kernels::layout::{self, FlexImage, flex_values};
use crate::kernels::profile;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, backend_extension};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Shape, Tensor, assert_shape};
use burn_flex::{Flex, FlexTensor};
use cpu::ConvShape;

/// Distance between outputs, and zeros around the input, along both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// 1 or 2.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Whether every pixel of the input stands for 2x2 (for 3x3 kernels, stride 1 and padding 1).
    pub upsample: bool,
}

impl Conv2dOptions {
    /// A 3x3 convolution, with padding 1, of the input upsampled to twice its height and width.
    pub const UPSAMPLE: Self = Self { stride: 1, padding: 1, upsample: true };

    /// A convolution with as many outputs as inputs, or one for every `stride` of them along each side.
    pub fn same(kernel: usize, stride: usize) -> Self {
        Self { stride, padding: kernel / 2, upsample: false }
    }
}

/// `x` `[B, C, H, W]`, `weight` `[O, C, K, K]`, `bias` `[O]`, `residual` `[B, O, H', W']`; returns `[B, O, H', W']` over NHWC
/// memory.
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
    let [batch, channels, height, width] = x.dims();
    let [out, _, kernel, _] = weight.dims();
    assert_shape!(weight, [out, channels, kernel, kernel]);
    let [_, _, out_height, out_width] = out_dims([batch, channels, height, width], &weight.shape(), options);
    if let Some(residual) = &residual {
        assert_shape!(residual, [batch, out, out_height, out_width]);
    }
    if references() {
        return reference(x, weight, bias, residual, options);
    }
    if let Some(bias) = &bias {
        assert_shape!(bias, [out]);
    }
    // No numbers: no bias. (Operations on every backend take no `Option`.)
    let bias = bias.unwrap_or_else(|| Tensor::empty([0], &x.device()));
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(match residual {
        Some(residual) => <Dispatch as Conv2dOp>::tiled_conv2d_add(x, weight, bias, residual.into_dispatch(), options),
        None => <Dispatch as Conv2dOp>::tiled_conv2d(x, weight, bias, options),
    })
}

/// Burn's own convolution: the oracle of our kernels.
pub fn reference(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<4>>,
    options: Conv2dOptions,
) -> Tensor<4> {
    let Conv2dOptions { stride, padding, .. } = options;
    let x = if options.upsample { upsample::reference(x) } else { x };
    let y = burn::tensor::module::conv2d(x, weight, bias, ConvOptions::new([stride, stride], [padding, padding], [1, 1], 1));
    layout::add(y, residual)
}

/// The differentiable operation, routed to the backend of its tensors.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait Conv2dOp: burn::backend::Backend {
    /// See [`conv2d`]; without a bias `bias` is `[0]`.
    fn tiled_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    /// As [`tiled_conv2d`](Conv2dOp::tiled_conv2d), with a residual added.
    fn tiled_conv2d_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;
}

/// What a backend without autodiff implements for the gradients; a gradient that nobody wants isn't computed.
pub(crate) trait Conv2dGradients: burn::backend::Backend {
    fn grad_input(dy: FloatTensor<Self>, weight: FloatTensor<Self>, input: Shape, options: Conv2dOptions) -> FloatTensor<Self>;

    fn grad_weight(x: FloatTensor<Self>, dy: FloatTensor<Self>, weight: Shape, options: Conv2dOptions) -> FloatTensor<Self>;

    fn grad_bias(dy: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The sizes of a call with `x` of `dims`; of one that upsamples, those of the convolution that it is the transpose of.
fn shape(dims: [usize; 4], weight: &Shape, options: Conv2dOptions) -> ConvShape {
    let Conv2dOptions { stride, padding, upsample } = options;
    if upsample {
        assert!((weight[2], stride, padding) == (3, 1, 1), "conv2d: upsampling is for 3x3 kernels, stride 1 and padding 1");
        return upsample::shape(dims, weight[0]);
    }
    let [batch, c_in, height, width] = dims;
    ConvShape { batch, c_in, c_out: weight[0], height, width, kernel: weight[2], stride, padding }
}

/// `[B, O, H', W']` of a call with `x` of `dims`.
fn out_dims(dims: [usize; 4], weight: &Shape, options: Conv2dOptions) -> [usize; 4] {
    let shape = shape(dims, weight, options);
    let [height, width] = if options.upsample { [shape.height, shape.width] } else { [shape.out_height(), shape.out_width()] };
    [dims[0], weight[0], height, width]
}

fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    residual: Option<FlexTensor>,
    options: Conv2dOptions,
) -> FlexTensor {
    let _timer = profile::timer("conv2d forward");
    let (x, weight, bias) = (FlexImage::new(x), weight.to_contiguous(), bias.to_contiguous());
    let residual = residual.map(FlexImage::new);
    let shape = shape(x.dims, weight.layout().shape(), options);
    let dims = out_dims(x.dims, weight.layout().shape(), options);
    let mut y = Buffer::new(dims.iter().product());
    let bias = Some(flex_values(&bias)).filter(|bias| !bias.is_empty());
    let residual = residual.as_ref().map(FlexImage::values);
    if options.upsample {
        let v = upsample::kernel(flex_values(&weight), x.dims[1]);
        cpu::transposed(&shape, x.values(), &v, bias, residual, &mut y);
    } else {
        cpu::forward(&shape, x.values(), flex_values(&weight), bias, residual, &mut y);
    }
    FlexImage::tensor(y, dims)
}

impl Conv2dOp for Flex {
    fn tiled_conv2d(x: FlexTensor, weight: FlexTensor, bias: FlexTensor, options: Conv2dOptions) -> FlexTensor {
        forward(x, weight, bias, None, options)
    }

    fn tiled_conv2d_add(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        options: Conv2dOptions,
    ) -> FlexTensor {
        forward(x, weight, bias, Some(residual), options)
    }
}

impl Conv2dGradients for Flex {
    fn grad_input(dy: FlexTensor, weight: FlexTensor, input: Shape, options: Conv2dOptions) -> FlexTensor {
        let _timer = profile::timer("conv2d grad_input");
        let (dy, weight) = (FlexImage::new(dy), weight.to_contiguous());
        let dims = [input[0], input[1], input[2], input[3]];
        let mut dx = Buffer::new(dims.iter().product());
        let (shape, w) = (shape(dims, weight.layout().shape(), options), flex_values(&weight));
        if options.upsample {
            cpu::forward(&shape, dy.values(), &upsample::kernel(w, dims[1]), None, None, &mut dx);
        } else {
            cpu::transposed(&shape, dy.values(), w, None, None, &mut dx);
        }
        FlexImage::tensor(dx, dims)
    }

    fn grad_weight(x: FlexTensor, dy: FlexTensor, weight: Shape, options: Conv2dOptions) -> FlexTensor {
        let _timer = profile::timer("conv2d grad_weight");
        let (x, dy) = (FlexImage::new(x), FlexImage::new(dy));
        let mut dw = Buffer::new(weight.num_elements());
        let shape = shape(x.dims, &weight, options);
        if options.upsample {
            let mut dv = Buffer::new(shape.c_in * shape.c_out * 16);
            cpu::grad_weight(&shape, dy.values(), x.values(), &mut dv);
            upsample::kernel_gradient(&dv, x.dims[1], &mut dw);
        } else {
            cpu::grad_weight(&shape, x.values(), dy.values(), &mut dw);
        }
        dw.tensor(weight)
    }

    fn grad_bias(dy: FlexTensor) -> FlexTensor {
        let _timer = profile::timer("conv2d grad_bias");
        let dy = FlexImage::new(dy);
        let [batch, c_out, height, width] = dy.dims;
        // Only dy's own shape matters here: a 1x1 convolution has it on both sides.
        let shape = ConvShape { batch, c_in: 1, c_out, height, width, kernel: 1, stride: 1, padding: 0 };
        let mut db = Buffer::new(c_out);
        cpu::grad_bias(&shape, dy.values(), &mut db);
        db.tensor(Shape::new([c_out]))
    }
}
