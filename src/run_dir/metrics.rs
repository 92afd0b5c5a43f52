//! The rows of metrics.jsonl.

use serde::{Deserialize, Serialize};

/// One row of metrics.jsonl.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Optimizer steps done.
    pub step: u64,
    /// Images seen.
    pub images: u64,
    /// Mean loss since the last row.
    pub loss: f64,
    /// L2 norm of the last step's gradients before clipping.
    pub grad_norm: f64,
    /// Learning rate of the denoiser.
    pub lr: f64,
    /// Throughput since the last row.
    pub images_per_s: f64,
    /// Seconds of training, without interruptions.
    pub seconds: f64,
    /// The factor applied to the loss before the backward pass; in mixed precision only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Steps of the whole run so far that were skipped because their gradients weren't finite; in
    /// mixed precision only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
    /// Bytes reserved by the memory pools of the adapter; `None` on the CPU backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_bytes: Option<u64>,
    /// Bytes of the pools that are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_bytes_used: Option<u64>,
}

/// A row of metrics.jsonl with an evaluation of z: scores of the EMA weights on the validation
/// split, in per cent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Optimizer steps done.
    pub step: u64,
    /// Images seen.
    pub images: u64,
    /// Top-1 accuracy of `knn`.
    pub knn: f64,
    /// Top-1 accuracy of `linear`.
    pub linear: f64,
    /// Number of images that k-NN and probe were fitted on.
    pub n_train: usize,
    /// Number of evaluation images.
    pub n_validation: usize,
}

/// A line of metrics.jsonl.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "neither a row nor an evaluation")]
pub(super) enum Line {
    Row(Row),
    Evaluation(Evaluation),
}

/// The contents of metrics.jsonl, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// The training rows.
    pub rows: Vec<Row>,
    /// The evaluations of z.
    pub evaluations: Vec<Evaluation>,
}

impl Metrics {
    /// Returns the evaluation with the best k-NN score, the first of equals, among those whose step
    /// is in `kept`.
    pub fn best(&self, kept: &[u64]) -> Option<&Evaluation> {
        self.evaluations
            .iter()
            .filter(|e| kept.contains(&e.step))
            .reduce(|best, e| if e.knn > best.knn { e } else { best })
    }

    /// Drops everything after `step`.
    pub fn truncate(&mut self, step: u64) {
        self.rows.retain(|r| r.step <= step);
        self.evaluations.retain(|e| e.step <= step);
    }

    /// Returns the lines of the file, by step; an evaluation follows the row of its step.
    pub fn to_jsonl(&self) -> String {
        let rows = self.rows.iter().map(|r| (r.step, 0, json_line(r)));
        let evaluations = self.evaluations.iter().map(|e| (e.step, 1, json_line(e)));
        let mut lines: Vec<_> = rows.chain(evaluations).collect();
        lines.sort_by_key(|(step, kind, _)| (*step, *kind));
        lines.into_iter().map(|(.., line)| line).collect()
    }
}

/// Returns `row` as a line of metrics.jsonl.
pub fn json_line(row: &impl Serialize) -> String {
    serde_json::to_string(row).expect("a row is JSON") + "\n"
}
