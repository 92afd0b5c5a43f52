//! The denoiser's building blocks.

use super::modulation::scale_shift;
use crate::config::{AdaGnScale, UNetConfig};
use crate::kernels::ada_gn::{Activation, AdaGnOptions, Dropout, ada_gn, group_norm};
use crate::kernels::attention::attention;
use crate::kernels::conv2d::{Conv2dOptions, conv2d};
use crate::kernels::layout;
use crate::kernels::linear::linear;
use crate::rng;
use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

/// Creates a 3x3 convolution with padding 1.
pub(super) fn conv3x3(
    from: usize,
    to: usize,
    stride: usize,
    bias: bool,
    device: &Device,
) -> Conv2d {
    padded(3, from, to, stride, bias, device)
}

/// Creates a 7x7 convolution with padding 3, without a bias.
pub(super) fn conv7x7(from: usize, to: usize, stride: usize, device: &Device) -> Conv2d {
    padded(7, from, to, stride, false, device)
}

/// Creates a convolution whose padding keeps the side, apart from the stride; `kernel` is odd.
fn padded(
    kernel: usize,
    from: usize,
    to: usize,
    stride: usize,
    bias: bool,
    device: &Device,
) -> Conv2d {
    let padding = kernel / 2;
    Conv2dConfig::new([from, to], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
        .with_bias(bias)
        .init(device)
}

/// Creates a 1x1 convolution.
pub(super) fn conv1x1(
    from: usize,
    to: usize,
    stride: usize,
    bias: bool,
    device: &Device,
) -> Conv2d {
    Conv2dConfig::new([from, to], [1, 1]).with_stride([stride, stride]).with_bias(bias).init(device)
}

/// Applies the convolution `layer`.
pub(super) fn convolve(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    convolve_add(layer, x, None)
}

/// Applies the convolution `layer` and adds `residual`.
fn convolve_add(layer: &Conv2d, x: Tensor<4>, residual: Option<Tensor<4>>) -> Tensor<4> {
    let options = Conv2dOptions::same(layer.kernel_size[0], layer.stride[0]);
    conv2d(x, layer.weight.val(), layer.bias.as_ref().map(|b| b.val()), residual, options)
}

/// Applies the 3x3 convolution `layer` to `x` upsampled to twice its size.
pub(super) fn upsample_convolve(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    conv2d(
        x,
        layer.weight.val(),
        layer.bias.as_ref().map(|b| b.val()),
        None,
        Conv2dOptions::UPSAMPLE,
    )
}

/// The dropout of one forward pass in training; each layer derives its own mask from `key`.
#[derive(Clone, Copy, Debug)]
pub struct DropoutPass {
    /// Probability of zeroing.
    pub p: f32,
    /// Random key of this step.
    pub key: u64,
}

impl DropoutPass {
    fn layer(self, layer: usize) -> Dropout {
        let key = rng::pair(self.key, layer as u64);
        Dropout { p: self.p, key: [key as u32, (key >> 32) as u32] }
    }
}

/// The affine parameters of a GroupNorm; the operation is
/// [`kernels::ada_gn`](crate::kernels::ada_gn).
#[derive(Module, Debug)]
pub struct GroupNorm {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
    #[module(skip)]
    groups: usize,
}

impl GroupNorm {
    const EPS: f32 = 1e-5;

    /// Creates a GroupNorm with gamma = 1 and beta = 0.
    pub fn new(groups: usize, channels: usize, device: &Device) -> Self {
        Self {
            gamma: Initializer::Ones.init([channels], device),
            beta: Initializer::Zeros.init([channels], device),
            groups,
        }
    }

    fn options(&self, activation: Activation, dropout: Option<Dropout>) -> AdaGnOptions {
        AdaGnOptions { groups: self.groups, eps: Self::EPS, activation, dropout }
    }

    /// Returns activation(GN(x)), `[B, C, H, W]`.
    pub fn forward(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        group_norm(x, self.gamma.val(), self.beta.val(), self.options(activation, None))
    }

    /// Returns dropout(SiLU(z_s * (t_s * GN(x) + t_b) + z_b)); `t` and `z` are `[B, 2C]`.
    pub fn modulated(
        &self,
        x: Tensor<4>,
        t: Tensor<2>,
        z: Tensor<2>,
        dropout: Option<Dropout>,
    ) -> Tensor<4> {
        ada_gn(x, t, z, self.gamma.val(), self.beta.val(), self.options(Activation::Silu, dropout))
    }
}

/// A residual block: GN, SiLU, conv, AdaGN by t and z, SiLU, dropout, conv, plus the shortcut.
#[derive(Module, Debug)]
pub struct ResBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Linear,
    z: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
    #[module(skip)]
    convention: AdaGnScale,
    #[module(skip)]
    layer: usize,
}

impl ResBlock {
    /// Creates a block. `z_dim` is the length of the vector that modulates it, z or a section of
    /// z; `layer` is the block's index within the network, which selects its dropout stream.
    pub fn new(
        from: usize,
        to: usize,
        z_dim: usize,
        config: &UNetConfig,
        layer: usize,
        device: &Device,
    ) -> Self {
        Self {
            norm1: GroupNorm::new(config.groups, from, device),
            conv1: conv3x3(from, to, 1, true, device),
            time: LinearConfig::new(4 * config.base, 2 * to).init(device),
            z: LinearConfig::new(z_dim, 2 * to).init(device),
            norm2: GroupNorm::new(config.groups, to, device),
            conv2: conv3x3(to, to, 1, true, device),
            shortcut: (from != to).then(|| conv1x1(from, to, 1, true, device)),
            convention: config.ada_gn,
            layer,
        }
    }

    /// Maps `x` `[B, from, H, W]` to `[B, to, H, W]`, modulated by `time` `[B, 4 * base]` and `z`
    /// `[B, Z]`, both after their SiLU.
    pub fn forward(
        &self,
        x: Tensor<4>,
        time: Tensor<2>,
        z: Tensor<2>,
        dropout: Option<DropoutPass>,
    ) -> Tensor<4> {
        let (x, skip) = layout::fork(x);
        let h = convolve(&self.conv1, self.norm1.forward(x, Activation::Silu));
        let dropout = dropout.map(|pass| pass.layer(self.layer));
        let t_mod = scale_shift(&self.time, time, self.convention);
        let z_mod = scale_shift(&self.z, z, self.convention);
        let h = self.norm2.modulated(h, t_mod, z_mod, dropout);
        let shortcut = match &self.shortcut {
            Some(conv) => convolve(conv, skip),
            None => skip,
        };
        convolve_add(&self.conv2, h, Some(shortcut))
    }
}

/// Single-head self-attention over the pixels of a feature map, with a residual connection.
#[derive(Module, Debug)]
pub struct Attention {
    norm: GroupNorm,
    qkv: Linear,
    out: Linear,
}

impl Attention {
    /// Creates attention over `channels` channels.
    pub fn new(channels: usize, groups: usize, device: &Device) -> Self {
        Self {
            norm: GroupNorm::new(groups, channels, device),
            qkv: LinearConfig::new(channels, 3 * channels).init(device),
            out: LinearConfig::new(channels, channels).init(device),
        }
    }

    /// Maps `[B, C, H, W]` to the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (x, skip) = layout::fork(x);
        let qkv = linear(&self.qkv, self.norm.forward(x, Activation::None), None);
        linear(&self.out, attention(qkv), Some(skip))
    }
}
