//! 2-d convolution and its gradients on the CPU, over f32 slices in NHWC order.
//!
//! No im2col: 3x3 kernels of stride 1 over enough channels and pixels use minimal filtering
//! (`winograd`). All others are direct: blocks of output channels times pixels stay in vector
//! registers while the loop runs over taps and input channels. Work is split so that threads share
//! no sum: results are identical for any number of them.

mod direct;
mod grad_weight;
mod operands;
mod outer;
#[cfg(test)]
mod tests;
mod tiles;
mod winograd;
mod winograd_weights;

use super::shape::ConvShape;
use super::{
    Conv2d, Conv2dGradients, Conv2dInputs, Conv2dOptions, conv_shape, out_dims, pass_work, upsample,
};
use crate::kernels::buffers::Buffer;
use crate::kernels::layout::{FlexImage, flex_dims, flex_values};
use crate::kernels::moments::Sums;
use crate::kernels::operand::Optional;
use crate::kernels::simd::{Path, vectorised};
use crate::kernels::timer::timer;
use crate::kernels::work::Work;
use burn::tensor::Shape;
use burn_flex::{Flex, FlexTensor};
use direct::{Axis, Gather};
use operands::{Operands, Weights};
use rayon::prelude::*;
use winograd::Winograd;

/// Returns the faster algorithm, if it applies and pays.
fn winograd(shape: &ConvShape, source_channels: usize, out_channels: usize) -> Option<Winograd> {
    let ConvShape { batch, height, width, .. } = *shape;
    let winograd = Winograd { batch, height, width, source_channels, out_channels };
    ((shape.kernel, shape.stride, shape.padding) == (3, 1, 1) && winograd.pays())
        .then_some(winograd)
}

fn check(what: &str, len: usize, expected: usize, shape: &ConvShape) {
    assert_eq!(len, expected, "conv2d: the length of {what} doesn't fit {shape:?}");
}

/// Computes y = x * w + bias + residual: `x` `[batch, height, width, c_in]`, `w` `[c_out, c_in,
/// kernel]`, `bias` `[c_out]`, `residual` and `y` `[batch, out_height, out_width, c_out]`, `y`
/// overwritten.
///
/// # Panics
/// If a slice's length doesn't fit `shape`, or the kernel is larger than the padded image.
fn forward(
    shape: &ConvShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    y: &mut [f32],
) {
    forward_on(Path::best(), shape, x, w, bias, residual, y);
}

fn forward_on(
    path: Path,
    shape: &ConvShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    y: &mut [f32],
) {
    check("x", x.len(), shape.inputs_len(), shape);
    check("w", w.len(), shape.weights_len(), shape);
    check("y", y.len(), shape.outputs_len(), shape);
    check("bias", bias.map_or(shape.c_out, <[f32]>::len), shape.c_out, shape);
    check("residual", residual.map_or(y.len(), <[f32]>::len), y.len(), shape);
    let weights = Weights { values: w, c_in: shape.c_in, taps: shape.taps(), transposed: false };
    let operands = Operands { source: x, weights, bias, residual };
    if let Some(winograd) = winograd(shape, shape.c_in, shape.c_out) {
        return winograd.run(path, &operands, y);
    }
    let axis =
        |inputs, outputs| Axis::forward(inputs, outputs, shape.kernel, shape.stride, shape.padding);
    let gather = Gather {
        batch: shape.batch,
        source_channels: shape.c_in,
        out_channels: shape.c_out,
        rows: axis(shape.height, shape.out_height()),
        cols: axis(shape.width, shape.out_width()),
    };
    gather.run(path, &operands, y);
}

/// Computes the gradient of the input, with a bias and a residual where it serves as an operation
/// of its own (a transposed convolution): `dy` `[batch, out_height, out_width, c_out]`, `w`
/// `[c_out, c_in, kernel, kernel]`, `bias` `[c_in]`, `residual` and `dx`
/// `[batch, height, width, c_in]`, `dx` overwritten.
///
/// # Panics
/// If a slice's length doesn't fit `shape`, or the kernel is larger than the padded image.
fn transposed(
    shape: &ConvShape,
    dy: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    dx: &mut [f32],
) {
    transposed_on(Path::best(), shape, dy, w, bias, residual, dx);
}

fn transposed_on(
    path: Path,
    shape: &ConvShape,
    dy: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    dx: &mut [f32],
) {
    check("dy", dy.len(), shape.outputs_len(), shape);
    check("w", w.len(), shape.weights_len(), shape);
    check("dx", dx.len(), shape.inputs_len(), shape);
    check("bias", bias.map_or(shape.c_in, <[f32]>::len), shape.c_in, shape);
    check("residual", residual.map_or(dx.len(), <[f32]>::len), dx.len(), shape);
    let weights = Weights { values: w, c_in: shape.c_in, taps: shape.taps(), transposed: true };
    let operands = Operands { source: dy, weights, bias, residual };
    if let Some(winograd) = winograd(shape, shape.c_out, shape.c_in) {
        return winograd.run(path, &operands, dx);
    }
    let axis = |inputs, outputs| {
        Axis::backward(outputs, inputs, shape.kernel, shape.stride, shape.padding)
    };
    let gather = Gather {
        batch: shape.batch,
        source_channels: shape.c_out,
        out_channels: shape.c_in,
        rows: axis(shape.height, shape.out_height()),
        cols: axis(shape.width, shape.out_width()),
    };
    gather.run(path, &operands, dx);
}

/// Computes the gradient of the weights: `x` `[batch, height, width, c_in]`, `dy`
/// `[batch, out_height, out_width, c_out]`, `dw` `[c_out, c_in, kernel, kernel]`, overwritten.
///
/// # Panics
/// If a slice's length doesn't fit `shape`, or the kernel is larger than the padded image.
fn grad_weight(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    grad_weight_on(Path::best(), shape, x, dy, dw);
}

fn grad_weight_on(path: Path, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    check("x", x.len(), shape.inputs_len(), shape);
    check("dy", dy.len(), shape.outputs_len(), shape);
    check("dw", dw.len(), shape.weights_len(), shape);
    if let Some(winograd) =
        winograd(shape, shape.c_in, shape.c_out).filter(Winograd::pays_for_weights)
    {
        return winograd_weights::grad_weight(path, &winograd, x, dy, dw);
    }
    if !dw.is_empty() {
        grad_weight::grad_weight(path, shape, x, dy, dw);
    }
}

/// Computes the gradient of the bias: `dy` `[batch, out_height, out_width, c_out]` is summed over
/// all pixels into `db` `[c_out]`, which is overwritten.
///
/// # Panics
/// If a slice's length doesn't fit `shape`, or the kernel is larger than the padded image.
fn grad_bias(shape: &ConvShape, dy: &[f32], db: &mut [f32]) {
    check("dy", dy.len(), shape.outputs_len(), shape);
    check("db", db.len(), shape.c_out, shape);
    if dy.is_empty() {
        return db.fill(0.0);
    }
    // One partial sum per image, added in the order of the images.
    let zeros = vec![0.0; shape.c_out];
    let images: Vec<_> = dy
        .par_chunks(dy.len() / shape.batch)
        .map(|dy| vectorised::<Sums, _>((dy, &zeros)))
        .collect();
    for (c, db) in db.iter_mut().enumerate() {
        *db = images.iter().map(|[sums, _]| f64::from(sums[c])).sum::<f64>() as f32;
    }
}

impl Conv2d for Flex {
    fn forward(inputs: Conv2dInputs<Self>) -> FlexTensor {
        let _timer = timer("conv2d forward", || {
            work(flex_dims(&inputs.x), inputs.weight.layout().shape(), inputs.options)
        });
        let Conv2dInputs { x, weight, bias, residual, options } = inputs;
        let (x, weight) = (FlexImage::new(x), weight.to_contiguous());
        let bias = bias.into_option().map(|bias| bias.to_contiguous());
        let residual = residual.into_option().map(FlexImage::new);
        let shape = conv_shape(x.dims, weight.layout().shape(), options);
        let dims = out_dims(x.dims, weight.layout().shape(), options);
        let mut y = Buffer::new(dims.iter().product());
        let (bias, residual) =
            (bias.as_ref().map(flex_values), residual.as_ref().map(FlexImage::values));
        if options.upsample {
            let v = upsample::kernel(flex_values(&weight), x.dims[1]);
            transposed(&shape, x.values(), &v, bias, residual, &mut y);
        } else {
            forward(&shape, x.values(), flex_values(&weight), bias, residual, &mut y);
        }
        FlexImage::tensor(y, dims)
    }

    fn backward(
        dy: FlexTensor,
        inputs: Conv2dInputs<Self>,
        wanted: [bool; 3],
    ) -> Conv2dGradients<Self> {
        let Conv2dInputs { x, weight, options, .. } = inputs;
        let (x_shape, weight_shape) = (x.layout().shape().clone(), weight.layout().shape().clone());
        let dims = [x_shape[0], x_shape[1], x_shape[2], x_shape[3]];
        let [of_x, of_weight, of_bias] = wanted;
        // x, which is large, is released as soon as it is no longer needed.
        let dw = of_weight.then(|| weight_gradient(x, dy.clone(), weight_shape, options));
        let dx = of_x.then(|| input_gradient(dy.clone(), weight, dims, options));
        let db = of_bias.then(|| bias_gradient(dy));
        Conv2dGradients { x: Optional::new(dx), weight: Optional::new(dw), bias: Optional::new(db) }
    }
}

fn work(dims: [usize; 4], weight: &Shape, options: Conv2dOptions) -> Work {
    pass_work(dims, [weight[0], weight[1], weight[2], weight[3]], options)
}

/// Computes the gradient of x, whose shape is `dims`.
fn input_gradient(
    dy: FlexTensor,
    weight: FlexTensor,
    dims: [usize; 4],
    options: Conv2dOptions,
) -> FlexTensor {
    let _timer = timer("conv2d grad_input", || work(dims, weight.layout().shape(), options));
    let (dy, weight) = (FlexImage::new(dy), weight.to_contiguous());
    let mut dx = Buffer::new(dims.iter().product());
    let (shape, w) = (conv_shape(dims, weight.layout().shape(), options), flex_values(&weight));
    if options.upsample {
        forward(&shape, dy.values(), &upsample::kernel(w, dims[1]), None, None, &mut dx);
    } else {
        transposed(&shape, dy.values(), w, None, None, &mut dx);
    }
    FlexImage::tensor(dx, dims)
}

/// Computes the gradient of the weight, whose shape is `weight`.
fn weight_gradient(
    x: FlexTensor,
    dy: FlexTensor,
    weight: Shape,
    options: Conv2dOptions,
) -> FlexTensor {
    let _timer = timer("conv2d grad_weight", || work(flex_dims(&x), &weight, options));
    let (x, dy) = (FlexImage::new(x), FlexImage::new(dy));
    let mut dw = Buffer::new(weight.num_elements());
    let shape = conv_shape(x.dims, &weight, options);
    if options.upsample {
        let mut dv = Buffer::new(shape.weights_len());
        grad_weight(&shape, dy.values(), x.values(), &mut dv);
        upsample::kernel_gradient(&dv, x.dims[1], &mut dw);
    } else {
        grad_weight(&shape, x.values(), dy.values(), &mut dw);
    }
    dw.tensor(weight)
}

fn bias_gradient(dy: FlexTensor) -> FlexTensor {
    let _timer = timer("conv2d grad_bias", || Work::floats(&[dy.layout().shape().num_elements()]));
    let dy = FlexImage::new(dy);
    let [batch, c_out, height, width] = dy.dims;
    // Only the shape of dy matters here; a 1x1 convolution has it on both sides.
    let shape =
        ConvShape { batch, c_in: 1, c_out, height, width, kernel: 1, stride: 1, padding: 0 };
    let mut db = Buffer::new(c_out);
    grad_bias(&shape, dy.values(), &mut db);
    db.tensor(Shape::new([c_out]))
}
