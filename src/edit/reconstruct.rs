//! Reconstruction: images sampled from z alone.

use super::generator::{Generator, signed};
use crate::data::Images;
use crate::error::Result;

/// Reconstructs `images` from their z alone. Returns the reconstructions and the originals, both
/// `[N, 3, side, side]` in [-1, 1].
///
/// # Errors
/// If the device can't be read.
pub fn reconstruct(
    generator: &Generator,
    images: &Images,
    seed: u64,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let z = generator.encode(images)?;
    Ok((generator.draw(&z, seed)?, signed(images, generator.side())?))
}
