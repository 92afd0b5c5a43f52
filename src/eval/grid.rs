//! A scan for the most informative denoiser block and noise level (DDAE, Xiang et al. 2023): every
//! decoder block at every noise level, evaluated on held-out training images.

use super::features::{FeatureKind, Features, extract};
use super::linear::batches;
use super::probe::{Point, Protocol, Split};
use crate::config::{Config, ProbeConfig};
use crate::data::{Dataset, split};
use crate::error::{Error, Hint, Result};
use crate::model::Soda;
use burn::tensor::Device;
use serde::Serialize;

/// The fewest steps that `linear` trains for: few images need many epochs.
const STEPS: usize = 1500;
/// Default noise levels, as fractions of all of them.
const SHARES: [f64; 7] = [0.001, 0.011, 0.05, 0.1, 0.2, 0.4, 0.7];

/// The score of one block at one noise level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The features, `denoiser:BLOCK@T`.
    pub features: String,
    /// Name of the block.
    pub block: String,
    /// Noise level.
    pub t: usize,
    /// The score on the held-out images.
    #[serde(flatten)]
    pub point: Point,
}

/// The results of a scan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grid {
    /// The middle block and the blocks of the up path, in the order of computation.
    pub blocks: Vec<String>,
    /// Noise levels, in ascending order.
    pub times: Vec<usize>,
    /// `[blocks, times]`
    pub cells: Vec<Cell>,
    /// The score of z on the same images.
    pub z: Point,
    /// Number of training images.
    pub n_train: usize,
    /// Number of held-out evaluation images.
    pub n_test: usize,
    /// Epochs of `linear`.
    pub epochs: usize,
}

/// The settings of a scan.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    /// The protocol that scores a cell, on the selection split.
    pub protocol: &'a Protocol,
    /// Noise levels, each 1 to T.
    pub times: &'a [usize],
    /// The most training images, sampled as the same fraction of each class; evaluation uses at
    /// most half as many.
    pub limit: usize,
}

/// Returns the default noise levels for a schedule of `steps`.
pub fn default_times(steps: usize) -> Vec<usize> {
    let mut times: Vec<usize> =
        SHARES.iter().map(|share| ((share * steps as f64).round() as usize).max(1)).collect();
    times.dedup();
    times
}

/// Scores every block of the up path, and the middle, at each of the noise levels; one forward pass
/// per noise level gives the features of all blocks. `done` is called with each completed noise
/// level.
///
/// # Errors
/// As [`Protocol::of_model`]; if the split isn't the selection split, or a noise level is out of
/// range.
pub fn scan(
    model: &Soda,
    config: &Config,
    data: &Dataset,
    scan: &Scan,
    device: &Device,
    done: impl Fn(usize),
) -> Result<Grid> {
    let Scan { protocol, times, limit } = scan;
    if protocol.split != Split::Selection {
        return Err(Error::usage(format!(
            "a scan selects features, so it must not use the test set; {}",
            Hint::SelectionSplit
        )));
    }
    let labels = data.train.labels();
    let few = |indices: Vec<usize>, limit: usize| -> Vec<usize> {
        let labels: Vec<u16> = indices.iter().map(|&i| labels[i]).collect();
        let share = (limit as f64 / indices.len() as f64).min(1.0);
        split::few_labels(&labels, share, 0).into_iter().map(|i| indices[i]).collect()
    };
    let (train, held_out) = protocol.probe_indices(data)?;
    let (train, held_out) = (few(train, *limit), few(held_out, limit.div_ceil(2)));
    let epochs = config
        .probe
        .epochs
        .max(STEPS.div_ceil(batches(train.len(), config.probe.batch_size).max(1)));
    let probe = ProbeConfig { epochs, ..config.probe.clone() };
    let take = |indices: &[usize], kinds: &[FeatureKind]| {
        extract(model, &data.train, indices, config, kinds, false, device)
    };
    let score = |train: &Features, held_out: &Features| {
        protocol.of_features(train, held_out, data.classes.len(), &probe).map(|probed| probed.point)
    };
    let z = [FeatureKind::Z];
    let z = score(&take(&train, &z)?[0], &take(&held_out, &z)?[0])?;

    let names = config.model.unet.levels().into_iter().map(|(name, _)| name);
    let blocks: Vec<String> = names.filter(|name| !name.starts_with("down")).collect();
    let mut columns = Vec::new();
    for &t in *times {
        let kinds: Vec<FeatureKind> =
            blocks.iter().map(|b| FeatureKind::Denoiser { block: b.clone(), t }).collect();
        let (of_train, of_held_out) = (take(&train, &kinds)?, take(&held_out, &kinds)?);
        let cells = of_train.iter().zip(&of_held_out).zip(&kinds).zip(&blocks).map(
            |(((train, held_out), kind), block)| {
                Ok(Cell {
                    features: kind.to_string(),
                    block: block.clone(),
                    t,
                    point: score(train, held_out)?,
                })
            },
        );
        columns.push(cells.collect::<Result<Vec<Cell>>>()?);
        done(t);
    }
    let cells = (0..blocks.len())
        .flat_map(|block| columns.iter().map(move |column| column[block].clone()))
        .collect();
    Ok(Grid {
        blocks,
        times: times.to_vec(),
        cells,
        z,
        n_train: train.len(),
        n_test: held_out.len(),
        epochs,
    })
}

impl Grid {
    /// Returns the cell of the highest top-1, the first of equal ones.
    ///
    /// # Panics
    /// If there are no cells.
    pub fn best(&self) -> &Cell {
        let better = |best, cell| if top1(cell) > top1(best) { cell } else { best };
        self.cells[1..].iter().fold(&self.cells[0], better)
    }
}

fn top1(cell: &Cell) -> f64 {
    cell.point.score.top1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_levels_scale_with_the_schedule_and_are_unique() {
        assert_eq!(default_times(1000), [1, 11, 50, 100, 200, 400, 700]);
        let few = default_times(10);
        assert!(
            few.is_sorted_by(|a, b| a < b) && few[0] == 1 && few[few.len() - 1] == 7,
            "{few:?}"
        );
    }
}
