//! Nearest neighbours of the L2-normalised features of plain images: the protocols `knn` and
//! `knn-lightly` (docs/commands.md, "Probe"), and the neighbours themselves.
//!
//! In small data sets fewer neighbours vote, see [`Rule::among`].
//!
//! All pairs are compared by blocked f32 matrix products; only a block of the cosines is held at a
//! time.

use super::features::Rows;
use super::linear::{Scores, rank};
use crate::error::{Error, Result};
use crate::kernels::gemm::{Matrix, product};
use crate::progress::Progress;
use rayon::prelude::*;
use std::cmp::Ordering;

/// Training rows and queries per block: 1 MiB of cosines for each thread.
const TRAIN_BLOCK: usize = 1024;
const QUERY_BLOCK: usize = 256;
/// The smallest norm that a feature vector is divided by (`torch.nn.functional.normalize`).
const MIN_NORM: f64 = 1e-12;

/// How the nearest training rows vote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The number of neighbours that vote; fewer in small data sets, see [`Rule::among`].
    pub k: usize,
    /// A vote has weight exp(cosine / temperature); `None`: all weights are 1.
    pub temperature: Option<f64>,
}

impl Rule {
    /// `knn`: 20 votes of equal weight.
    pub const KNN: Rule = Rule { k: 20, temperature: None };
    /// `knn-lightly`: 200 votes at temperature 0.1, as in the benchmarks of lightly (weights: Wu et
    /// al. 2018).
    pub const LIGHTLY: Rule = Rule { k: 200, temperature: Some(0.1) };

    /// Returns the rule for `rows` training rows of `classes` classes, with at most as many
    /// neighbours as a class has rows on average. With more, other classes would outvote a class
    /// whatever the features show; with all rows, everything would be assigned to the largest
    /// class.
    pub fn among(self, rows: usize, classes: usize) -> Self {
        Self { k: self.k.min((rows / classes.max(1)).max(1)), ..self }
    }

    fn weight(self, cosine: f32) -> f64 {
        self.temperature.map_or(1.0, |t| (f64::from(cosine) / t).exp())
    }
}

/// Classifies each row of `test` by the votes of its nearest training rows, as many as
/// [`Rule::among`] allows, and compares the result with its label. On normalised vectors the
/// largest cosine and the smallest Euclidean distance select the same neighbours. Ties between
/// classes go to the lower class (as in scikit-learn); a class without any vote ranks last.
///
/// # Errors
/// If features are not finite, a class is outside 0..`classes`, or there are no rows.
///
/// # Panics
/// If the feature lengths of `test` and `train` differ, or `values` is not `[N, D]`.
pub fn score(train: &dyn Rows, test: &dyn Rows, classes: usize, rule: Rule) -> Result<Scores> {
    train.check("training", train.dim(), classes)?;
    test.check("test", train.dim(), classes)?;
    if train.rows() == 0 || test.rows() == 0 {
        let (train, test) = (train.rows(), test.rows());
        return Err(Error::failed(format!(
            "{train} training and {test} test rows: k-NN needs at least one of each"
        )));
    }
    let rule = rule.among(train.rows(), classes);
    let ranks =
        nearest(train, test, rule.k).into_iter().zip(test.labels()).map(|(neighbours, &label)| {
            let mut votes = vec![0.0; classes];
            for (row, cosine) in neighbours {
                votes[usize::from(train.labels()[row])] += rule.weight(cosine);
            }
            vote_rank(&votes, label.into())
        });
    Ok(Scores::of_ranks(&ranks.collect::<Vec<_>>(), classes))
}

/// Finds, for each row of `queries`, the `k` rows of `train` (all, if there are fewer) with the
/// largest cosine: (row, cosine) by descending cosine, ties by ascending row. A row that is in both
/// sets is its own first neighbour, at a cosine of 1 up to rounding. A query that isn't finite has
/// none.
///
/// # Panics
/// If the feature lengths of `queries` and `train` differ.
pub fn nearest(train: &dyn Rows, queries: &dyn Rows, k: usize) -> Vec<Vec<(usize, f32)>> {
    assert_eq!(
        train.dim(),
        queries.dim(),
        "queries: length of a vector, compared with that of the training features"
    );
    let (dim, k) = (train.dim(), k.min(train.rows()));
    let mut best: Vec<Best> = (0..queries.rows()).map(|_| Best::new(k)).collect();
    if k == 0 || dim == 0 {
        return best.into_iter().map(Best::finish).collect();
    }
    let mut block = Vec::new();
    let progress = Progress::new("finding nearest neighbours", Some(train.rows()));
    for start in (0..train.rows()).step_by(TRAIN_BLOCK) {
        let rows = TRAIN_BLOCK.min(train.rows() - start);
        block.resize(rows * dim, 0.0);
        block
            .par_chunks_mut(dim)
            .enumerate()
            .for_each(|(i, to)| read_normalised(train, start + i, to));

        best.par_chunks_mut(QUERY_BLOCK).enumerate().for_each_init(
            Scratch::default,
            |scratch, (number, best)| {
                let Scratch { normalised, cosines } = scratch;
                normalised.resize(best.len() * dim, 0.0);
                let first = number * QUERY_BLOCK;
                normalised
                    .chunks_exact_mut(dim)
                    .enumerate()
                    .for_each(|(i, to)| read_normalised(queries, first + i, to));
                cosines.resize(best.len() * rows, 0.0);
                let (a, b) = (Matrix::new(normalised, dim), Matrix::new(&block, dim).t());
                product((best.len(), rows, dim), 1.0, a, b, cosines, rows);
                for (best, cosines) in best.iter_mut().zip(cosines.chunks_exact(rows)) {
                    cosines
                        .iter()
                        .enumerate()
                        .for_each(|(i, &cosine)| best.offer(start + i, cosine));
                }
            },
        );
        progress.add(rows);
    }
    best.into_iter().map(Best::finish).collect()
}

/// A thread's block of normalised queries and their cosines, `[queries, training rows]`.
#[derive(Default)]
struct Scratch {
    normalised: Vec<f32>,
    cosines: Vec<f32>,
}

/// The best k of the rows offered so far, which come in ascending order. Up to 2k candidates are
/// collected between sorts.
struct Best {
    k: usize,
    /// The k-th best cosine at the last sort; candidates that are no better are discarded.
    floor: f32,
    found: Vec<(u32, f32)>,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { k, floor: f32::NEG_INFINITY, found: Vec::new() }
    }

    fn offer(&mut self, row: usize, cosine: f32) {
        // Ties go to the earlier row.
        if cosine > self.floor {
            self.found.push((row as u32, cosine));
            if self.found.len() >= 2 * self.k {
                self.shrink();
            }
        }
    }

    fn shrink(&mut self) {
        let order = |a: &(u32, f32), b: &(u32, f32)| -> Ordering {
            b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
        };
        self.found.sort_unstable_by(order);
        self.found.truncate(self.k);
        if let Some((_, worst)) = self.found.get(self.k - 1) {
            self.floor = *worst;
        }
    }

    fn finish(mut self) -> Vec<(usize, f32)> {
        if self.k > 0 {
            self.shrink();
        }
        self.found.into_iter().map(|(row, cosine)| (row as usize, cosine)).collect()
    }
}

/// Reads row `i` of `rows`, scaled to length 1.
fn read_normalised(rows: &dyn Rows, i: usize, to: &mut [f32]) {
    rows.read(i, 0, to);
    let scale = inverse_norm(to);
    to.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
}

pub(super) fn normalise(from: &[f32], to: &mut [f32]) {
    let scale = inverse_norm(from);
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = (f64::from(from) * scale) as f32);
}

fn inverse_norm(values: &[f32]) -> f64 {
    let squares: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    squares.sqrt().max(MIN_NORM).recip()
}

/// Returns the [`rank`] of `label`; a class without votes comes last.
fn vote_rank(votes: &[f64], label: usize) -> usize {
    if votes[label] > 0.0 { rank(votes, label) } else { votes.len() - 1 }
}

#[cfg(test)]
mod tests;
