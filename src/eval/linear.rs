//! The `linear` protocol of SODA on cached features: z / |z| -> BatchNorm1d without affine -> one
//! Linear, trained with Adam.
//!
//! Plain f32 arithmetic on the host in one fixed order: the scores of given features depend neither
//! on the device that made the features nor on the number of threads.

mod adam;

use super::features::Rows;
use crate::config::ProbeConfig;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::rng::{self, Purpose};
use adam::{Adam, AdamStep};
use rand::RngExt;
use rayon::prelude::*;
use serde::Serialize;

/// Features of a block: one block is one task and one [`Row`]; the last block is filled up with
/// zeros.
const BLOCK: usize = 128;
/// Independent partial sums of a dot product, so that it vectorises.
const LANES: usize = 16;
/// BatchNorm1d's eps (soda.md) and the share of a batch in its running statistics (PyTorch's
/// default).
const BN_EPS: f32 = 1e-6;
const BN_MOMENTUM: f32 = 0.1;
/// Smallest norm that a feature vector is divided by (`torch.nn.functional.normalize`).
const MIN_NORM: f32 = 1e-12;

/// One block's part of a feature vector or of a class's weights.
type Row = [f32; BLOCK];

/// Share of the test rows whose class is among the k likeliest, in per cent; none where there are
/// no more than k classes, as it is right by definition then.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// The right class has the highest score.
    pub top1: f64,
    /// It is among the three highest.
    pub top3: Option<f64>,
    /// It is among the five highest.
    pub top5: Option<f64>,
    /// Of each test row whether the right class has the highest score, `[N]`.
    #[serde(skip)]
    pub right: Vec<bool>,
}

impl Scores {
    /// Of the test rows whose class is preceded by this many of the `classes`.
    pub(super) fn of_ranks(ranks: &[usize], classes: usize) -> Self {
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

/// What the protocol leaves open beside [`ProbeConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeShape {
    /// Number of classes, C.
    pub classes: usize,
    /// Divide every feature vector by its L2 norm first.
    pub normalise: bool,
}

impl ProbeShape {
    /// The `linear` protocol for `classes` classes.
    pub fn linear(classes: usize) -> Self {
        Self { classes, normalise: true }
    }
}

/// A linear classifier in training or trained: logits = W BN(z / |z|) + b.
#[derive(Clone, Debug)]
pub struct LinearProbe {
    shape: ProbeShape,
    dim: usize,
    config: ProbeConfig,
    seed: u64,
    blocks: Vec<Block>,
    bias: Adam,
    epochs_done: usize,
    steps_done: usize,
    steps_total: usize,
}

/// The part of the probe that sees features `start..start + BLOCK`, with the scratch space of one
/// batch.
#[derive(Clone, Debug)]
struct Block {
    start: usize,
    /// \[C\] rows.
    weight: Adam<Row>,
    running_mean: Row,
    running_var: Row,
    /// Normalised features of the batch, \[B\] rows.
    x: Vec<Row>,
    /// This block's share of the logits, \[B, C\].
    logits: Vec<f32>,
}

/// Trains a probe for `classes` classes on L2-normalised `train` as `config` says and scores it on
/// `test`.
///
/// # Errors
/// Features or weights that are not finite, a class outside 0..`classes`, too few rows for a batch
/// of two.
///
/// # Panics
/// If `test` has another feature length than `train`, or `values` is not `[N, D]`.
pub fn train_and_score(
    train: &dyn Rows,
    test: &dyn Rows,
    classes: usize,
    config: &ProbeConfig,
    seed: u64,
) -> Result<Scores> {
    LinearProbe::trained(train, classes, config, seed, "linear probe")?.score(test)
}

impl LinearProbe {
    /// A probe of the `linear` protocol for `classes` classes, trained on `train` as `config` says;
    /// `name` is what progress calls it.
    ///
    /// # Errors
    /// As [`train_and_score`].
    pub fn trained(
        train: &dyn Rows,
        classes: usize,
        config: &ProbeConfig,
        seed: u64,
        name: &str,
    ) -> Result<Self> {
        let mut probe =
            Self::new(train.dim(), train.rows(), ProbeShape::linear(classes), config, seed)?;
        let progress = Progress::new(name, Some(config.epochs * train.rows()));
        for _ in 0..config.epochs {
            probe.train_epoch_seen(train, |rows| progress.add(rows))?;
        }
        Ok(probe)
    }

    /// An untrained probe for feature vectors of length `dim`, to be trained on `rows` of them for
    /// `config.epochs` epochs.
    ///
    /// Weights and bias are drawn from U(-1, 1) / sqrt(dim), as PyTorch's `Linear` does, from
    /// stream 0 of `seed`.
    ///
    /// # Errors
    /// `rows` or `config.batch_size` below 2: a batch of one has no variance.
    pub fn new(
        dim: usize,
        rows: usize,
        shape: ProbeShape,
        config: &ProbeConfig,
        seed: u64,
    ) -> Result<Self> {
        assert!(
            dim > 0 && shape.classes > 0,
            "a probe needs features and classes, got D = {dim}, C = {}",
            shape.classes
        );
        if config.batch_size < 2 {
            let batch = config.batch_size;
            return Err(Error::usage(format!(
                "probe.batch_size = {batch}: batch normalisation needs at least 2"
            )));
        }
        if rows < 2 {
            return Err(Error::failed(format!(
                "{rows} training rows are too few for a probe; give it at least 2"
            )));
        }
        let bound = (dim as f32).sqrt().recip();
        let mut rng = rng::stream(seed, Purpose::Probe, 0);
        let mut draw =
            |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-bound..bound)).collect() };
        let weight = draw(shape.classes * dim);
        let bias = Adam::new(draw(shape.classes), 0.0);
        let blocks = (0..dim)
            .step_by(BLOCK)
            .map(|start| {
                let rows = weight.chunks_exact(dim).map(|class| padded(class, start)).collect();
                Block {
                    start,
                    weight: Adam::new(rows, [0.0; BLOCK]),
                    running_mean: [0.0; BLOCK],
                    running_var: [1.0; BLOCK],
                    x: Vec::new(),
                    logits: Vec::new(),
                }
            })
            .collect();
        let steps_total = config.epochs * batches(rows, config.batch_size);
        Ok(Self {
            shape,
            dim,
            config: config.clone(),
            seed,
            blocks,
            bias,
            epochs_done: 0,
            steps_done: 0,
            steps_total,
        })
    }

    /// One pass over `train` in an order of its own (stream 1 + epoch); the features may be other
    /// ones (of other views) at each call, as long as there are as many as promised to
    /// [`LinearProbe::new`].
    ///
    /// # Errors
    /// Features that are not finite, a class out of range.
    pub fn train_epoch(&mut self, train: &dyn Rows) -> Result<()> {
        self.train_epoch_seen(train, |_| ())
    }

    /// [`LinearProbe::train_epoch`]; `seen` is told the rows of each batch.
    fn train_epoch_seen(&mut self, train: &dyn Rows, seen: impl Fn(usize)) -> Result<()> {
        train.check("training", self.dim, self.shape.classes)?;
        let scales = self.scales(train);
        let mut rng = rng::stream(self.seed, Purpose::Probe, 1 + self.epochs_done as u64);
        let order = rng::permutation(&mut rng, train.rows());
        for rows in order.chunks(self.config.batch_size).filter(|rows| rows.len() > 1) {
            self.step(train, &scales, rows);
            seen(rows.len());
        }
        self.epochs_done += 1;
        Ok(())
    }

    /// Logits of every row of `features`, \[N, C\], with the running statistics of the training.
    pub fn logits(&self, features: &dyn Rows) -> Vec<f32> {
        assert_eq!(
            features.dim(),
            self.dim,
            "features: length of a vector, beside that of the probe"
        );
        let (classes, scales) = (self.shape.classes, self.scales(features));
        let mut logits = vec![0.0; features.rows() * classes];
        logits.par_chunks_mut(classes).enumerate().for_each(|(i, out)| {
            out.copy_from_slice(&self.bias.value);
            for block in &self.blocks {
                let mut x = part(features, i, block.start);
                for ((x, mean), var) in
                    x.iter_mut().zip(&block.running_mean).zip(&block.running_var)
                {
                    *x = (*x * scales[i] - mean) / (var + BN_EPS).sqrt();
                }
                for (logit, weight) in out.iter_mut().zip(&block.weight.value) {
                    *logit += dot(&x, weight);
                }
            }
        });
        logits
    }

    /// The direction in z that each class's logit rises along most, `[C, D]`: its weights less
    /// their mean over the classes (which softmax doesn't see), times the deviation of each
    /// feature, which turns a step in normalised features into one in z (as Preechakul et al. 2022
    /// move their z). A feature that never varies has no part in it, whatever its weight.
    pub fn class_directions(&self) -> Vec<Vec<f32>> {
        let classes = self.shape.classes;
        let mut out = vec![Vec::with_capacity(self.dim); classes];
        for block in &self.blocks {
            let mut mean = [0.0; BLOCK];
            block.weight.value.iter().for_each(|weight| add(&mut mean, weight));
            let used = BLOCK.min(self.dim - block.start);
            for (out, weight) in out.iter_mut().zip(&block.weight.value) {
                let step =
                    |i: usize| (weight[i] - mean[i] / classes as f32) * block.running_var[i].sqrt();
                out.extend((0..used).map(step));
            }
        }
        out
    }

    /// Scores the probe on `test`. Of equal logits the lower class counts as the likelier one.
    ///
    /// # Errors
    /// Features or logits that are not finite, a class out of range, no rows.
    pub fn score(&self, test: &dyn Rows) -> Result<Scores> {
        test.check("test", self.dim, self.shape.classes)?;
        if test.rows() == 0 {
            return Err(Error::failed("there are no test rows to score a probe on"));
        }
        let logits = self.logits(test);
        if logits.iter().any(|l| !l.is_finite()) {
            return Err(Error::failed(
                "the probe diverged: its logits are not finite; choose a smaller probe.lr",
            ));
        }
        let ranks: Vec<usize> = logits
            .chunks_exact(self.shape.classes)
            .zip(test.labels())
            .map(|(l, &label)| rank(l, label.into()))
            .collect();
        Ok(Scores::of_ranks(&ranks, self.shape.classes))
    }

    /// One step of Adam on the mean cross-entropy of `rows`.
    fn step(&mut self, train: &dyn Rows, scales: &[f32], rows: &[u32]) {
        let classes = self.shape.classes;
        each(&mut self.blocks, |block| block.forward(train, scales, rows));

        // Block after block, so that the order of the sum doesn't depend on who finished first.
        let mut logits: Vec<f32> = self.bias.value.repeat(rows.len());
        for block in &self.blocks {
            logits.iter_mut().zip(&block.logits).for_each(|(sum, part)| *sum += part);
        }
        // d loss / d logits = (softmax - one-hot) / B, in place.
        let share = 1.0 / rows.len() as f32;
        self.bias.grad.fill(0.0);
        for (logits, &row) in logits.chunks_exact_mut(classes).zip(rows) {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            logits.iter_mut().for_each(|l| *l = (*l - largest).exp());
            let sum: f32 = logits.iter().sum();
            logits.iter_mut().for_each(|l| *l *= share / sum);
            logits[usize::from(train.labels()[row as usize])] -= share;
            self.bias.grad.iter_mut().zip(&*logits).for_each(|(sum, g)| *sum += g);
        }

        let progress = self.steps_done as f64 / self.steps_total as f64;
        let lr = self.config.lr * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos());
        self.steps_done += 1;
        let adam = AdamStep::new(lr, self.steps_done);
        each(&mut self.blocks, |block| block.backward(&logits, adam));
        let Adam { value, grad, m, v } = &mut self.bias;
        for (((value, grad), m), v) in value.iter_mut().zip(&*grad).zip(m).zip(v) {
            adam.apply(value, *grad, m, v);
        }
    }

    /// What each row is multiplied by before anything else: 1 / |z|, or 1.
    fn scales(&self, features: &dyn Rows) -> Vec<f32> {
        if !self.shape.normalise {
            return vec![1.0; features.rows()];
        }
        let scale = |i| {
            let squares: f32 = (0..self.dim)
                .step_by(BLOCK)
                .map(|start| part(features, i, start))
                .map(|x| dot(&x, &x))
                .sum();
            squares.sqrt().max(MIN_NORM).recip()
        };
        (0..features.rows()).into_par_iter().map(scale).collect()
    }
}

impl Block {
    /// Gathers and normalises the batch, updates the running statistics, computes this block's
    /// share of the logits.
    fn forward(&mut self, train: &dyn Rows, scales: &[f32], rows: &[u32]) {
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

    /// d loss / d W = d loss / d logits^T x, and Adam's step on W.
    fn backward(&mut self, dlogits: &[f32], adam: AdamStep) {
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

/// Mean and sample standard deviation (n - 1) of `values`; the deviation of a single value is
/// reported as 0.
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

/// Steps of an epoch: a last batch of one row is left out.
pub(super) fn batches(rows: usize, batch_size: usize) -> usize {
    rows / batch_size + usize::from(rows % batch_size > 1)
}

/// Classes that come before `label` when sorted by falling logit, then by number.
pub(super) fn rank<T: Copy + PartialOrd>(logits: &[T], label: usize) -> usize {
    let own = logits[label];
    logits.iter().enumerate().filter(|&(class, &l)| l > own || (l == own && class < label)).count()
}

/// Runs `work` on every block, in parallel where there are several.
fn each(blocks: &mut [Block], work: impl Fn(&mut Block) + Send + Sync) {
    match blocks {
        [only] => work(only),
        many => many.par_iter_mut().for_each(work),
    }
}

/// Entries `start..start + BLOCK` of row `i`, zeros beyond its end.
fn part(rows: &dyn Rows, i: usize, start: usize) -> Row {
    let mut out = [0.0; BLOCK];
    rows.read(i, start, &mut out[..BLOCK.min(rows.dim() - start)]);
    out
}

/// Entries `start..start + BLOCK` of `row`, zeros beyond its end.
fn padded(row: &[f32], start: usize) -> Row {
    let mut out = [0.0; BLOCK];
    let part = &row[start..row.len().min(start + BLOCK)];
    out[..part.len()].copy_from_slice(part);
    out
}

fn add(sum: &mut Row, x: &Row) {
    sum.iter_mut().zip(x).for_each(|(s, x)| *s += x);
}

fn dot(a: &Row, b: &Row) -> f32 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests;
