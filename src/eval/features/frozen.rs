//! Features of a whole data set from frozen networks, computed once and cached in the user's cache
//! folder.

use super::extract::picture;
use super::{Extractor, FeatureKind, Features, Rows, batch_size_of};
use crate::config::Config;
use crate::data::{Dataset, Images};
use crate::error::{Error, Result};
use crate::eval::table;
use crate::files;
use crate::model::Soda;
use crate::progress::Progress;
use burn::tensor::Device;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Must be incremented whenever features change, so that cached ones are re-computed.
const REVISION: u32 = 5;
/// The number of cached files, the newest ones: 25 MB each for 50,000 z of 128 dimensions.
const KEPT: usize = 16;

/// Where features are cached, and under which key.
struct Shelf {
    folder: PathBuf,
    /// Identifies the weights.
    weights: String,
    /// Identifies the device.
    place: String,
}

/// Frozen networks and the data set that they encode.
pub struct Frozen<'a> {
    /// The networks.
    pub model: &'a Soda,
    /// Their recipe.
    pub config: &'a Config,
    /// The data set.
    pub data: &'a Dataset,
    /// The device that holds the networks.
    pub device: &'a Device,
    shelf: Option<Shelf>,
}

impl<'a> Frozen<'a> {
    /// Creates a `Frozen` that caches nothing.
    pub fn new(model: &'a Soda, config: &'a Config, data: &'a Dataset, device: &'a Device) -> Self {
        Self { model, config, data, device, shelf: None }
    }

    /// Caches features in `folder` (`None`: nowhere), keyed by `weights`, which identifies the
    /// weights, and `place`, which identifies the device; and by the checksum of the data set, and
    /// the names and labels of its images, which tell apart selections of the same data.
    pub fn kept(self, folder: Option<PathBuf>, weights: &str, place: &str) -> Self {
        let shelf =
            folder.map(|folder| Shelf { folder, weights: weights.into(), place: place.into() });
        Self { shelf, ..self }
    }

    /// Returns the same with the untrained networks `model`, whose BatchNorm was calibrated on the
    /// training images of `calibrated_on`; their features are cached in the same folder.
    pub fn untrained(&self, model: &'a Soda, calibrated_on: &str) -> Self {
        let Self { config, data, device, .. } = *self;
        let normalisation = (config.data.mean, config.data.std);
        let untrained = format!(
            "untrained {} {:?} {:?} {normalisation:?} {calibrated_on}",
            config.seed, config.model, config.diffusion
        );
        // The networks' configuration has only the sizes of the views, not those of the data set's
        // images.
        let untrained = format!("{untrained} {}", config.data.side);
        let shelf = self.shelf.as_ref();
        let shelf = shelf.map(|s| Shelf {
            folder: s.folder.clone(),
            weights: untrained,
            place: s.place.clone(),
        });
        Self { model, config, data, device, shelf }
    }

    /// Returns the user's cache folder for features, if there is one.
    pub fn folder() -> Option<PathBuf> {
        dirs::cache_dir().map(|dir| dir.join("soda/features"))
    }

    /// Returns features of all training images, `[N, D]`; with `flips`, those of the mirrored
    /// images are appended: `[2 N, D]`.
    ///
    /// # Errors
    /// If the networks have no such features, a value is not finite, or the device can't be read. A
    /// damaged cache file is replaced, and a folder that can't be written only costs time.
    pub fn train(&self, kind: &FeatureKind, flips: bool) -> Result<Features> {
        self.all(&self.data.train, "train", kind, flips)
    }

    /// Returns features of all test images, `[N, D]`.
    ///
    /// # Errors
    /// As [`train`](Frozen::train).
    pub fn test(&self, kind: &FeatureKind) -> Result<Features> {
        self.all(&self.data.test, "test", kind, false)
    }

    fn all(&self, images: &Images, set: &str, kind: &FeatureKind, flips: bool) -> Result<Features> {
        let (dim, flips) =
            (kind.dim(self.config)?, [false, true].into_iter().take(1 + usize::from(flips)));
        let values = Vec::with_capacity(flips.len() * images.len() * dim);
        let mut features = Features { dim, values, labels: Vec::new() };
        for flip in flips {
            self.append(&mut features, images, set, kind, flip)?;
        }
        Ok(features)
    }

    /// Appends the features of `images`, mirrored if `flip`, to `features`.
    fn append(
        &self,
        features: &mut Features,
        images: &Images,
        set: &str,
        kind: &FeatureKind,
        flip: bool,
    ) -> Result<()> {
        let (n, dim, before) = (images.len(), features.dim, features.rows());
        let path = self.shelf.as_ref().map(|Shelf { folder, weights, place }| {
            // The data may have the same checksum at every size.
            let (data, side) = (&self.data.sha256, self.config.data.side);
            let images = identity(images);
            let key =
                format!("{REVISION} {weights} {place} {data} {images} {side} {set} {flip} {kind}");
            folder.join(format!("{}.safetensors", &files::sha256(key.as_bytes())[..24]))
        });
        let kept = path.as_ref().filter(|p| p.exists()).and_then(|p| table::read(p, None).ok());
        if let Some(kept) = kept.filter(|f| f.rows() == n && f.dim == dim) {
            features.values.extend(kept.values);
            features.labels.extend(kept.labels);
            return Ok(());
        }
        let extractor =
            Extractor::new(self.model, self.config, std::slice::from_ref(kind), self.device)?;
        let mirrored = if flip { ", mirrored" } else { "" };
        let progress = Progress::new(
            format!("encoding {} images{mirrored}", if set == "train" { "training" } else { set }),
            Some(n),
        );
        let batch = batch_size_of(self.config.model.sides);
        for first in (0..n).step_by(batch) {
            let pixels: Vec<_> = (first..n.min(first + batch))
                .map(|i| picture(images, i, flip))
                .collect::<Result<_>>()?;
            features.values.extend(extractor.features(&pixels)?.remove(0));
            progress.add(pixels.len());
        }
        progress.finish();
        features.labels.extend_from_slice(images.labels());
        features.check(set, dim, usize::from(u16::MAX) + 1)?;
        if let (Some(path), Some(shelf)) = (path, &self.shelf) {
            match keep(&path, features, before) {
                Err(e) => log::warn!("features are not cached: {e}"),
                Ok(()) => prune(&shelf.folder)
                    .unwrap_or_else(|e| log::warn!("old features are not removed: {e}")),
            }
        }
        Ok(())
    }
}

/// Returns a SHA-256, in hex, over the names and labels of `images`.
fn identity(images: &Images) -> String {
    let mut all = Sha256::new();
    for i in 0..images.len() {
        all.update(images.label(i).to_le_bytes());
        all.update(images.name(i).as_bytes());
        all.update([0]);
    }
    files::hex(&all.finalize())
}

/// Writes the rows from `first` onwards.
fn keep(path: &Path, features: &Features, first: usize) -> Result<()> {
    files::create_parent(path)?;
    let mut writer = table::Writer::create(
        path,
        features.dim,
        Some(&features.labels[first..]),
        BTreeMap::new(),
    )?;
    writer.append(&features.values[first * features.dim..])?;
    writer.finish()
}

/// Removes all but the newest [`KEPT`] files.
fn prune(folder: &Path) -> Result<()> {
    let failed = |e| Error::io("read", folder, &e);
    let entries = std::fs::read_dir(folder).map_err(failed)?.flatten();
    let mut aged: Vec<_> =
        entries.filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path()))).collect();
    aged.sort();
    let old = aged.len().saturating_sub(KEPT);
    // Another process may have removed some of them.
    aged[..old].iter().try_for_each(|(_, path)| files::remove_file(path))
}
