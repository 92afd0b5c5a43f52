//! The encoder: ResNet-18 (He et al. 2015), then a linear layer to z. Its stem is a 3x3 convolution
//! for small images, or torchvision's for larger ones: 7x7 with stride 2, and a max-pool.

use super::blocks::{conv1x1, conv3x3, conv7x7, convolve};
use crate::config::{EncoderConfig, Stem};
use crate::kernels::batch_norm::batch_norm;
use crate::kernels::layout;
use crate::kernels::linear::dense;
use crate::kernels::max_pool::max_pool;
use crate::kernels::pixel_mean::pixel_mean;
use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

/// Added to the mean square of z, so that a z of zeros isn't divided by zero.
pub(super) const SMALLEST_SQUARE: f32 = 1e-12;

/// A residual block: two 3x3 convolutions with BatchNorm, and a shortcut.
#[derive(Module, Debug)]
pub struct BasicBlock {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    shortcut: Option<Conv2d>,
    shortcut_norm: Option<BatchNorm>,
}

impl BasicBlock {
    fn new(from: usize, to: usize, stride: usize, device: &Device) -> Self {
        let reshapes = from != to || stride != 1;
        Self {
            conv1: conv3x3(from, to, stride, false, device),
            norm1: BatchNormConfig::new(to).init(device),
            conv2: conv3x3(to, to, 1, false, device),
            norm2: BatchNormConfig::new(to).init(device),
            shortcut: reshapes.then(|| conv1x1(from, to, stride, false, device)),
            shortcut_norm: reshapes.then(|| BatchNormConfig::new(to).init(device)),
        }
    }

    /// Maps `[B, from, H, W]` to `[B, to, H / stride, W / stride]`, rounded up.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (x, skip) = layout::fork(x);
        let h = batch_norm(&self.norm1, convolve(&self.conv1, x), None, true);
        let shortcut = match (&self.shortcut, &self.shortcut_norm) {
            (Some(conv), Some(norm)) => batch_norm(norm, convolve(conv, skip), None, false),
            _ => skip,
        };
        batch_norm(&self.norm2, convolve(&self.conv2, h), Some(shortcut), true)
    }
}

/// The network that maps an image to z.
#[derive(Module, Debug)]
pub struct Encoder {
    stem: Conv2d,
    stem_norm: BatchNorm,
    blocks: Vec<BasicBlock>,
    head: Linear,
    #[module(skip)]
    pools: bool,
    #[module(skip)]
    normalise_z: bool,
}

impl Encoder {
    /// Creates an encoder of four stages of two blocks with 1, 2, 4 and 8 times `config.base`
    /// channels; z has `z_dim` dimensions.
    pub fn new(config: &EncoderConfig, z_dim: usize, device: &Device) -> Self {
        let mut channels = config.base;
        let mut blocks = Vec::new();
        for stage in 0..4 {
            let width = config.base << stage;
            for block in 0..2 {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(BasicBlock::new(channels, width, stride, device));
                channels = width;
            }
        }
        Self {
            stem: match config.stem {
                Stem::Conv3x3 => conv3x3(3, config.base, 1, false, device),
                Stem::Conv7x7 => conv7x7(3, config.base, 2, device),
            },
            stem_norm: BatchNormConfig::new(config.base).init(device),
            blocks,
            head: LinearConfig::new(channels, z_dim).init(device),
            pools: config.stem == Stem::Conv7x7,
            normalise_z: config.normalise_z,
        }
    }

    /// Returns the pooled vector before the last layer: normalised images `[B, 3, side, side]` to
    /// `[B, 8 * base]`.
    pub fn backbone(&self, x: Tensor<4>) -> Tensor<2> {
        let mut h = batch_norm(&self.stem_norm, convolve(&self.stem, x), None, true);
        if self.pools {
            h = max_pool(h);
        }
        for block in &self.blocks {
            h = block.forward(h);
        }
        pixel_mean(h)
    }

    /// Applies the last layer: pooled vectors `[B, 8 * base]` to z `[B, Z]`.
    pub fn project(&self, pooled: Tensor<2>) -> Tensor<2> {
        let z = self.head(pooled);
        if !self.normalise_z {
            return z;
        }
        let square = z.clone().square().mean_dim(1);
        z / (square + SMALLEST_SQUARE).sqrt()
    }

    /// Applies the last linear layer: z before its normalisation, if there is one.
    fn head(&self, pooled: Tensor<2>) -> Tensor<2> {
        dense(&self.head, pooled, None)
    }

    /// Maps normalised images `[B, 3, side, side]` to z `[B, Z]` before the normalisation of z, if
    /// there is one.
    pub(crate) fn unnormalised(&self, x: Tensor<4>) -> Tensor<2> {
        self.head(self.backbone(x))
    }

    /// Maps normalised images `[B, 3, side, side]` to z `[B, Z]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.project(self.backbone(x))
    }
}
