//! The `linear` protocol of SODA on cached features: z / |z| -> BatchNorm1d without affine -> one Linear, trained with Adam.
//!
//! Plain f32 arithmetic on the host in one fixed order: the scores of given features depend neither on the device that made
//! the features nor on the number of threads.

use crate::config::ProbeConfig;
use crate::error::{Error, Result};
use crate::rng::{self, Purpose};
use rand::RngExt;
use rayon::prelude::*;
use serde::Serialize;

/// Features of a block: one block is one task and one [`Row`]; the last block is filled up with zeros.
const BLOCK: usize = 128;
/// Independent partial sums of a dot product, so that it vectorises.
const LANES: usize = 16;
/// BatchNorm1d's eps (soda.md) and the share of a batch in its running statistics (PyTorch's default).
const BN_EPS: f32 = 1e-6;
const BN_MOMENTUM: f32 = 0.1;
/// Adam (PyTorch's defaults).
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const ADAM_EPS: f32 = 1e-8;
/// Smallest norm that a feature vector is divided by (`torch.nn.functional.normalize`).
const MIN_NORM: f32 = 1e-12;

/// One block's part of a feature vector or of a class's weights.
type Row = [f32; BLOCK];

/// Share of the test rows whose class is among the k likeliest, in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// The right class has the highest score.
    pub top1: f64,
    /// It is among the three highest.
    pub top3: f64,
    /// It is among the five highest.
    pub top5: f64,
}

/// Feature vectors and their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Length of one vector, D.
    pub dim: usize,
    /// \[N, D\], row-major.
    pub values: Vec<f32>,
    /// \[N\], each below the number of classes.
    pub labels: Vec<u8>,
}

impl Features {
    /// N, the number of vectors.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..][..self.dim]
    }

    /// Refuses what would make a score meaningless; `name` is what the message calls these features.
    fn check(&self, name: &str, dim: usize, classes: usize) -> Result<()> {
        assert_eq!(self.dim, dim, "{name} features: length of a vector, beside that of the probe");
        assert_eq!(self.values.len(), self.rows() * dim, "{name} features: values, beside [N = {}, D = {dim}]", self.rows());
        if let Some(at) = self.values.iter().position(|v| !v.is_finite()) {
            return Err(Error::failed(format!(
                "the {name} features hold {} (row {}, entry {}); the weights they come from are damaged or have diverged",
                self.values[at],
                at / dim,
                at % dim
            )));
        }
        if let Some(at) = self.labels.iter().position(|&l| usize::from(l) >= classes) {
            let label = self.labels[at];
            return Err(Error::failed(format!(
                "the {name} features have class {label} at row {at}; there are {classes} classes"
            )));
        }
        Ok(())
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

impl Default for ProbeShape {
    /// CIFAR-10 under the `linear` protocol.
    fn default() -> Self {
        Self { classes: 10, normalise: true }
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

/// The part of the probe that sees features `start..start + BLOCK`, with the scratch space of one batch.
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

/// A parameter with Adam's two moments; `T` is f32 or a [`Row`] of them.
#[derive(Clone, Debug)]
struct Adam<T = f32> {
    value: Vec<T>,
    grad: Vec<T>,
    m: Vec<T>,
    v: Vec<T>,
}

impl<T: Copy> Adam<T> {
    fn new(value: Vec<T>, zero: T) -> Self {
        let zeros = vec![zero; value.len()];
        Self { value, grad: zeros.clone(), m: zeros.clone(), v: zeros }
    }
}

/// Adam's step size and the square root of its second bias correction at one step.
#[derive(Clone, Copy)]
struct AdamStep {
    size: f32,
    root_correction: f32,
}

impl AdamStep {
    /// `step` counts from 1.
    fn new(lr: f64, step: usize) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        Self { size: (lr / correction(BETA_1)) as f32, root_correction: correction(BETA_2).sqrt() as f32 }
    }

    fn apply(self, value: &mut f32, grad: f32, m: &mut f32, v: &mut f32) {
        *m += (grad - *m) * (1.0 - BETA_1) as f32;
        *v = *v * BETA_2 as f32 + grad * grad * (1.0 - BETA_2) as f32;
        *value -= self.size * *m / (v.sqrt() / self.root_correction + ADAM_EPS);
    }
}

/// Trains a probe for 10 classes on L2-normalised `train` as `config` says and scores it on `test`.
///
/// # Errors
/// Features or weights that are not finite, a class outside 0..10, too few rows for a batch of two.
///
/// # Panics
/// If `test` has another feature length than `train`, or `values` is not `[N, D]`.
pub fn train_and_score(train: &Features, test: &Features, config: &ProbeConfig, seed: u64) -> Result<Scores> {
    let mut probe = LinearProbe::new(train.dim, train.rows(), ProbeShape::default(), config, seed)?;
    for _ in 0..config.epochs {
        probe.train_epoch(train)?;
    }
    probe.score(test)
}

impl LinearProbe {
    /// An untrained probe for feature vectors of length `dim`, to be trained on `rows` of them for `config.epochs` epochs.
    ///
    /// Weights and bias are drawn from U(-1, 1) / sqrt(dim), as PyTorch's `Linear` does, from stream 0 of `seed`.
    ///
    /// # Errors
    /// `rows` or `config.batch_size` below 2: a batch of one has no variance.
    pub fn new(dim: usize, rows: usize, shape: ProbeShape, config: &ProbeConfig, seed: u64) -> Result<Self> {
        assert!(dim > 0 && shape.classes > 0, "a probe needs features and classes, got D = {dim}, C = {}", shape.classes);
        if config.batch_size < 2 {
            let batch = config.batch_size;
            return Err(Error::usage(format!("probe.batch_size = {batch}: batch normalisation needs at least 2")));
        }
        if rows < 2 {
            return Err(Error::failed(format!("{rows} training rows are too few for a probe; give it at least 2")));
        }
        let bound = (dim as f32).sqrt().recip();
        let mut rng = rng::stream(seed, Purpose::Probe, 0);
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-bound..bound)).collect() };
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
        Ok(Self { shape, dim, config: config.clone(), seed, blocks, bias, epochs_done: 0, steps_done: 0, steps_total })
    }

    /// One pass over `train` in an order of its own (stream 1 + epoch); the features may be other ones (of other views) at
    /// each call, as long as there are as many as promised to [`LinearProbe::new`].
    ///
    /// # Errors
    /// Features that are not finite, a class out of range.
    pub fn train_epoch(&mut self, train: &Features) -> Result<()> {
        train.check("training", self.dim, self.shape.classes)?;
        let scales = self.scales(train);
        let mut rng = rng::stream(self.seed, Purpose::Probe, 1 + self.epochs_done as u64);
        let order = rng::permutation(&mut rng, train.rows());
        for rows in order.chunks(self.config.batch_size).filter(|rows| rows.len() > 1) {
            self.step(train, &scales, rows);
        }
        self.epochs_done += 1;
        Ok(())
    }

    /// Logits of every row of `features`, \[N, C\], with the running statistics of the training.
    pub fn logits(&self, features: &Features) -> Vec<f32> {
        assert_eq!(features.dim, self.dim, "features: length of a vector, beside that of the probe");
        let (classes, scales) = (self.shape.classes, self.scales(features));
        let mut logits = vec![0.0; features.rows() * classes];
        logits.par_chunks_mut(classes).enumerate().for_each(|(i, out)| {
            out.copy_from_slice(&self.bias.value);
            for block in &self.blocks {
                let mut x = padded(features.row(i), block.start);
                for ((x, mean), var) in x.iter_mut().zip(&block.running_mean).zip(&block.running_var) {
                    *x = (*x * scales[i] - mean) / (var + BN_EPS).sqrt();
                }
                for (logit, weight) in out.iter_mut().zip(&block.weight.value) {
                    *logit += dot(&x, weight);
                }
            }
        });
        logits
    }

    /// Scores the probe on `test`. Of equal logits the lower class counts as the likelier one.
    ///
    /// # Errors
    /// Features or logits that are not finite, a class out of range, no rows.
    pub fn score(&self, test: &Features) -> Result<Scores> {
        test.check("test", self.dim, self.shape.classes)?;
        if test.rows() == 0 {
            return Err(Error::failed("there are no test rows to score a probe on"));
        }
        let logits = self.logits(test);
        if logits.iter().any(|l| !l.is_finite()) {
            return Err(Error::failed("the probe diverged: its logits are not finite; choose a smaller probe.lr"));
        }
        let ranks: Vec<usize> =
            logits.chunks_exact(self.shape.classes).zip(&test.labels).map(|(l, &label)| rank(l, label.into())).collect();
        let top = |k: usize| 100.0 * ranks.iter().filter(|&&r| r < k).count() as f64 / test.rows() as f64;
        Ok(Scores { top1: top(1), top3: top(3), top5: top(5) })
    }

    /// One step of Adam on the mean cross-entropy of `rows`.
    fn step(&mut self, train: &Features, scales: &[f32], rows: &[u32]) {
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
            logits[usize::from(train.labels[row as usize])] -= share;
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
    fn scales(&self, features: &Features) -> Vec<f32> {
        if !self.shape.normalise {
            return vec![1.0; features.rows()];
        }
        let scale = |i| {
            let row: &[f32] = features.row(i);
            let squares: f32 = (0..self.dim).step_by(BLOCK).map(|start| padded(row, start)).map(|x| dot(&x, &x)).sum();
            squares.sqrt().max(MIN_NORM).recip()
        };
        (0..features.rows()).into_par_iter().map(scale).collect()
    }
}

impl Block {
    /// Gathers and normalises the batch, updates the running statistics, computes this block's share of the logits.
    fn forward(&mut self, train: &Features, scales: &[f32], rows: &[u32]) {
        self.x.clear();
        self.x.extend(rows.iter().map(|&i| {
            let mut x = padded(train.row(i as usize), self.start);
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

/// Mean and sample standard deviation (n - 1) of `values`; the deviation of a single value is reported as 0.
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
fn batches(rows: usize, batch_size: usize) -> usize {
    rows / batch_size + usize::from(rows % batch_size > 1)
}

/// Classes that come before `label` when sorted by falling logit, then by number.
fn rank(logits: &[f32], label: usize) -> usize {
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
mod tests {
    use super::*;

    fn config(epochs: usize, batch_size: usize, lr: f64) -> ProbeConfig {
        ProbeConfig { epochs, batch_size, lr }
    }

    /// `n` rows of N(0, 1) noise with `signal` added to entry `label`; labels are random, below `classes`.
    fn clusters(n: usize, dim: usize, classes: u8, signal: f32, index: u64) -> Features {
        let mut rng = rng::stream(5, Purpose::Test, index);
        let labels: Vec<u8> = (0..n).map(|_| rng.random_range(0..classes)).collect();
        let mut values = rng::normal(&mut rng, n * dim);
        for (row, &label) in values.chunks_exact_mut(dim).zip(&labels) {
            row[usize::from(label)] += signal;
        }
        Features { dim, values, labels }
    }

    fn assert_close(what: &str, ours: &[f32], golden: &[f32]) {
        assert_eq!(ours.len(), golden.len(), "{what}");
        for (a, b) in ours.iter().zip(golden) {
            assert!((a - b).abs() <= 2e-6 + 1e-5 * b.abs(), "{what}: {ours:?} instead of {golden:?}");
        }
    }

    #[test]
    fn three_steps_agree_with_pytorch() {
        // torch 2.8: F.normalize, BatchNorm1d(3, affine=False, eps=1e-6), Linear(3, 3), Adam(lr=.05), CosineAnnealingLR(3).
        let value = |i: usize, j: usize| ((i * 7 + j * 5) % 11) as f32 - 4.5 + 0.25 * j as f32;
        let train =
            Features { dim: 3, values: (0..21).map(|k| value(k / 3, k % 3)).collect(), labels: (0..7).map(|i| i % 3).collect() };
        let shape = ProbeShape { classes: 3, normalise: true };
        let mut probe = LinearProbe::new(3, 7, shape, &config(1, 4, 0.05), 0).unwrap();
        probe.steps_total = 3;
        for c in 0..3 {
            for d in 0..3 {
                probe.blocks[0].weight.value[c][d] = 0.1 * (c + 1) as f32 - 0.15 * d as f32;
            }
        }
        probe.bias.value = vec![0.05, -0.1, 0.2];
        let scales = probe.scales(&train);
        for rows in [&[0, 1, 2, 3][..], &[4, 5, 6], &[6, 2, 4, 0]] {
            probe.step(&train, &scales, rows);
        }
        let block = &probe.blocks[0];
        let weight: Vec<f32> = block.weight.value.iter().flat_map(|w| w[..3].to_vec()).collect();
        let golden =
            [0.1859957, -0.10970835, -0.10010142, 0.29378003, -0.04996153, -0.01221115, 0.20290208, 0.24977772, -0.0998137];
        assert_close("weight", &weight, &golden);
        assert_close("bias", &probe.bias.value, &[0.13109998, -0.13870718, 0.10673551]);
        assert_close("running mean", &block.running_mean[..3], &[0.02641389, -0.01749433, 0.06727916]);
        assert_close("running variance", &block.running_var[..3], &[0.83734727, 0.86459553, 0.8233854]);
        let golden = [-0.08981608, -0.3549532, -0.08023496, 0.27816522, 0.06108952, -0.00510223];
        assert_close("logits", &probe.logits(&train)[..6], &golden);
    }

    #[test]
    fn separable_classes_are_all_found_and_padding_stays_untouched() {
        // 130 features: two blocks, the second one nearly empty.
        let (train, test) = (clusters(1000, 130, 10, 30.0, 0), clusters(500, 130, 10, 30.0, 1));
        let scores = train_and_score(&train, &test, &config(20, 32, 0.01), 1).unwrap();
        assert_eq!(scores, Scores { top1: 100.0, top3: 100.0, top5: 100.0 });
        let mut probe = LinearProbe::new(130, 1000, ProbeShape::default(), &config(1, 32, 0.01), 1).unwrap();
        probe.train_epoch(&train).unwrap();
        assert!(probe.blocks[1].weight.value.iter().all(|w| w[2..].iter().all(|&v| v == 0.0)));
    }

    #[test]
    fn random_labels_stay_near_chance() {
        let (train, test) = (clusters(1000, 16, 10, 0.0, 2), clusters(2000, 16, 10, 0.0, 3));
        let scores = train_and_score(&train, &test, &config(5, 64, 1e-3), 1).unwrap();
        // Five standard errors of a share of k / 10 among 2000.
        for (score, k) in [(scores.top1, 1.0), (scores.top3, 3.0), (scores.top5, 5.0)] {
            let p: f64 = k / 10.0;
            let tolerance = 500.0 * (p * (1.0 - p) / 2000.0).sqrt();
            assert!((score - 100.0 * p).abs() < tolerance, "top-{k}: {score}");
        }
    }

    #[test]
    fn logits_depend_on_the_seed_but_not_on_the_threads() {
        let (train, test) = (clusters(300, 600, 10, 1.0, 4), clusters(50, 600, 10, 1.0, 5));
        let logits = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut probe = LinearProbe::new(600, 300, ProbeShape::default(), &config(2, 64, 1e-3), seed).unwrap();
                (0..2).for_each(|_| probe.train_epoch(&train).unwrap());
                probe.logits(&test)
            })
        };
        assert_eq!(logits(1, 7), logits(1, 7));
        assert_eq!(logits(1, 7), logits(5, 7));
        assert_ne!(logits(1, 7), logits(1, 8));
    }

    #[test]
    fn scale_of_a_vector_matters_only_without_normalisation() {
        let plain = clusters(40, 8, 3, 1.0, 6);
        let mut scaled = plain.clone();
        scaled.values[..8].iter_mut().for_each(|v| *v *= 4.0);
        let logits = |normalise| {
            let shape = ProbeShape { classes: 3, normalise };
            let probe = LinearProbe::new(8, 40, shape, &config(1, 8, 1e-3), 0).unwrap();
            [probe.logits(&plain), probe.logits(&scaled)]
        };
        let [a, b] = logits(true);
        assert_close("normalised", &a, &b);
        let [a, b] = logits(false);
        assert!((a[0] - b[0]).abs() > 1e-3);
    }

    #[test]
    fn equal_logits_are_ranked_by_class() {
        assert_eq!([0, 1, 2, 3].map(|label| rank(&[0.5, 0.5, 2.0, 0.5], label)), [1, 2, 0, 3]);
    }

    #[test]
    fn a_last_batch_of_one_row_is_left_out() {
        assert_eq!([batches(256, 128), batches(257, 128), batches(258, 128), batches(2, 128)], [2, 2, 3, 1]);
        let train = clusters(9, 4, 3, 1.0, 7);
        let mut probe = LinearProbe::new(4, 9, ProbeShape::default(), &config(2, 4, 1e-3), 0).unwrap();
        (0..2).for_each(|_| probe.train_epoch(&train).unwrap());
        assert_eq!((probe.steps_done, probe.steps_total), (4, 4));
        assert!(probe.bias.value.iter().all(|v| v.is_finite()));
    }

    #[test]
    fn says_which_features_are_not_finite() {
        let good = clusters(20, 4, 3, 1.0, 8);
        let mut bad = good.clone();
        bad.values[4 * 3 + 1] = f32::NAN;
        let message = |train, test| train_and_score(train, test, &config(1, 4, 1e-3), 0).unwrap_err().to_string();
        assert!(message(&bad, &good).starts_with("the training features hold NaN (row 3, entry 1)"));
        assert!(message(&good, &bad).starts_with("the test features hold NaN (row 3, entry 1)"));
        let mut foreign = good.clone();
        foreign.labels[2] = 10;
        assert!(message(&good, &foreign).contains("class 10 at row 2"));
    }

    #[test]
    fn spread_is_the_sample_standard_deviation() {
        assert_eq!(mean_and_spread(&[1.0, 2.0, 3.0, 4.0, 5.0]), (3.0, 2.5f64.sqrt()));
        assert_eq!(mean_and_spread(&[7.0]), (7.0, 0.0));
    }
}
