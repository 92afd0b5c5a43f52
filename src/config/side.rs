//! The size of images.

use std::ops::RangeInclusive;

/// The side of the images in pixels for recipes that don't set it: CIFAR's.
pub const DEFAULT_SIDE: usize = 32;

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

/// The possible sides.
const RANGE: RangeInclusive<usize> = 16..=256;
/// The divisor of every side, so that an image can be halved three times.
const MULTIPLE: usize = 8;

/// Checks whether images can have `side` pixels a side.
///
/// # Errors
/// If not: the condition, as a sentence fragment.
pub fn check_side(side: usize) -> Result<(), String> {
    if RANGE.contains(&side) && side.is_multiple_of(MULTIPLE) {
        return Ok(());
    }
    let (first, last) = RANGE.into_inner();
    Err(format!("must be a multiple of {MULTIPLE} from {first} to {last}"))
}

pub(super) fn default_side() -> usize {
    DEFAULT_SIDE
}
