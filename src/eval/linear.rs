//! The `linear` protocol of SODA on cached features: z / |z| -> BatchNorm1d without affine -> one
//! Linear layer, trained with Adam.
//!
//! Plain f32 arithmetic on the host in a fixed order: for given features, scores depend neither on
//! the device that computed the features nor on the number of threads.

mod adam;
mod block;
mod scores;

pub(super) use scores::rank;
pub use scores::{Scores, mean_and_spread};

use super::features::Rows;
use crate::config::ProbeConfig;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::rng::{self, Purpose};
use adam::{Adam, AdamStep};
use block::{BLOCK, BN_EPS, Block, add, dot, padded, part};
use rand::RngExt;
use rayon::prelude::*;

/// The smallest norm that a feature vector is divided by (`torch.nn.functional.normalize`).
const MIN_NORM: f32 = 1e-12;

/// Settings of the probe besides [`ProbeConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeShape {
    /// Number of classes, C.
    pub classes: usize,
    /// Whether every feature vector is first divided by its L2 norm.
    pub normalise: bool,
}

impl ProbeShape {
    /// Returns the shape of the `linear` protocol for `classes` classes.
    pub fn linear(classes: usize) -> Self {
        Self { classes, normalise: true }
    }
}

/// A linear classifier, during or after training: logits = W BN(z / |z|) + b.
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

/// Trains a probe for `classes` classes on L2-normalised `train` with the settings `config` and
/// scores it on `test`.
///
/// # Errors
/// If features or weights are not finite, a class is outside 0..`classes`, or there are too few
/// rows for a batch of two.
///
/// # Panics
/// If the feature lengths of `test` and `train` differ, or `values` is not `[N, D]`.
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
    /// Trains a probe of the `linear` protocol for `classes` classes on `train` with the settings
    /// `config`; `name` labels it in progress output.
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

    /// Creates an untrained probe for feature vectors of length `dim`, to be trained on `rows` of
    /// them for `config.epochs` epochs.
    ///
    /// Weights and bias are sampled from U(-1, 1) / sqrt(dim), as in PyTorch's `Linear`, with
    /// stream 0 of `seed`.
    ///
    /// # Errors
    /// If `rows` or `config.batch_size` is below 2: a batch of one has no variance.
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

    /// Trains one epoch on `train` in a random order (stream 1 + epoch). Each call may pass
    /// different features (of other views), as long as there are as many rows as were passed to
    /// [`LinearProbe::new`].
    ///
    /// # Errors
    /// If features are not finite, or a class is out of range.
    pub fn train_epoch(&mut self, train: &dyn Rows) -> Result<()> {
        self.train_epoch_seen(train, |_| ())
    }

    /// Trains one epoch, as [`LinearProbe::train_epoch`]; calls `seen` with the number of rows of
    /// each batch.
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

    /// Returns the logits of every row of `features`, \[N, C\], with the running statistics of
    /// training.
    pub fn logits(&self, features: &dyn Rows) -> Vec<f32> {
        assert_eq!(
            features.dim(),
            self.dim,
            "features: length of a vector, compared with that of the probe"
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

    /// Returns the directions in z that increase each class's logit most, `[C, D]`: the class's
    /// weights minus their mean over the classes (to which softmax is invariant), times the
    /// standard deviation of each feature, which turns a step in normalised features into one in z
    /// (as in Preechakul et al. 2022). A feature that never varies contributes nothing, whatever
    /// its weight.
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

    /// Scores the probe on `test`. Ties between logits go to the lower class.
    ///
    /// # Errors
    /// If features or logits are not finite, a class is out of range, or there are no rows.
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

    /// Takes one step of Adam on the mean cross-entropy of `rows`.
    fn step(&mut self, train: &dyn Rows, scales: &[f32], rows: &[u32]) {
        let classes = self.shape.classes;
        each(&mut self.blocks, |block| block.forward(train, scales, rows));

        // Block by block, so that the order of the sum doesn't depend on which thread finishes
        // first.
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

    /// Returns the factor that each row is multiplied by first: 1 / |z|, or 1.
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

/// Returns the number of steps per epoch: a last batch of one row is dropped.
pub(super) fn batches(rows: usize, batch_size: usize) -> usize {
    rows / batch_size + usize::from(rows % batch_size > 1)
}

/// Runs `work` on every block, in parallel if there are several.
fn each(blocks: &mut [Block], work: impl Fn(&mut Block) + Send + Sync) {
    match blocks {
        [only] => work(only),
        many => many.par_iter_mut().for_each(work),
    }
}

#[cfg(test)]
mod tests;
