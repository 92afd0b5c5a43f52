//! Linear layers over the channels of feature maps and over vectors.

use super::choice::{cpu_kernels, references};
use super::conv2d::{Conv2dOptions, conv2d};
use super::layout;
use burn::nn::Linear;
use burn::tensor::Tensor;

/// `x` `[B, in, H, W]` over NHWC memory to `[B, out, H, W]` over NHWC memory, as a 1x1 convolution. `residual` `[B, out, H, W]`
/// is added.
pub fn linear(layer: &Linear, x: Tensor<4>, residual: Option<Tensor<4>>) -> Tensor<4> {
    if references() {
        return layout::add(layer.forward(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2]), residual);
    }
    let weight = layer.weight.val();
    let [from, to] = weight.dims();
    // Axes change their places: a reshape of the transpose would copy it.
    let weight = weight.reshape([from, to, 1, 1]).permute([1, 0, 2, 3]);
    conv2d(x, weight, layer.bias.as_ref().map(|b| b.val()), residual, Conv2dOptions::same(1, 1))
}

/// `x` `[B, in]` to `[B, out]`, plus `offset` `[B, out]`, if there is one: on the CPU backend Burn's matrix product; on wgpu devices
/// a convolution of one pixel (without autotune, Burn's product there is a naive one, and three more shaders to compile).
pub fn dense(layer: &Linear, x: Tensor<2>, offset: Option<Tensor<2>>) -> Tensor<2> {
    let [batch, from] = x.dims();
    if references() || cpu_kernels(&x.device()) {
        let y = layer.forward(x);
        return match offset {
            Some(offset) => y + offset,
            None => y,
        };
    }
    // As a residual it costs no launch of its own.
    let offset = offset.map(|offset| {
        let [_, to] = offset.dims();
        offset.reshape([batch, to, 1, 1])
    });
    let y = linear(layer, x.reshape([batch, from, 1, 1]), offset);
    let to = y.dims()[1];
    y.reshape([batch, to])
}
