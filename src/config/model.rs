//! The networks of a recipe: their sizes, and the names of their parts.

use super::encoder::EncoderConfig;
use super::side::Sides;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How the scales of AdaGN (arXiv 2311.17901) enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdaGnScale {
    /// z_s * (t_s * GN(h) + t_b) + z_b
    Plain,
    /// (1 + z_s) * ((1 + t_s) * GN(h) + t_b) + z_b
    OnePlus,
}

/// Both networks. Sizes in the paper: encoder base 64, UNet base 128, z 128.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Number of dimensions of z, Z.
    pub z_dim: usize,
    /// The encoder.
    pub encoder: EncoderConfig,
    /// The denoiser.
    pub unet: UNetConfig,
    /// Sides of the images that the networks work on, from
    /// [`DataConfig::sides`](super::DataConfig::sides): a recipe sets them there.
    #[serde(skip)]
    pub sides: Sides,
}

/// A DDPM UNet with AdaGN in every residual block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels of the stem.
    pub base: usize,
    /// Factor applied to t / T before the sinusoidal embedding: 1 in the public implementation for
    /// CIFAR-10, 1000 in DDPM.
    pub time_scale: f32,
    /// Channels of each resolution stage as a multiple of `base`, finest first.
    pub multipliers: Vec<usize>,
    /// Residual blocks per down stage (an up stage has one more).
    pub blocks: usize,
    /// Sides of the feature maps that get self-attention, in pixels (the middle always does): the
    /// side in stage s is `data.target.side` >> s.
    pub attention: Vec<usize>,
    /// Groups of every GroupNorm except the last.
    pub groups: usize,
    /// Groups of the last GroupNorm.
    pub final_groups: usize,
    /// Dropout probability before the second convolution of a block.
    pub dropout: f32,
    /// How the AdaGN scales enter: "plain" or "one_plus".
    pub ada_gn: AdaGnScale,
    /// Layer modulation (SODA): each resolution and the middle see a section of z of their own, see
    /// [`ModelConfig::sections`]. Off: every block sees all of z.
    #[serde(default)]
    pub layer_modulation: bool,
    /// Whether the denoiser also gets the positions of its pixels within the source view; requires
    /// `data.views = "conditioned"`.
    #[serde(default)]
    pub view_conditioning: bool,
}

impl ModelConfig {
    /// Returns the sections of z, in order, as index ranges. With layer modulation there is one for
    /// each of the m resolutions, finest first, and one for the middle; the m + 1 sections are as
    /// equal as possible, the first ones longer. Without it, all of z is one section.
    pub fn sections(&self) -> Vec<Range<usize>> {
        let count = if self.unet.layer_modulation { self.unet.multipliers.len() + 1 } else { 1 };
        let end = |i: usize| i * (self.z_dim / count) + i.min(self.z_dim % count);
        (0..count).map(|i| end(i)..end(i + 1)).collect()
    }

    /// Returns the index ranges of z by which two images can be mixed: its sections, or, where
    /// every stage of the denoiser has all of z, the range of each stage in the concatenation of
    /// the z of all stages ([`by_stage`](crate::edit::mix::by_stage)).
    pub fn mixable(&self) -> Vec<Range<usize>> {
        match self.unet.layer_modulation {
            true => self.sections(),
            false => (0..=self.unet.multipliers.len())
                .map(|stage| stage * self.z_dim..(stage + 1) * self.z_dim)
                .collect(),
        }
    }
}

impl UNetConfig {
    /// Returns the channels of the feature maps of each stage.
    pub fn widths(&self) -> Vec<usize> {
        self.multipliers.iter().map(|m| m * self.base).collect()
    }

    /// Returns name and channels of every residual level in the order of computation: `down0.0`
    /// (block 0 of stage 0, the finest), `down0.1`, .. , `middle`, then back from the coarsest
    /// stage: `up3.0`, .. , `up0.2`. `downS.B` and `upS.B` work at (side >> S) pixels a side,
    /// `side` being the target view's.
    pub fn levels(&self) -> Vec<(String, usize)> {
        let widths = self.widths();
        let stage = |way: &str, stage: usize, blocks: usize| -> Vec<(String, usize)> {
            (0..blocks).map(|block| (format!("{way}{stage}.{block}"), widths[stage])).collect()
        };
        let down = (0..widths.len()).flat_map(|s| stage("down", s, self.blocks));
        let up = (0..widths.len()).rev().flat_map(|s| stage("up", s, self.blocks + 1));
        let middle = ("middle".to_owned(), widths.last().copied().unwrap_or(self.base));
        down.chain([middle]).chain(up).collect()
    }

    /// Returns the channels of the skip connections in the order in which they are made.
    pub fn skip_widths(&self) -> Vec<usize> {
        let widths = self.widths();
        let mut skips = vec![self.base];
        for (stage, width) in widths.iter().enumerate() {
            skips.extend(std::iter::repeat_n(*width, self.blocks));
            if stage + 1 < widths.len() {
                skips.push(*width);
            }
        }
        skips
    }
}
