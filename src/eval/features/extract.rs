//! Extraction of features of every kind, several in one pass.

use super::{FeatureKind, Features, batch_size_of};
use crate::config::{Config, Sides};
use crate::data::crop::{flip, resized};
use crate::data::{Images, bytes_of, views};
use crate::diffusion::Schedule;
use crate::diffusion::forward::{q_sample, times};
use crate::error::{Error, Result};
use crate::model::Soda;
use crate::progress::Progress;
use crate::rng::{self, Purpose};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

/// The seed of the noise added to images for denoiser features.
const NOISE_SEED: u64 = 0;

/// Extracts features of images, a batch at a time.
///
/// Denoiser features follow DDAE: the plain image is noised to x_t at the requested noise level,
/// the denoiser gets it together with the image's own z, and the output of a residual level is
/// averaged over its pixels. The noise is seeded by the image's pixels (and a fixed seed), so that
/// features are a function of the image alone, regardless of its position in a batch or data set.
pub struct Extractor<'a> {
    model: Soda,
    config: &'a Config,
    kinds: &'a [FeatureKind],
    device: &'a Device,
    schedule: Schedule,
    /// The noise levels at which the denoiser runs, each once.
    t: Vec<usize>,
}

impl<'a> Extractor<'a> {
    /// Creates an extractor for features of `kinds` from the networks `model`, on `device`, of the
    /// recipe `config`.
    ///
    /// # Errors
    /// If the networks don't have one of these features, see [`FeatureKind::check`].
    pub fn new(
        model: &Soda,
        config: &'a Config,
        kinds: &'a [FeatureKind],
        device: &'a Device,
    ) -> Result<Self> {
        let mut t = Vec::new();
        for kind in kinds {
            kind.check(config)?;
            if let FeatureKind::Denoiser { t: at, .. } = kind
                && !t.contains(at)
            {
                t.push(*at);
            }
        }
        let (model, schedule) = (model.valid(), Schedule::new(&config.diffusion));
        Ok(Self { model, config, kinds, device, schedule, t })
    }

    /// Returns the features `[B, D]` of each kind for `images`, each `[3, side, side]` of any side.
    /// The encoder runs once, the denoiser once for each noise level.
    ///
    /// # Errors
    /// If the device can't be read.
    pub fn features(&self, images: &[Vec<u8>]) -> Result<Vec<Vec<f32>>> {
        let Sides { source, target } = self.config.model.sides;
        let x = self
            .tensor(images, source, |image, out| views::normalise(image, &self.config.data, out));
        let pooled = self.model.backbone(x);
        let z = self.model.project(pooled.clone());
        let mut found: Vec<Tensor<2>> = self
            .kinds
            .iter()
            .map(|kind| if *kind == FeatureKind::Backbone { &pooled } else { &z }.clone())
            .collect();
        if !self.t.is_empty() {
            let x_0 = self.tensor(images, target, views::to_signed);
            let eps = self.tensor(images, target, |image, out| out.copy_from_slice(&noise(image)));
            for &t in &self.t {
                let times = times(&self.schedule, &vec![t; images.len()], self.device);
                let x_t = q_sample(x_0.clone(), &times, eps.clone());
                let levels = self.model.activations(x_t, times.time, z.clone());
                for (found, kind) in found.iter_mut().zip(self.kinds) {
                    if let (FeatureKind::Denoiser { t: at, .. }, Some(level)) =
                        (kind, kind.level(self.config))
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

    /// Returns a tensor `[B, 3, side, side]` of the images, resized to that side and converted by
    /// `write`.
    fn tensor(
        &self,
        images: &[Vec<u8>],
        side: usize,
        write: impl Fn(&[u8], &mut [f32]) + Sync,
    ) -> Tensor<4> {
        let mut values = vec![0.0; images.len() * bytes_of(side)];
        values
            .par_chunks_mut(bytes_of(side))
            .zip(images)
            .for_each(|(out, image)| write(&resized(image, side), out));
        Tensor::from_data(TensorData::new(values, [images.len(), 3, side, side]), self.device)
    }
}

/// Samples eps of an image, `[3, side, side]`.
fn noise(image: &[u8]) -> Vec<f32> {
    let hash = image
        .as_chunks()
        .0
        .iter()
        .fold(0, |hash, bytes| rng::pair(hash, u64::from_le_bytes(*bytes)));
    rng::normal(&mut rng::stream(NOISE_SEED, Purpose::Features, hash), image.len())
}

/// Extracts features of `kinds` of the plain images `indices`, a [`Features`] for each kind; with
/// `flips`, those of the mirrored images are appended. All are in memory at once: N D values per
/// kind.
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
    let progress = Progress::new("encoding images", Some(indices.len() * (1 + usize::from(flips))));
    for flipped in [false, true].into_iter().take(1 + usize::from(flips)) {
        for batch in indices.chunks(batch_size_of(config.model.sides)) {
            let pixels: Vec<Vec<u8>> =
                batch.iter().map(|&i| picture(images, i, flipped)).collect::<Result<_>>()?;
            for (features, values) in all.iter_mut().zip(extractor.features(&pixels)?) {
                features.dim = values.len() / batch.len();
                features.values.extend(values);
                batch.iter().for_each(|&i| features.labels.push(images.label(i)));
            }
            progress.add(batch.len());
        }
    }
    Ok(all)
}

/// Returns image `i`, mirrored left to right if `flipped`.
pub(super) fn picture(images: &Images, i: usize, flipped: bool) -> Result<Vec<u8>> {
    let mut image = images.image(i)?.into_owned();
    if flipped {
        flip(&mut image);
    }
    Ok(image)
}

#[cfg(test)]
mod tests;
