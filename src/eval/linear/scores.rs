//! Scores of a classifier: top-k accuracies, and their spread over runs.

use serde::Serialize;

/// Top-k accuracies in per cent; `None` where there are no more than k classes, as the top-k is
/// always right then.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Top-1 accuracy.
    pub top1: f64,
    /// Top-3 accuracy.
    pub top3: Option<f64>,
    /// Top-5 accuracy.
    pub top5: Option<f64>,
    /// For each test row, whether the right class has the highest score, `[N]`.
    #[serde(skip)]
    pub right: Vec<bool>,
}

impl Scores {
    /// Computes the scores from the ranks of the right classes among `classes`, 0 being the highest
    /// score.
    pub(in crate::eval) fn of_ranks(ranks: &[usize], classes: usize) -> Self {
        let top =
            |k: usize| 100.0 * ranks.iter().filter(|&&r| r < k).count() as f64 / ranks.len() as f64;
        let unless_sure = |k: usize| (classes > k).then(|| top(k));
        Self {
            top1: top(1),
            top3: unless_sure(3),
            top5: unless_sure(5),
            right: ranks.iter().map(|&r| r == 0).collect(),
        }
    }
}

/// Returns the mean and sample standard deviation (n - 1) of `values`; for a single value the
/// deviation is 0.
///
/// # Panics
/// If there are no values.
pub fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    assert!(!values.is_empty(), "mean_and_spread of no values");
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

/// Returns the number of classes before `label` when sorted by descending logit, then by class.
pub(in crate::eval) fn rank<T: Copy + PartialOrd>(logits: &[T], label: usize) -> usize {
    let own = logits[label];
    logits.iter().enumerate().filter(|&(class, &l)| l > own || (l == own && class < label)).count()
}
