//! Linear layers over the channels of feature maps.

use super::choice::references;
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
    let weight = weight.transpose().reshape([to, from, 1, 1]);
    conv2d(x, weight, layer.bias.as_ref().map(|b| b.val()), residual, Conv2dOptions { stride: 1, padding: 0 })
}
