//! The images of a recipe and their views.

use super::side::{Sides, default_side};
use serde::{Deserialize, Serialize};

/// How the source and target views of an image are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Views {
    /// Source and target are sampled independently (SODA).
    Two,
    /// Like `two`, but the denoiser also gets the position of the target within the source, just as
    /// SODA conditions on camera poses. RandAugment omits its geometric operations. Requires
    /// `model.unet.view_conditioning`.
    Conditioned,
    /// Source = target = the same plain image (the autoencoding of the CIFAR-10 reproduction
    /// report, configs/report.toml); the view settings are ignored.
    Same,
}

/// The images and their views.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Height and width of the images in pixels, a multiple of 8 from 16 to 256. Images of a folder
    /// are read at that size; CIFAR's, 32 pixels a side, are resampled to it.
    #[serde(default = "default_side")]
    pub side: usize,
    /// One view or two.
    pub views: Views,
    /// Per-channel mean (of pixels in `[0, 1]`) for normalising the encoder's input, together with
    /// `std`. Both belong to the weights and are stored with them.
    pub mean: [f32; 3],
    /// Per-channel standard deviation, see `mean`.
    pub std: [f32; 3],
    /// The encoder's view.
    pub source: ViewConfig,
    /// The denoiser's view.
    pub target: ViewConfig,
    /// Background threads that make the views; 0 = one per core.
    pub threads: usize,
}

/// The augmentations of one view, in the order in which they are applied; a probability of 0
/// disables one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// Height and width of the view in pixels, with the same limits as `data.side`; 0: the same as
    /// `data.side`. See [`DataConfig::sides`].
    #[serde(default)]
    pub side: usize,
    /// Probability of a random resized crop followed by a possible flip (FutureXiang: 0.95).
    pub crop: f32,
    /// Area of the crop as a fraction of the image, [smallest, largest] (torchvision: 0.08, 1).
    pub crop_scale: [f32; 2],
    /// Aspect ratio (width / height) of the crop, [smallest, largest] (torchvision: 3/4, 4/3),
    /// sampled log-uniformly.
    pub crop_ratio: [f32; 2],
    /// Probability of a horizontal flip, given that the crop is applied (0.5).
    pub flip: f32,
    /// Probability of colour jitter (SimCLR: 0.8): brightness, contrast, saturation and hue, in
    /// random order.
    #[serde(default)]
    pub color_jitter: f32,
    /// Strength s of the colour jitter (SimCLR: 0.5 for CIFAR): factors of brightness, contrast and
    /// saturation within 1 +- 0.8 s, hue shifts within +- 0.2 s turns of the colour circle.
    #[serde(default = "default_color_jitter_strength")]
    pub color_jitter_strength: f32,
    /// Probability of converting the view to greyscale (torchvision's RandomGrayscale; SimCLR:
    /// 0.2).
    #[serde(default)]
    pub grayscale: f32,
    /// Probability of RandAugment (FutureXiang: 0.65).
    pub rand_augment: f32,
    /// Number of RandAugment operations applied in sequence (2).
    pub rand_augment_ops: usize,
    /// Magnitude of the RandAugment operations on a scale of 0 to 30 (9).
    pub rand_augment_magnitude: usize,
    /// Standard deviation of Gaussian noise added after normalisation (FutureXiang: 0.1 on the
    /// source, 0 on the target).
    pub noise: f32,
}

/// SimCLR's strength for CIFAR-10.
fn default_color_jitter_strength() -> f32 {
    0.5
}
impl DataConfig {
    /// Returns the sides of the two views: their own, or else that of the images.
    pub fn sides(&self) -> Sides {
        let of = |own: usize| if own == 0 { self.side } else { own };
        Sides { source: of(self.source.side), target: of(self.target.side) }
    }
}
