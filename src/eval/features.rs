//! Features of images under frozen networks.

mod extract;
mod frozen;
mod kind;

pub use extract::{Extractor, extract};
pub use frozen::Frozen;
pub use kind::FeatureKind;

use crate::config::{DataConfig, Sides, ViewConfig};
use crate::data::{Images, bytes_of, views};
use crate::error::{Error, Result};
use crate::model::Soda;
use crate::rng::{self, Purpose};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

/// Feature vectors and their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Length of one vector, D.
    pub dim: usize,
    /// \[N, D\], row-major.
    pub values: Vec<f32>,
    /// \[N\], each below the number of classes; features made elsewhere may have more of these than images have.
    pub labels: Vec<u16>,
}

impl Features {
    /// N, the number of vectors.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    pub(super) fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..][..self.dim]
    }

    /// The rows `rows`, in that order.
    pub fn select(&self, rows: &[usize]) -> Features {
        let values = rows.iter().flat_map(|&i| self.row(i)).copied().collect();
        Features { dim: self.dim, values, labels: rows.iter().map(|&i| self.labels[i]).collect() }
    }

    /// Refuses what would make a score meaningless; `name` is what the message calls these features.
    pub(super) fn check(&self, name: &str, dim: usize, classes: usize) -> Result<()> {
        assert_eq!(self.dim, dim, "{name} features: length of a vector, beside that of the probe");
        assert_eq!(self.values.len(), self.rows() * dim, "{name} features: values, beside [N = {}, D = {dim}]", self.rows());
        if let Some(at) = self.values.iter().position(|v| !v.is_finite()) {
            return Err(Error::failed(format!(
                "the {name} features hold {} (row {}, entry {}); the weights that they come from have diverged, or their file is damaged",
                self.values[at],
                at / dim,
                at % dim
            )));
        }
        if let Some(at) = self.labels.iter().position(|&l| usize::from(l) >= classes) {
            let label = self.labels[at];
            return Err(Error::failed(format!(
                "the {name} features have class {label} at row {at}; there are {classes} classes"
            )));
        }
        Ok(())
    }
}

/// Images encoded at a time, at most.
const BATCH: usize = 128;
/// Pixels of the images encoded at a time, at most: feature maps of larger images take as much more memory.
const PIXELS: usize = 128 << 10;

/// Images of `side` pixels a side that are encoded at a time.
pub fn batch_size(side: usize) -> usize {
    (PIXELS / (side * side)).clamp(1, BATCH)
}

/// Images that both networks look at at a time.
pub fn batch_size_of(Sides { source, target }: Sides) -> usize {
    batch_size(source.max(target))
}

/// z of the images `indices`, without augmentation; with `flips`, also of each image's mirror image, appended.
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
    let mut features = Features { dim: 0, values: Vec::new(), labels: Vec::new() };
    for flip in [false, true].into_iter().take(1 + usize::from(flips)) {
        for batch in indices.chunks(batch_size(data.sides().source)) {
            let labels = batch.iter().map(|&i| images.label(i).into());
            append(&mut features, model, source_tensor(images, batch, data, flip, device), labels)?;
        }
    }
    Ok(features)
}

/// As [`encode`], of all `images`.
///
/// # Errors
/// If the device can't be read.
pub fn encode_all(model: &Soda, images: &Images, data: &DataConfig, flips: bool, device: &Device) -> Result<Features> {
    let all: Vec<usize> = (0..images.len()).collect();
    encode(model, images, &all, data, flips, device)
}

fn append(features: &mut Features, model: &Soda, x: Tensor<4>, labels: impl Iterator<Item = u16>) -> Result<()> {
    let z = model.encode(x);
    features.dim = z.dims()[1];
    let values = z.try_into_vec_as::<f32>();
    features.values.extend(values.map_err(|e| Error::device("reading the features", &e))?);
    features.labels.extend(labels);
    Ok(())
}

/// Training images of a probe under crop and flip with probability 0.65, drawn afresh for each epoch (soda.md, `linear`).
pub struct Augmented<'a> {
    images: &'a Images,
    indices: &'a [usize],
    data: &'a DataConfig,
    view: ViewConfig,
}

impl<'a> Augmented<'a> {
    /// Of the images `indices`.
    pub fn new(images: &'a Images, indices: &'a [usize], data: &'a DataConfig) -> Self {
        let view = ViewConfig { crop: 0.65, flip: 0.5, rand_augment: 0.0, noise: 0.0, ..data.source.clone() };
        let view = ViewConfig { crop_scale: [0.08, 1.0], crop_ratio: [0.75, 4.0 / 3.0], ..view };
        Self { images, indices, data, view }
    }

    /// Their z in `epoch`.
    ///
    /// # Errors
    /// If the device can't be read.
    pub fn encode(&mut self, model: &Soda, epoch: u64, device: &Device) -> Result<Features> {
        let mut features = Features { dim: 0, values: Vec::new(), labels: Vec::new() };
        let Sides { source: side, .. } = self.data.sides();
        for batch in self.indices.chunks(batch_size(side)) {
            let mut values = vec![0.0; batch.len() * bytes_of(side)];
            values.par_chunks_mut(bytes_of(side)).zip(batch).for_each(|(out, &i)| {
                let mut stream = rng::stream(0, Purpose::Probe, rng::pair(epoch, i as u64));
                let (view, _) = views::view(self.images.image(i), side, &self.view, true, &mut stream);
                views::normalise(&view, self.data, out);
            });
            let x = Tensor::from_data(TensorData::new(values, [batch.len(), 3, side, side]), device);
            append(&mut features, model, x, batch.iter().map(|&i| self.images.label(i).into()))?;
        }
        Ok(features)
    }
}

/// Raw pixels in `[0, 1]` as features: the baseline that knows nothing.
pub fn pixels(images: &Images, indices: &[usize], flips: bool) -> Features {
    let rows = indices.len() * (1 + usize::from(flips));
    let dim = bytes_of(images.side());
    let (mut values, mut labels) = (Vec::with_capacity(rows * dim), Vec::with_capacity(rows));
    for flip in [false, true].into_iter().take(1 + usize::from(flips)) {
        for &i in indices {
            let image = images.image(i);
            for row in image.chunks(images.side()) {
                let value = |p: &u8| f32::from(*p) / 255.0;
                if flip { values.extend(row.iter().rev().map(value)) } else { values.extend(row.iter().map(value)) }
            }
            labels.push(images.label(i).into());
        }
    }
    Features { dim, values, labels }
}

/// `model` (without autodiff) with BatchNorm statistics of the plain training images instead of its own: what makes a
/// randomly initialised encoder a fair baseline.
pub fn calibrate(model: Soda, images: &Images, indices: &[usize], data: &DataConfig, device: &Device) -> Soda {
    // A forward pass on an autodiff device updates the statistics; 60 batches at momentum 0.1 forget the start (0.9^60 = 0.2 %).
    // Nothing is learnt from: without tracked weights no graph of the pass is kept.
    let training = model.train().no_grad();
    let autodiff = device.clone().autodiff();
    for batch in indices.chunks(batch_size(data.sides().source)).cycle().take(60) {
        training.encode(source_tensor(images, batch, data, false, &autodiff));
    }
    training.valid()
}

fn source_tensor(images: &Images, indices: &[usize], data: &DataConfig, flip: bool, device: &Device) -> Tensor<4> {
    let Sides { source: side, .. } = data.sides();
    let mut values = vec![0.0; indices.len() * bytes_of(side)];
    views::plain_source(images, indices, data, flip, &mut values);
    Tensor::from_data(TensorData::new(values, [indices.len(), 3, side, side]), device)
}
