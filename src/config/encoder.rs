//! The encoder's networks.

use serde::{Deserialize, Serialize};

/// The first layers of the encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stem {
    /// A 3x3 convolution: the first stage works at the side of the image. For CIFAR and other small
    /// images.
    #[default]
    #[serde(rename = "3x3")]
    Conv3x3,
    /// torchvision's: a 7x7 convolution with stride 2 and a 3x3 max-pool with stride 2. The first
    /// stage works at a quarter of the side.
    #[serde(rename = "7x7")]
    Conv7x7,
}

/// ResNet-18.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// Channels of the first stage; the four stages have 1, 2, 4 and 8 times as many.
    pub base: usize,
    /// What comes before the first stage: "3x3" or "7x7".
    #[serde(default)]
    pub stem: Stem,
    /// Divide z by its root mean square over its numbers: no image can be told apart by the length
    /// of its z, which otherwise grows without bound for images of extreme colours.
    #[serde(default)]
    pub normalise_z: bool,
}
