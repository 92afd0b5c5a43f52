//! The architecture of the encoder.

use serde::{Deserialize, Serialize};

/// The first layers of the encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stem {
    /// A 3x3 convolution: the first stage works at full resolution. For CIFAR and other small
    /// images.
    #[default]
    #[serde(rename = "3x3")]
    Conv3x3,
    /// torchvision's: a 7x7 convolution with stride 2 and a 3x3 max-pool with stride 2. The first
    /// stage works at a quarter of the image's side.
    #[serde(rename = "7x7")]
    Conv7x7,
}

/// The encoder, a ResNet-18.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// Channels of the first stage; the four stages have 1, 2, 4 and 8 times as many.
    pub base: usize,
    /// The layers before the first stage: "3x3" or "7x7".
    #[serde(default)]
    pub stem: Stem,
    /// Whether z is divided by the root mean square of its elements. The norm of z then carries no
    /// information; otherwise it grows without bound for images of extreme colours.
    #[serde(default)]
    pub normalise_z: bool,
}
