//! The scores of an evaluation, as they are reported and stored.

use crate::eval::linear::{Scores, mean_and_spread};
use serde::{Deserialize, Serialize};

/// Mean and sample standard deviation over the seeds, in per cent. Top-3 and top-5 are `None` for
/// no more than 3 and 5 classes, as they are always right then, and for fewer than 3 and 5
/// neighbours, which don't vote for as many classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Top-1 accuracy.
    pub top1: f64,
    /// Top-3 accuracy.
    pub top3: Option<f64>,
    /// Top-5 accuracy.
    pub top5: Option<f64>,
    /// Spread of top-1.
    pub top1_spread: f64,
    /// Spread of top-3.
    pub top3_spread: Option<f64>,
    /// Spread of top-5.
    pub top5_spread: Option<f64>,
}

impl Score {
    pub(super) fn of(scores: &[Scores]) -> Self {
        let over = |f: fn(&Scores) -> Option<f64>| {
            let values: Option<Vec<f64>> = scores.iter().map(f).collect();
            values.map(|values| mean_and_spread(&values)).unzip()
        };
        let (top1, top1_spread) =
            mean_and_spread(&scores.iter().map(|s| s.top1).collect::<Vec<_>>());
        let [(top3, top3_spread), (top5, top5_spread)] = [over(|s| s.top3), over(|s| s.top5)];
        Self { top1, top3, top5, top1_spread, top3_spread, top5_spread }
    }

    /// Returns the score without the top-k that so few `neighbours` can't tell apart; `None` for
    /// methods without neighbours.
    pub(super) fn among(mut self, neighbours: Option<usize>) -> Self {
        if neighbours.is_some_and(|k| k < 3) {
            (self.top3, self.top3_spread) = (None, None);
        }
        if neighbours.is_some_and(|k| k < 5) {
            (self.top5, self.top5_spread) = (None, None);
        }
        self
    }
}

/// Returns, for each test row, the share of the runs that classified it correctly, `[N]`.
pub(super) fn share_right(scores: &[Scores]) -> Vec<f32> {
    let rows = scores.first().map_or(0, |s| s.right.len());
    let right =
        |row: usize| scores.iter().filter(|s| s.right[row]).count() as f32 / scores.len() as f32;
    (0..rows).map(right).collect()
}

/// The score with a fraction of the training labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The fraction.
    pub fraction: f64,
    /// The number of images with these labels.
    pub n_train: usize,
    /// The number of runs, with seeds 0, 1, ..; one if nothing is random.
    pub runs: u64,
    /// Nearest neighbours that vote, for the k-NN protocols: fewer in small data sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<usize>,
    /// The score over these runs.
    #[serde(flatten)]
    pub score: Score,
}

/// The score of features; with several fractions of the training labels, that of the largest one
/// and the curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// The score with the largest fraction.
    #[serde(flatten)]
    pub point: Point,
    /// The scores in the order of [`Protocol::fractions`](super::Protocol::fractions); empty if
    /// there is only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<Point>,
    /// With the largest fraction, for each test row the share of the runs that classified it
    /// correctly, `[N]`; not stored.
    #[serde(skip)]
    pub right: Vec<f32>,
}

/// Baselines without learning, scored in the same way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// Raw pixels as features.
    pub pixels: Probed,
    /// The same features of untrained networks.
    pub random_encoder: Probed,
}
