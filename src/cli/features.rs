//! Features of the training images, kept in the user's cache folder.

use super::progress::Progress;
use crate::data::Dataset;
use crate::device::Selected;
use crate::error::{Error, Result};
use crate::eval::features::{FeatureKind, Features, extract};
use crate::eval::table;
use crate::files;
use crate::model::Soda;
use crate::model::weights::WeightsFile;
use std::collections::BTreeMap;
use std::path::Path;

/// To be raised whenever features change: cached ones are then computed anew.
const REVISION: u32 = 1;
/// Files kept, the newest ones: 25 MB each for 50,000 z of 128 numbers.
const KEPT: usize = 8;
/// Images between two movements of the progress bar.
const STEP: usize = 1024;

/// Features of the plain training images, computed once for these weights, images and kind. A damaged file is replaced, and a
/// folder that can't be written only costs time.
///
/// # Errors
/// If the networks have no such features, or the device can't be read.
pub fn of_training_images(
    kind: &FeatureKind,
    model: &Soda,
    weights: &WeightsFile,
    dataset: &Dataset,
    device: &Selected,
) -> Result<Features> {
    let key = files::sha256(format!("{REVISION} {} {} {kind}", weights.sha256, dataset.sha256).as_bytes());
    let folder = dirs::cache_dir().map(|dir| dir.join("soda/features"));
    let path = folder.as_ref().map(|folder| folder.join(format!("{}.safetensors", &key[..24])));
    let (n, dim) = (dataset.train.len(), kind.dim(&weights.config)?);
    let cached = path.as_ref().filter(|p| p.exists()).and_then(|p| table::read(p, None).ok());
    if let Some(features) = cached.filter(|f| f.rows() == n && f.dim == dim) {
        return Ok(features);
    }
    let mut features = Features { dim, values: Vec::with_capacity(n * dim), labels: Vec::with_capacity(n) };
    let mut progress = Progress::new(Some(n));
    let (all, kinds): (Vec<usize>, _) = ((0..n).collect(), std::slice::from_ref(kind));
    for indices in all.chunks(STEP) {
        let part = extract(model, &dataset.train, indices, &weights.config, kinds, false, &device.device)?.remove(0);
        features.values.extend(part.values);
        features.labels.extend(part.labels);
        progress.add(indices.len());
    }
    progress.finish();
    if let (Some(path), Some(folder)) = (path, folder)
        && let Err(e) = keep(&path, &features).and_then(|()| prune(&folder))
    {
        log::warn!("the features of the training images are not cached: {e}");
    }
    Ok(features)
}

fn keep(path: &Path, features: &Features) -> Result<()> {
    files::create_parent(path)?;
    let mut writer = table::Writer::create(path, features.dim, Some(&features.labels), BTreeMap::new())?;
    writer.append(&features.values)?;
    writer.finish()
}

/// Takes away what is older than the newest [`KEPT`] files.
fn prune(folder: &Path) -> Result<()> {
    let failed = |e| Error::io("read", folder, &e);
    let entries = std::fs::read_dir(folder).map_err(failed)?.flatten();
    let mut aged: Vec<_> = entries.filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path()))).collect();
    aged.sort();
    let old = aged.len().saturating_sub(KEPT);
    for (_, path) in &aged[..old] {
        std::fs::remove_file(path).map_err(|e| Error::io("remove", path, &e))?;
    }
    Ok(())
}
