//! Reconstruction: images sampled from z alone.

use super::generator::{Generator, signed};
use crate::data::Images;
use crate::error::Result;

/// Reconstructs the first `n` images of `images` from their z alone. Returns the reconstructions
/// and the originals, both `[n, 3, side, side]` in [-1, 1].
///
/// # Errors
/// If the device can't be read.
pub fn reconstruct_first(
    generator: &Generator,
    images: &Images,
    n: usize,
    seed: u64,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let images = images.first(n);
    let z = generator.encode(&images)?;
    Ok((generator.draw(&z, seed)?, signed(&images, generator.side())?))
}
