//! The size of images.

use super::Config;
use std::ops::RangeInclusive;

/// The side of the images in pixels for recipes that don't set it: CIFAR's.
pub const DEFAULT_SIDE: usize = 32;
/// The possible sides.
const RANGE: RangeInclusive<usize> = 16..=256;
/// The divisor of every side, so that an image can be halved three times.
const MULTIPLE: usize = 8;

/// The sides of the images that the two networks work on, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// The side of the encoder's images, the source views.
    pub source: usize,
    /// The side of the denoiser's images, the target views.
    pub target: usize,
}

impl Default for Sides {
    fn default() -> Self {
        Self { source: DEFAULT_SIDE, target: DEFAULT_SIDE }
    }
}

pub(super) fn default_side() -> usize {
    DEFAULT_SIDE
}

impl Config {
    /// Checks the sides; the message names the key of the first impossible one.
    pub(super) fn check_sides(&self) -> Result<(), String> {
        let (data, Sides { source, target }) = (&self.data, self.data.sides());
        for (key, side) in
            [("data.side", data.side), ("data.source.side", source), ("data.target.side", target)]
        {
            if !RANGE.contains(&side) || !side.is_multiple_of(MULTIPLE) {
                let (first, last) = RANGE.into_inner();
                return Err(format!(
                    "{key} = {side}: must be a multiple of {MULTIPLE} from {first} to {last}"
                ));
            }
        }
        let stages = self.model.unet.multipliers.len();
        if !target.is_multiple_of(1 << (stages - 1)) {
            return Err(format!(
                "model.unet.multipliers names {stages} stages, which halve the denoiser's images \
                 {} times, but {target} pixels a side can be halved only {} times; use fewer \
                 stages or a multiple of {} as data.target.side",
                stages - 1,
                target.trailing_zeros(),
                1 << (stages - 1)
            ));
        }
        Ok(())
    }

    /// Returns the sides named by `model.unet.attention` that no stage of the denoiser has.
    pub fn unused_attention(&self) -> Vec<usize> {
        let unet = &self.model.unet;
        let sides: Vec<usize> =
            (0..unet.multipliers.len()).map(|stage| self.model.sides.target >> stage).collect();
        unet.attention.iter().copied().filter(|side| !sides.contains(side)).collect()
    }
}
