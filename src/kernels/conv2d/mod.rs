//! 2-d convolution with zero padding, on NHWC memory: our own kernels on the CPU backend and in WGSL.
//!
//! `y[b, o, i, j] = bias[o] + residual[b, o, i, j] + sum over c, k, l of w[o, c, k, l] * x[b, c, stride i + k - padding, stride j + l - padding]`

mod autodiff;
pub mod cpu;
mod cpu_gather;
mod cpu_tiles;
mod cpu_weights;
mod cpu_winograd;
mod cpu_winograd_weights;
mod gpu;
mod taps;
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
    if let Some(residual) = &residual {
        let size = shape([batch, channels, height, width], &weight.shape(), options);
        assert_shape!(residual, [batch, out, size.out_height(), size.out_width()]);
    }
    if references() {
        return reference(x, weight, bias, residual, options);
    }
    // Without a bias: zeros that nothing is learnt for.
    let bias = bias.unwrap_or_else(|| Tensor::zeros([out], &x.device()));
    assert_shape!(bias, [out]);
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
    let Conv2dOptions { stride, padding } = options;
    let y = burn::tensor::module::conv2d(x, weight, bias, ConvOptions::new([stride, stride], [padding, padding], [1, 1], 1));
    layout::add(y, residual)
}

/// The differentiable operation, routed to the backend of its tensors.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait Conv2dOp: burn::backend::Backend {
    /// See [`conv2d`].
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

fn shape([batch, c_in, height, width]: [usize; 4], weight: &Shape, options: Conv2dOptions) -> ConvShape {
    let Conv2dOptions { stride, padding } = options;
    ConvShape { batch, c_in, c_out: weight[0], height, width, kernel: weight[2], stride, padding }
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
    let dims = [shape.batch, shape.c_out, shape.out_height(), shape.out_width()];
    let mut y = Buffer::new(dims.iter().product());
    let residual = residual.as_ref().map(FlexImage::values);
    cpu::forward(&shape, x.values(), flex_values(&weight), Some(flex_values(&bias)), residual, &mut y);
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
        cpu::grad_input(&shape(dims, weight.layout().shape(), options), dy.values(), flex_values(&weight), &mut dx);
        FlexImage::tensor(dx, dims)
    }

    fn grad_weight(x: FlexTensor, dy: FlexTensor, weight: Shape, options: Conv2dOptions) -> FlexTensor {
        let _timer = profile::timer("conv2d grad_weight");
        let (x, dy) = (FlexImage::new(x), FlexImage::new(dy));
        let mut dw = Buffer::new(weight.num_elements());
        cpu::grad_weight(&shape(x.dims, &weight, options), x.values(), dy.values(), &mut dw);
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
