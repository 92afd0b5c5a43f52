//! The view pipeline: pairs of views with the full recipe (crop, flip, RandAugment, noise), loader
//! included.

use super::job::Job;
use super::plan::Size;
use super::recipe::recipe;
use super::row::Row;
use super::timing::Timing;
use crate::data::{bundled, loader::measure_pairs};
use crate::error::Result;

/// The number of time slices, each of which gives a sample.
const SLICES: usize = 5;

/// Measures pairs per second, reported as `images_per_s`; the times are those of one batch.
///
/// # Errors
/// If the loader fails.
pub(super) fn run(job: &mut Job) -> Result<()> {
    let config = recipe(Size::Paper)?;
    let batch = config.train.batch_size;
    let mut row = Row {
        batch: Some(batch),
        variant: Some("full recipe".into()),
        ..Row::new("view_pairs", &job.place)
    };
    job.planned(vec![row.name()])?;
    let images = bundled()?.at(config.data.side)?.train;
    let seconds = (job.left() / (SLICES + 1) as f64).clamp(0.02, 0.8);
    let mut times = Vec::with_capacity(SLICES);
    for _ in 0..SLICES {
        times.push(batch as f64 / measure_pairs(images.clone(), &config.data, batch, seconds)?);
    }
    if let Some(timing) = Timing::of(times) {
        row.timed(&timing);
        row.images_per_s = Some(batch as f64 / timing.median);
    }
    job.row(row)
}
