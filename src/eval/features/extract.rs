//! Features of every kind, several from one pass.

use super::{BATCH, FeatureKind, Features};
use crate::config::Config;
use crate::data::crop::flip;
use crate::data::{IMAGE, Images, Pixels, views};
use crate::diffusion::Schedule;
use crate::diffusion::forward::{q_sample, times};
use crate::error::{Error, Result};
use crate::model::Soda;
use crate::rng::{self, Purpose};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

/// The seed of the noise that images are looked at under.
const NOISE_SEED: u64 = 0;

/// Takes features of images, a batch at a time.
///
/// Those of the denoiser follow DDAE: the plain image becomes x_t at the noise level asked for, the denoiser sees it with the
/// image's own z, and what a residual level puts out is averaged over its pixels. The noise is drawn from a fixed seed and the
/// pixels of the image: its features are a function of the image alone, whatever its place in a batch or a set.
pub struct Extractor<'a> {
    model: &'a Soda,
    config: &'a Config,
    kinds: &'a [FeatureKind],
    device: &'a Device,
    schedule: Schedule,
    /// The noise levels at which the denoiser is asked, each once.
    t: Vec<usize>,
}

impl<'a> Extractor<'a> {
    /// For features of `kinds` under the networks `model`, which are on `device`, of the recipe `config`.
    ///
    /// # Errors
    /// If the networks don't have one of them, see [`FeatureKind::check`].
    pub fn new(model: &'a Soda, config: &'a Config, kinds: &'a [FeatureKind], device: &'a Device) -> Result<Self> {
        let mut t = Vec::new();
        for kind in kinds {
            kind.check(config)?;
            if let FeatureKind::Denoiser { t: at, .. } = kind
                && !t.contains(at)
            {
                t.push(*at);
            }
        }
        Ok(Self { model, config, kinds, device, schedule: Schedule::new(&config.diffusion), t })
    }

    /// Of each kind the features of `images`, `[B, D]`. The encoder runs once, the denoiser once for each noise level.
    ///
    /// # Errors
    /// If the device can't be read.
    pub fn features(&self, images: &[Pixels]) -> Result<Vec<Vec<f32>>> {
        let pooled = self.model.backbone(self.tensor(images, |image, out| views::normalise(image, &self.config.data, out)));
        let z = self.model.project(pooled.clone());
        let mut found: Vec<Tensor<2>> =
            self.kinds.iter().map(|kind| if *kind == FeatureKind::Backbone { &pooled } else { &z }.clone()).collect();
        if !self.t.is_empty() {
            let x_0 = self.tensor(images, views::to_signed);
            let eps = self.tensor(images, |image, out| out.copy_from_slice(&noise(image)));
            for &t in &self.t {
                let times = times(&self.schedule, &vec![t; images.len()], self.device);
                let x_t = q_sample(x_0.clone(), &times, eps.clone());
                let levels = self.model.activations(x_t, times.time, z.clone());
                for (found, kind) in found.iter_mut().zip(self.kinds) {
                    if let (FeatureKind::Denoiser { t: at, .. }, Some(level)) = (kind, kind.level(self.config))
                        && *at == t
                    {
                        *found = levels[level].clone();
                    }
                }
            }
        }
        let read = |tensor: Tensor<2>| {
            let values = tensor.try_into_vec_as::<f32>();
            values.map_err(|e| Error::device("reading the features", &e))
        };
        found.into_iter().map(read).collect()
    }

    /// `[B, 3, 32, 32]`, each image written by `write`.
    fn tensor(&self, images: &[Pixels], write: impl Fn(&Pixels, &mut [f32]) + Sync) -> Tensor<4> {
        let mut values = vec![0.0; images.len() * IMAGE];
        values.par_chunks_mut(IMAGE).zip(images).for_each(|(out, image)| write(image, out));
        Tensor::from_data(TensorData::new(values, [images.len(), 3, 32, 32]), self.device)
    }
}

/// eps of an image, `[3, 32, 32]`.
fn noise(image: &Pixels) -> Vec<f32> {
    let hash = image.as_chunks().0.iter().fold(0, |hash, bytes| rng::pair(hash, u64::from_le_bytes(*bytes)));
    rng::normal(&mut rng::stream(NOISE_SEED, Purpose::Features, hash), IMAGE)
}

/// Features of `kinds` of the plain images `indices`, a [`Features`] for each kind; with `flips`, also of each image's mirror image,
/// appended. All are in memory at once: N D numbers a kind.
///
/// # Errors
/// As [`Extractor::new`]; if the device can't be read.
pub fn extract(
    model: &Soda,
    images: &Images,
    indices: &[usize],
    config: &Config,
    kinds: &[FeatureKind],
    flips: bool,
    device: &Device,
) -> Result<Vec<Features>> {
    let extractor = Extractor::new(model, config, kinds, device)?;
    let mut all = vec![Features { dim: 0, values: Vec::new(), labels: Vec::new() }; kinds.len()];
    for flipped in [false, true].into_iter().take(1 + usize::from(flips)) {
        for batch in indices.chunks(BATCH) {
            let pixels: Vec<Pixels> = batch.iter().map(|&i| picture(images, i, flipped)).collect();
            for (features, values) in all.iter_mut().zip(extractor.features(&pixels)?) {
                features.dim = values.len() / batch.len();
                features.values.extend(values);
                batch.iter().for_each(|&i| features.labels.push(images.label(i).into()));
            }
        }
    }
    Ok(all)
}

/// Image `i`, mirrored left to right with `flipped`.
pub(super) fn picture(images: &Images, i: usize, flipped: bool) -> Pixels {
    let mut image = *images.image(i);
    if flipped {
        flip(&mut image);
    }
    image
}

#[cfg(test)]
mod tests;
