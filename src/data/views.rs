//! The two views of an image: what the encoder sees (source) and what the denoiser has to draw (target).

use super::crop::{draw_window, flip, resized_crop};
use super::rand_augment::rand_augment;
use super::{IMAGE, Images, PLANE, Pixels};
use crate::config::{DataConfig, ViewConfig, Views};
use crate::rng::{self, Purpose, Stream};
use rand::RngExt;
use rand_distr::StandardNormal;

/// One augmented view of `image`: with probability `crop` a random resized crop and then, with probability `flip`, its mirror
/// image; with probability `rand_augment` RandAugment. The noise is not in it: it is added after normalisation.
pub fn view(image: &Pixels, config: &ViewConfig, rng: &mut Stream) -> Pixels {
    let happens = |rng: &mut Stream, probability: f32| rng.random::<f32>() < probability;
    let mut view = *image;
    if happens(rng, config.crop) {
        let window = draw_window(config, rng);
        view = resized_crop(image, window, happens(rng, config.flip));
    }
    if happens(rng, config.rand_augment) {
        rand_augment(&mut view, config.rand_augment_ops, config.rand_augment_magnitude, rng);
    }
    view
}

/// Writes both views of image number `index` as [`DataConfig`] asks for: the source normalised, the target in [-1, 1], either
/// with its noise. They are a function of `seed`, `epoch` and `index` alone. With [`Views::Same`] both are the plain image.
///
/// # Shapes
/// `source_out`, `target_out`: `[3, 32, 32]`.
pub fn make_pair(
    image: &Pixels,
    data: &DataConfig,
    seed: u64,
    epoch: u64,
    index: usize,
    source_out: &mut [f32],
    target_out: &mut [f32],
) {
    if data.views == Views::Same {
        normalise(image, data, source_out);
        return to_signed(image, target_out);
    }
    let mut rng = rng::stream(seed, Purpose::Views, rng::pair(epoch, index as u64));
    normalise(&view(image, &data.source, &mut rng), data, source_out);
    add_noise(source_out, data.source.noise, &mut rng);
    to_signed(&view(image, &data.target, &mut rng), target_out);
    add_noise(target_out, data.target.noise, &mut rng);
}

/// The encoder's input: (p / 255 - mean) / std in each channel. `out`: `[3, 32, 32]`.
pub fn normalise(image: &Pixels, data: &DataConfig, out: &mut [f32]) {
    for ((plane, out), (mean, std)) in
        image.as_chunks::<PLANE>().0.iter().zip(out.as_chunks_mut::<PLANE>().0).zip(data.mean.iter().zip(data.std))
    {
        let (scale, shift) = (1.0 / (255.0 * std), -mean / std);
        out.iter_mut().zip(plane).for_each(|(o, &p)| *o = f32::from(p) * scale + shift);
    }
}

/// The denoiser's x_0: p / 127.5 - 1. `out`: `[3, 32, 32]`.
pub fn to_signed(image: &Pixels, out: &mut [f32]) {
    out.iter_mut().zip(image).for_each(|(o, &p)| *o = f32::from(p) / 127.5 - 1.0);
}

fn add_noise(values: &mut [f32], deviation: f32, rng: &mut Stream) {
    if deviation > 0.0 {
        values.iter_mut().for_each(|v| *v += deviation * rng.sample::<f32, _>(StandardNormal));
    }
}

/// Encoder inputs of the plain images `indices`, mirrored left to right with `flipped`: what probes read.
///
/// # Shapes
/// `out`: `[indices.len(), 3, 32, 32]`.
pub fn plain_source(images: &Images, indices: &[usize], data: &DataConfig, flipped: bool, out: &mut [f32]) {
    for (&i, out) in indices.iter().zip(out.as_chunks_mut::<IMAGE>().0) {
        let mut image = *images.image(i);
        if flipped {
            flip(&mut image);
        }
        normalise(&image, data, out);
    }
}

/// The plain images `indices` in [-1, 1]: what reconstructions are compared with.
///
/// # Shapes
/// `out`: `[indices.len(), 3, 32, 32]`.
pub fn plain_target(images: &Images, indices: &[usize], out: &mut [f32]) {
    for (&i, out) in indices.iter().zip(out.as_chunks_mut::<IMAGE>().0) {
        to_signed(images.image(i), out);
    }
}

#[cfg(test)]
pub(super) mod tests;
