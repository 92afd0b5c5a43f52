//! Features of images computed by frozen networks.

mod extract;
mod frozen;
mod kind;
mod rows;

pub use extract::{Extractor, extract};
pub use frozen::Frozen;
pub use kind::FeatureKind;
pub use rows::{Pixels, Rows, Selected};

use crate::config::{DataConfig, Sides, ViewConfig};
use crate::data::{Images, bytes_of, views};
use crate::error::{Error, Result};
use crate::model::Soda;
use crate::progress::Progress;
use crate::rng::{self, Purpose};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

/// Feature vectors and their class labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Length of one vector, D.
    pub dim: usize,
    /// \[N, D\], row-major.
    pub values: Vec<f32>,
    /// \[N\], each below the number of classes; features from other programs may have more classes
    /// than image data sets do.
    pub labels: Vec<u16>,
}

impl Features {
    /// Returns N, the number of vectors.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    pub(super) fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..][..self.dim]
    }

    /// Returns the rows `rows`, in that order.
    pub fn select(&self, rows: &[usize]) -> Features {
        let values = rows.iter().flat_map(|&i| self.row(i)).copied().collect();
        Features { dim: self.dim, values, labels: rows.iter().map(|&i| self.labels[i]).collect() }
    }
}

/// Batches of a BatchNorm calibration: at momentum 0.1 the initial statistics decay to 0.9^60 =
/// 0.2 %.
const CALIBRATION: usize = 60;
/// The most images encoded at a time.
const BATCH: usize = 128;
/// The most pixels encoded at a time: feature maps of larger images take proportionally more
/// memory.
const PIXELS: usize = 128 << 10;

/// Returns the number of images of `side` pixels a side to encode at a time.
pub fn batch_size(side: usize) -> usize {
    (PIXELS / (side * side)).clamp(1, BATCH)
}

/// Returns the number of images that both networks process at a time.
pub fn batch_size_of(Sides { source, target }: Sides) -> usize {
    batch_size(source.max(target))
}

/// Computes z of the images `indices` without augmentation; with `flips`, z of the mirrored images
/// is appended. Images of another side than `data` says are resized. BatchNorm uses its running
/// statistics, also in a model that is being trained.
///
/// # Errors
/// If the device can't be read.
pub fn encode(
    model: &Soda,
    images: &Images,
    indices: &[usize],
    data: &DataConfig,
    flips: bool,
    device: &Device,
) -> Result<Features> {
    let model = &model.valid();
    let mut features = Features { dim: 0, values: Vec::new(), labels: Vec::new() };
    let progress = Progress::new("encoding images", Some(indices.len() * (1 + usize::from(flips))));
    for flip in [false, true].into_iter().take(1 + usize::from(flips)) {
        for batch in indices.chunks(batch_size(data.sides().source)) {
            let labels = batch.iter().map(|&i| images.label(i));
            append(
                &mut features,
                model,
                source_tensor(images, batch, data, flip, device)?,
                labels,
            )?;
            progress.add(batch.len());
        }
    }
    Ok(features)
}

/// Computes z of all `images`, as [`encode`].
///
/// # Errors
/// If the device can't be read.
pub fn encode_all(
    model: &Soda,
    images: &Images,
    data: &DataConfig,
    flips: bool,
    device: &Device,
) -> Result<Features> {
    let all: Vec<usize> = (0..images.len()).collect();
    encode(model, images, &all, data, flips, device)
}

fn append(
    features: &mut Features,
    model: &Soda,
    x: Tensor<4>,
    labels: impl Iterator<Item = u16>,
) -> Result<()> {
    let z = model.encode(x);
    features.dim = z.dims()[1];
    let values = z.try_into_vec_as::<f32>();
    features.values.extend(values.map_err(|e| Error::device("reading the features", &e))?);
    features.labels.extend(labels);
    Ok(())
}

/// Training images of a probe, cropped with probability 0.65 (and then flipped with probability
/// 0.5), re-sampled in each epoch (the `linear` protocol with `--train-views online`).
pub struct Augmented<'a> {
    images: &'a Images,
    indices: &'a [usize],
    data: &'a DataConfig,
    view: ViewConfig,
}

impl<'a> Augmented<'a> {
    /// Creates the views of the images `indices`.
    pub fn new(images: &'a Images, indices: &'a [usize], data: &'a DataConfig) -> Self {
        let view = ViewConfig {
            crop: 0.65,
            flip: 0.5,
            color_jitter: 0.0,
            grayscale: 0.0,
            rand_augment: 0.0,
            noise: 0.0,
            ..data.source.clone()
        };
        let view = ViewConfig { crop_scale: [0.08, 1.0], crop_ratio: [0.75, 4.0 / 3.0], ..view };
        Self { images, indices, data, view }
    }

    /// Computes z of the views of `epoch`.
    ///
    /// # Errors
    /// If the device can't be read.
    pub fn encode(&mut self, model: &Soda, epoch: u64, device: &Device) -> Result<Features> {
        let model = &model.valid();
        let mut features = Features { dim: 0, values: Vec::new(), labels: Vec::new() };
        let Sides { source: side, .. } = self.data.sides();
        let progress = Progress::new("encoding views", Some(self.indices.len()));
        for batch in self.indices.chunks(batch_size(side)) {
            let mut values = vec![0.0; batch.len() * bytes_of(side)];
            values.par_chunks_mut(bytes_of(side)).zip(batch).try_for_each(
                |(out, &i)| -> Result<()> {
                    let mut stream = rng::stream(0, Purpose::Probe, rng::pair(epoch, i as u64));
                    let (view, _) =
                        views::view(&self.images.image(i)?, side, &self.view, true, &mut stream);
                    views::normalise(&view, self.data, out);
                    Ok(())
                },
            )?;
            let x =
                Tensor::from_data(TensorData::new(values, [batch.len(), 3, side, side]), device);
            append(&mut features, model, x, batch.iter().map(|&i| self.images.label(i)))?;
            progress.add(batch.len());
        }
        Ok(features)
    }
}

/// Returns `model` (without autodiff) with its BatchNorm statistics replaced by those of the plain
/// training images. This makes a randomly initialised encoder a fair baseline, and adapts a trained
/// one to images of another size.
pub fn calibrate(
    model: Soda,
    images: &Images,
    indices: &[usize],
    data: &DataConfig,
    device: &Device,
) -> Result<Soda> {
    // A forward pass on an autodiff device updates the statistics. Untracked weights keep the pass
    // from recording anything for gradients.
    let training = model.train().no_grad();
    let autodiff = device.clone().autodiff();
    let progress = Progress::new("calibrating BatchNorm, batches", Some(CALIBRATION));
    // The last images of a data set may be those of its largest class alone.
    let order = rng::permutation(&mut rng::stream(0, Purpose::Split, 3), indices.len());
    let indices: Vec<usize> = order.into_iter().map(|i| indices[i as usize]).collect();
    // A smaller last batch would weigh as much as the others, so it is left out.
    let size = batch_size(data.sides().source).min(indices.len()).max(1);
    for batch in indices.chunks_exact(size).cycle().take(CALIBRATION) {
        training.encode(source_tensor(images, batch, data, false, &autodiff)?);
        progress.add(1);
    }
    Ok(training.valid())
}

fn source_tensor(
    images: &Images,
    indices: &[usize],
    data: &DataConfig,
    flip: bool,
    device: &Device,
) -> Result<Tensor<4>> {
    let Sides { source: side, .. } = data.sides();
    let mut values = vec![0.0; indices.len() * bytes_of(side)];
    views::plain_source(images, indices, data, flip, &mut values)?;
    Ok(Tensor::from_data(TensorData::new(values, [indices.len(), 3, side, side]), device))
}
