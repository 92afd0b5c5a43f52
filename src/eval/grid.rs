//! Which block of the denoiser, at which noise level, knows most (DDAE, Xiang et al. 2023): every
//! decoder block beside every noise level, judged on training images that are held out.

use super::features::{FeatureKind, Features, extract};
use super::linear::batches;
use super::probe::{Point, Protocol, Split};
use crate::config::{Config, ProbeConfig};
use crate::data::{Dataset, split};
use crate::error::{Error, Result};
use crate::model::Soda;
use burn::tensor::Device;
use serde::Serialize;

/// Steps that `linear` trains for at least: few images want many epochs.
const STEPS: usize = 1500;
/// Noise levels that are looked at by default, as shares of all of them.
const SHARES: [f64; 7] = [0.001, 0.011, 0.05, 0.1, 0.2, 0.4, 0.7];

/// The score of one block at one noise level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// `denoiser:BLOCK@T`
    pub features: String,
    /// Name of the block.
    pub block: String,
    /// Noise level.
    pub t: usize,
    /// The score on the images held out.
    #[serde(flatten)]
    pub point: Point,
}

/// All cells of a scan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grid {
    /// The middle and the blocks of the way up, as they are computed.
    pub blocks: Vec<String>,
    /// Noise levels, rising.
    pub times: Vec<usize>,
    /// `[blocks, times]`
    pub cells: Vec<Cell>,
    /// Features of the encoder on the same images.
    pub z: Point,
    /// Images that are learnt from.
    pub n_train: usize,
    /// Images held out, which judge.
    pub n_test: usize,
    /// Passes of `linear` over them.
    pub epochs: usize,
}

/// What a scan looks at.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    /// How a cell is scored; on the selection split.
    pub protocol: &'a Protocol,
    /// Noise levels, each 1 to T.
    pub times: &'a [usize],
    /// Images to learn from at most, drawn from each class alike; half as many judge.
    pub limit: usize,
}

/// Noise levels for a schedule of `steps`.
pub fn default_times(steps: usize) -> Vec<usize> {
    let mut times: Vec<usize> =
        SHARES.iter().map(|share| ((share * steps as f64).round() as usize).max(1)).collect();
    times.dedup();
    times
}

/// Scores every block of the way up (and the middle) at each of the noise levels; one forward pass
/// a noise level shows all blocks. `done` is told of each noise level that is finished.
///
/// # Errors
/// As [`Protocol::of_model`]; another split than the selection one; a noise level out of range.
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
        return Err(Error::usage(
            "a scan chooses between features, so the test set has no say in it: --split selection",
        ));
    }
    let labels = data.train.labels();
    let few = |indices: Vec<usize>, limit: usize| -> Vec<usize> {
        let labels: Vec<u16> = indices.iter().map(|&i| labels[i]).collect();
        let share = (limit as f64 / indices.len() as f64).min(1.0);
        split::few_labels(&labels, share, 0).into_iter().map(|i| indices[i]).collect()
    };
    let (train, judge) = protocol.probe_indices(data)?;
    let (train, judge) = (few(train, *limit), few(judge, limit.div_ceil(2)));
    let epochs = config
        .probe
        .epochs
        .max(STEPS.div_ceil(batches(train.len(), config.probe.batch_size).max(1)));
    let probe = ProbeConfig { epochs, ..config.probe.clone() };
    let take = |indices: &[usize], kinds: &[FeatureKind]| {
        extract(model, &data.train, indices, config, kinds, false, device)
    };
    let score = |train: &Features, judge: &Features| {
        protocol.of_features(train, judge, data.classes.len(), &probe).map(|probed| probed.point)
    };
    let z = [FeatureKind::Z];
    let z = score(&take(&train, &z)?[0], &take(&judge, &z)?[0])?;

    let names = config.model.unet.levels().into_iter().map(|(name, _)| name);
    let blocks: Vec<String> = names.filter(|name| !name.starts_with("down")).collect();
    let mut columns = Vec::new();
    for &t in *times {
        let kinds: Vec<FeatureKind> =
            blocks.iter().map(|b| FeatureKind::Denoiser { block: b.clone(), t }).collect();
        let (of_train, of_judges) = (take(&train, &kinds)?, take(&judge, &kinds)?);
        let cells = of_train.iter().zip(&of_judges).zip(&kinds).zip(&blocks).map(
            |(((train, judge), kind), block)| {
                Ok(Cell {
                    features: kind.to_string(),
                    block: block.clone(),
                    t,
                    point: score(train, judge)?,
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
        n_test: judge.len(),
        epochs,
    })
}

impl Grid {
    /// The cell of the highest top-1; of equal ones the first.
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
    fn noise_levels_follow_the_schedule_and_come_once() {
        assert_eq!(default_times(1000), [1, 11, 50, 100, 200, 400, 700]);
        let few = default_times(10);
        assert!(
            few.is_sorted_by(|a, b| a < b) && few[0] == 1 && few[few.len() - 1] == 7,
            "{few:?}"
        );
    }
}
