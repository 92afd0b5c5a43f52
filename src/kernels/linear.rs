//! Linear layers over the channels of feature maps and over vectors.

use super::choice::{cpu_kernels, references};
use super::conv2d::{self, Conv2dOptions, conv2d};
use super::layout;
use super::precision::{self, Precision};
use burn::nn::Linear;
use burn::tensor::Tensor;

/// Applies `layer` to `x` `[B, in, H, W]` over NHWC memory, as a 1x1 convolution, and adds
/// `residual` `[B, out, H, W]`, if there is one. Returns `[B, out, H, W]` over NHWC memory.
pub fn linear(layer: &Linear, x: Tensor<4>, residual: Option<Tensor<4>>) -> Tensor<4> {
    if references() && precision::current() == Precision::F32 {
        return layout::add(layer.forward(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2]), residual);
    }
    conv2d(
        x,
        kernel(layer),
        layer.bias.as_ref().map(|b| b.val()),
        residual,
        Conv2dOptions::same(1, 1),
    )
}

/// Returns the weights `[in, out]` as those of a 1x1 convolution, `[out, in, 1, 1]`.
fn kernel(layer: &Linear) -> Tensor<4> {
    let weight = layer.weight.val();
    let [from, to] = weight.dims();
    // Permutes the axes: a reshape of the transpose would copy it.
    weight.reshape([from, to, 1, 1]).permute([1, 0, 2, 3])
}

/// Applies `layer` to `x` `[B, in]` and adds `offset` `[B, out]`, if there is one. Returns
/// `[B, out]`. On the CPU backend this is Burn's matrix product, on wgpu devices a convolution of
/// one pixel (without autotune, Burn's product there is a naive one, and it takes three more
/// shaders to compile). In half precision the vectors stay f32, but the factors of the product are
/// rounded.
pub fn dense(layer: &Linear, x: Tensor<2>, offset: Option<Tensor<2>>) -> Tensor<2> {
    let [batch, from] = x.dims();
    if references() || cpu_kernels(&x.device()) {
        let y = match precision::current() {
            Precision::F32 => layer.forward(x),
            Precision::F16 => rounded(layer, x),
        };
        return match offset {
            Some(offset) => y + offset,
            None => y,
        };
    }
    // As a residual, the offset costs no launch of its own.
    let offset = offset.map(|offset| {
        let [_, to] = offset.dims();
        offset.reshape([batch, to, 1, 1])
    });
    let bias = layer.bias.as_ref().map(|b| b.val());
    let y = conv2d::product(
        x.reshape([batch, from, 1, 1]),
        kernel(layer),
        bias,
        offset,
        Conv2dOptions::same(1, 1),
    );
    let to = y.dims()[1];
    y.reshape([batch, to])
}

/// Applies `layer` to `x` `[B, in]` by Burn's product of factors rounded to f16, in both passes.
/// Returns `[B, out]`.
fn rounded(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    let y = precision::factor(x).matmul(precision::factor(layer.weight.val()));
    let y = precision::gradient(y);
    match &layer.bias {
        Some(bias) => y + bias.val().unsqueeze(),
        None => y,
    }
}
