//! A part of the probe, which is computed by one task: some features with their weights.

use super::adam::{Adam, AdamStep};
use crate::eval::features::Rows;

/// Features per block. A block is one task and one [`Row`]; the last block is zero-padded.
pub(super) const BLOCK: usize = 128;

/// Independent partial sums of a dot product, which lets it vectorise.
const LANES: usize = 16;

/// BatchNorm1d's eps in the `linear` protocol, and its momentum (PyTorch's default).
pub(super) const BN_EPS: f32 = 1e-6;
const BN_MOMENTUM: f32 = 0.1;

/// One block's part of a feature vector or of a class's weights.
pub(super) type Row = [f32; BLOCK];

/// The part of the probe for features `start..start + BLOCK`, with scratch space for one batch.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) start: usize,
    /// \[C\] rows.
    pub(super) weight: Adam<Row>,
    pub(super) running_mean: Row,
    pub(super) running_var: Row,
    /// Normalised features of the batch, \[B\] rows.
    pub(super) x: Vec<Row>,
    /// This block's contribution to the logits, \[B, C\].
    pub(super) logits: Vec<f32>,
}

impl Block {
    /// Gathers and normalises the batch, updates the running statistics, and computes this block's
    /// contribution to the logits.
    pub(super) fn forward(&mut self, train: &dyn Rows, scales: &[f32], rows: &[u32]) {
        self.x.clear();
        self.x.extend(rows.iter().map(|&i| {
            let mut x = part(train, i as usize, self.start);
            x.iter_mut().for_each(|v| *v *= scales[i as usize]);
            x
        }));
        let n = rows.len() as f32;
        let mut mean = [0.0; BLOCK];
        self.x.iter().for_each(|x| add(&mut mean, x));
        mean.iter_mut().for_each(|m| *m /= n);
        let mut squares = [0.0; BLOCK];
        for x in &mut self.x {
            for ((x, mean), sum) in x.iter_mut().zip(&mean).zip(&mut squares) {
                *x -= mean;
                *sum += *x * *x;
            }
        }
        let scale = squares.map(|sum| (sum / n + BN_EPS).sqrt().recip());
        self.x.iter_mut().for_each(|x| x.iter_mut().zip(&scale).for_each(|(x, s)| *x *= s));
        for i in 0..BLOCK {
            self.running_mean[i] += (mean[i] - self.running_mean[i]) * BN_MOMENTUM;
            self.running_var[i] += (squares[i] / (n - 1.0) - self.running_var[i]) * BN_MOMENTUM;
        }
        self.logits.clear();
        for x in &self.x {
            self.logits.extend(self.weight.value.iter().map(|weight| dot(x, weight)));
        }
    }

    /// Computes d loss / d W = d loss / d logits^T x, and takes Adam's step on W.
    pub(super) fn backward(&mut self, dlogits: &[f32], adam: AdamStep) {
        let Adam { value, grad, m, v } = &mut self.weight;
        grad.fill([0.0; BLOCK]);
        for (x, dlogits) in self.x.iter().zip(dlogits.chunks_exact(grad.len())) {
            for (grad, d) in grad.iter_mut().zip(dlogits) {
                grad.iter_mut().zip(x).for_each(|(sum, x)| *sum += d * x);
            }
        }
        for (((value, grad), m), v) in value.iter_mut().zip(&*grad).zip(m).zip(v) {
            for (((value, grad), m), v) in value.iter_mut().zip(grad).zip(m).zip(v) {
                adam.apply(value, *grad, m, v);
            }
        }
    }
}

/// Returns entries `start..start + BLOCK` of row `i`, zero-padded.
pub(super) fn part(rows: &dyn Rows, i: usize, start: usize) -> Row {
    let mut out = [0.0; BLOCK];
    rows.read(i, start, &mut out[..BLOCK.min(rows.dim() - start)]);
    out
}

/// Returns entries `start..start + BLOCK` of `row`, zero-padded.
pub(super) fn padded(row: &[f32], start: usize) -> Row {
    let mut out = [0.0; BLOCK];
    let part = &row[start..row.len().min(start + BLOCK)];
    out[..part.len()].copy_from_slice(part);
    out
}

pub(super) fn add(sum: &mut Row, x: &Row) {
    sum.iter_mut().zip(x).for_each(|(s, x)| *s += x);
}

pub(super) fn dot(a: &Row, b: &Row) -> f32 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}
