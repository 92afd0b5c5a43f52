//! The two views of an image: what the encoder sees (source) and what the denoiser has to generate
//! (target).

use super::color_jitter::{color_jitter, grayscale};
use super::crop::{Geometry, draw_window, flip, resized, resized_crop};
use super::images::Images;
use super::planes::{bytes_of, side_of};
use super::rand_augment::rand_augment;
use crate::config::{DataConfig, Sides, ViewConfig, Views};
use crate::error::Result;
use crate::rng::{self, Purpose, Stream};
use rand::RngExt;
use rand_distr::StandardNormal;

/// Returns one augmented view `[3, side, side]` of `image` and its geometry. With probability
/// `crop` it is a random resized crop, which is mirrored with probability `flip`. Colour jitter is
/// applied with probability `color_jitter`, conversion to grey with probability `grayscale`, and
/// RandAugment with probability `rand_augment`, with or without `geometric` operations (which the
/// geometry doesn't record). Noise is not included: it is added after normalisation.
pub fn view(
    image: &[u8],
    side: usize,
    config: &ViewConfig,
    geometric: bool,
    rng: &mut Stream,
) -> (Vec<u8>, Geometry) {
    let happens = |rng: &mut Stream, probability: f32| rng.random::<f32>() < probability;
    let own = side_of(image);
    let mut geometry = Geometry::plain(own);
    let mut view = if happens(rng, config.crop) {
        geometry =
            Geometry { window: draw_window(own, config, rng), flip: happens(rng, config.flip) };
        resized_crop(image, geometry.window, geometry.flip, side)
    } else {
        resized(image, side).into_owned()
    };
    // Colour jitter and grayscale consume no random numbers when they are switched off, so older
    // recipes still get the same views.
    if config.color_jitter > 0.0 && happens(rng, config.color_jitter) {
        color_jitter(&mut view, config.color_jitter_strength, rng);
    }
    if config.grayscale > 0.0 && happens(rng, config.grayscale) {
        grayscale(&mut view);
    }
    if happens(rng, config.rand_augment) {
        rand_augment(
            &mut view,
            config.rand_augment_ops,
            config.rand_augment_magnitude,
            geometric,
            rng,
        );
    }
    (view, geometry)
}

/// Writes both views of image number `index` as [`DataConfig`] specifies: the source normalised,
/// the target in [-1, 1], each with its noise. Returns the geometry of the target relative to the
/// source ([`Geometry::within`]). The views are a function of `seed`, `epoch` and `index` alone.
/// With [`Views::Same`] both are the plain image.
///
/// # Shapes
/// `source_out`, `target_out`: `[3, side, side]`, with the sides of [`DataConfig::sides`].
pub fn make_pair(
    image: &[u8],
    data: &DataConfig,
    seed: u64,
    epoch: u64,
    index: usize,
    source_out: &mut [f32],
    target_out: &mut [f32],
) -> [f32; 4] {
    let sides = data.sides();
    if data.views == Views::Same {
        normalise(&resized(image, sides.source), data, source_out);
        to_signed(&resized(image, sides.target), target_out);
        let plain = Geometry::plain(side_of(image));
        return plain.within(&plain);
    }
    let geometric = data.views != Views::Conditioned;
    let mut rng = rng::stream(seed, Purpose::Views, rng::pair(epoch, index as u64));
    let (source, source_geometry) = view(image, sides.source, &data.source, geometric, &mut rng);
    normalise(&source, data, source_out);
    add_noise(source_out, data.source.noise, &mut rng);
    let (target, target_geometry) = view(image, sides.target, &data.target, geometric, &mut rng);
    to_signed(&target, target_out);
    add_noise(target_out, data.target.noise, &mut rng);
    target_geometry.within(&source_geometry)
}

/// Writes the encoder's input: (p / 255 - mean) / std in each channel. `image` and `out`: `[3,
/// side, side]`.
///
/// # Panics
/// If their lengths differ, or aren't those of a square image of three planes.
pub fn normalise(image: &[u8], data: &DataConfig, out: &mut [f32]) {
    assert_eq!(image.len(), out.len(), "values of the image and of the output");
    let plane = side_of(image).pow(2).max(1);
    for ((plane, out), (mean, std)) in image
        .chunks_exact(plane)
        .zip(out.chunks_exact_mut(plane))
        .zip(data.mean.iter().zip(data.std))
    {
        let (scale, shift) = (1.0 / (255.0 * std), -mean / std);
        out.iter_mut().zip(plane).for_each(|(o, &p)| *o = f32::from(p) * scale + shift);
    }
}

/// Writes the denoiser's x_0: p / 127.5 - 1. `image` and `out`: `[3, side, side]`.
///
/// # Panics
/// If their lengths differ.
pub fn to_signed(image: &[u8], out: &mut [f32]) {
    assert_eq!(image.len(), out.len(), "values of the image and of the output");
    out.iter_mut().zip(image).for_each(|(o, &p)| *o = f32::from(p) / 127.5 - 1.0);
}

/// Returns the pixel for `value`, the nearest to the inverse of [`to_signed`]; values outside
/// [-1, 1] are clipped.
pub fn to_byte(value: f32) -> u8 {
    // A float that is cast to u8 saturates, and NaN becomes 0.
    ((value + 1.0) * 127.5).round() as u8
}

fn add_noise(values: &mut [f32], deviation: f32, rng: &mut Stream) {
    if deviation > 0.0 {
        values.iter_mut().for_each(|v| *v += deviation * rng.sample::<f32, _>(StandardNormal));
    }
}

/// Writes the encoder inputs of the plain images `indices`, mirrored left to right if `flipped`:
/// the inputs of probes.
///
/// # Shapes
/// `out`: `[indices.len(), 3, side, side]`, with the side of the source view.
///
/// # Errors
/// If the images lie in a file that can't be read.
///
/// # Panics
/// If `out` has another length.
pub fn plain_source(
    images: &Images,
    indices: &[usize],
    data: &DataConfig,
    flipped: bool,
    out: &mut [f32],
) -> Result<()> {
    let Sides { source, .. } = data.sides();
    assert_eq!(out.len(), indices.len() * bytes_of(source), "values of the output");
    for (&i, out) in indices.iter().zip(out.chunks_exact_mut(bytes_of(source))) {
        let mut image = images.image(i)?;
        if flipped {
            flip(image.to_mut());
        }
        normalise(&resized(&image, source), data, out);
    }
    Ok(())
}

/// Writes the plain images `indices` in [-1, 1], at `side` pixels a side: the references for
/// reconstructions.
///
/// # Shapes
/// `out`: `[indices.len(), 3, side, side]`.
///
/// # Errors
/// If the images lie in a file that can't be read.
///
/// # Panics
/// If `out` has another length.
pub fn plain_target(
    images: &Images,
    indices: &[usize],
    side: usize,
    out: &mut [f32],
) -> Result<()> {
    assert_eq!(out.len(), indices.len() * bytes_of(side), "values of the output");
    for (&i, out) in indices.iter().zip(out.chunks_exact_mut(bytes_of(side))) {
        to_signed(&resized(&images.image(i)?, side), out);
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
