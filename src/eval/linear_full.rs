//! The protocol `linear-full` (docs/commands.md, "Probe"): multinomial logistic regression to
//! convergence, as scikit-learn's `LogisticRegression(C=1)` after its `StandardScaler`.
//!
//! Minimises over W, b the sum over rows of -log softmax(W x + b)\[label\] + |W|^2 / (2 C), where x
//! is standardised by the mean and standard deviation of the training set. L-BFGS runs in f64;
//! products are f32 over blocks of rows that are standardised as they are read, so that no second
//! copy of the features is held. The sums run in a fixed order: scores depend neither on the device
//! nor on the number of threads.

use super::features::Rows;
use super::lbfgs::{self, Minimum};
use super::linear::{Scores, rank};
use crate::error::{Error, Result};
use crate::kernels::gemm::{Matrix, product};
use crate::progress::Progress;
use rayon::prelude::*;

/// scikit-learn's C, and its tolerance for the entries of the gradient of the mean loss.
const C: f64 = 1.0;
const TOLERANCE: f64 = 1e-4;
/// Iterations after which the fit stops with a warning.
const LIMIT: usize = 10_000;
/// Rows per matrix product.
const BLOCK: usize = 64;
/// Parts that the rows are split into, summed separately in parallel.
const PARTS: usize = 16;

/// A fitted logistic regression.
#[derive(Clone, Debug)]
pub struct LogisticRegression {
    classes: usize,
    scaler: Scaler,
    /// \[C, D\], then the intercepts \[C\].
    parameters: Vec<f64>,
    /// Iterations of L-BFGS.
    pub iterations: usize,
    /// Largest absolute entry of the gradient of the mean loss at the end; at most 1e-4 if the fit
    /// has converged.
    pub gradient: f64,
}

/// Fits `train` and scores `test`. Ties between logits go to the lower class.
///
/// # Errors
/// If features are not finite, a class is outside 0..`classes`, or there are no rows.
///
/// # Panics
/// If the feature lengths of `test` and `train` differ, or `values` is not `[N, D]`.
pub fn score(train: &dyn Rows, test: &dyn Rows, classes: usize) -> Result<Scores> {
    LogisticRegression::fit(train, classes)?.score(test)
}

impl LogisticRegression {
    /// Fits `train`; a constant feature gets no weight. Logs a warning if the fit stops before
    /// convergence.
    ///
    /// # Errors
    /// If features are not finite, a class is outside 0..`classes`, or there are no rows.
    pub fn fit(train: &dyn Rows, classes: usize) -> Result<Self> {
        train.check("training", train.dim(), classes)?;
        if train.rows() == 0 {
            return Err(Error::failed("there are no training rows for a logistic regression"));
        }
        let scaler = Scaler::new(train);
        let start = vec![0.0; classes * (train.dim() + 1)];
        // The number of passes isn't known in advance.
        let progress = Progress::new("logistic regression, passes over the images", None);
        let Minimum { x, gradient, iterations } =
            lbfgs::minimise(start, TOLERANCE, LIMIT, |x, g| {
                let value = objective(train, &scaler, classes, x, g);
                progress.add(1);
                value
            });
        progress.finish();
        log::info!("linear-full: {iterations} iterations, gradient {gradient:.1e}");
        if gradient.is_nan() || gradient > TOLERANCE {
            log::warn!(
                "linear-full stopped after {iterations} iterations before convergence: its \
                gradient is {gradient:.1e}, above {TOLERANCE:.0e}"
            );
        }
        Ok(Self { classes, scaler, parameters: x, iterations, gradient })
    }

    /// Scores `test`.
    ///
    /// # Errors
    /// As [`score`].
    pub fn score(&self, test: &dyn Rows) -> Result<Scores> {
        test.check("test", self.scaler.mean.len(), self.classes)?;
        if test.rows() == 0 {
            return Err(Error::failed("there are no test rows to score a probe on"));
        }
        let logits = self.logits(test);
        if logits.iter().any(|l| !l.is_finite()) {
            return Err(Error::failed(
                "the test features are so far from the training features that their scores are \
                not finite; are they of the same kind?",
            ));
        }
        let ranks = logits
            .chunks_exact(self.classes)
            .zip(test.labels())
            .map(|(l, &label)| rank(l, label.into()));
        Ok(Scores::of_ranks(&ranks.collect::<Vec<_>>(), self.classes))
    }

    /// Returns the logits of every row of `features`, `[N, C]`.
    pub fn logits(&self, features: &dyn Rows) -> Vec<f32> {
        let weights = Weights::new(&self.parameters, self.classes);
        let mut out = vec![0.0; features.rows() * self.classes];
        out.par_chunks_mut(BLOCK * self.classes).enumerate().for_each_init(
            Vec::new,
            |x, (i, out)| {
                let rows = out.len() / self.classes;
                self.scaler.standardise(features, i * BLOCK, rows, x);
                weights.logits(x, rows, out);
            },
        );
        out
    }
}

/// Returns the mean loss plus |W|^2 / (2 C N) at `parameters`, and writes its gradient.
fn objective(
    train: &dyn Rows,
    scaler: &Scaler,
    classes: usize,
    parameters: &[f64],
    gradient: &mut [f64],
) -> f64 {
    let (rows, dim) = (train.rows(), train.dim());
    let weights = Weights::new(parameters, classes);
    let parts: Vec<(f64, Vec<f64>)> = parts(rows)
        .into_par_iter()
        .map(|part| part_of_objective(train, scaler, &weights, part))
        .collect();
    // With two classes scikit-learn fits one vector w = W_1 - W_0 and penalises |w|^2 / 2 = |W|^2.
    let penalty = if classes == 2 { 2.0 } else { 1.0 } / (C * rows as f64);
    let (w, _) = parameters.split_at(classes * dim);
    gradient.fill(0.0);
    gradient.iter_mut().zip(w).for_each(|(g, w)| *g = penalty * w);
    let mut value = penalty / 2.0 * w.iter().map(|w| w * w).sum::<f64>();
    for (loss, part) in parts {
        value += loss / rows as f64;
        gradient.iter_mut().zip(part).for_each(|(g, p)| *g += p / rows as f64);
    }
    value
}

/// Returns the sum of the losses of the rows `part`, and its gradient.
fn part_of_objective(
    train: &dyn Rows,
    scaler: &Scaler,
    weights: &Weights,
    part: std::ops::Range<usize>,
) -> (f64, Vec<f64>) {
    let (classes, dim) = (weights.intercepts.len(), train.dim());
    let (mut loss, mut gradient) = (0.0, vec![0.0; classes * (dim + 1)]);
    let (mut x, mut logits, mut block) =
        (Vec::new(), vec![0.0; BLOCK * classes], vec![0.0; classes * dim]);
    for start in part.clone().step_by(BLOCK) {
        let rows = BLOCK.min(part.end - start);
        scaler.standardise(train, start, rows, &mut x);
        let logits = &mut logits[..rows * classes];
        weights.logits(&x, rows, logits);
        // d loss / d logits = softmax - one-hot, in place.
        let (of_weights, of_intercepts) = gradient.split_at_mut(classes * dim);
        for (logits, &label) in logits.chunks_exact_mut(classes).zip(&train.labels()[start..]) {
            let label = usize::from(label);
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let own = f64::from(logits[label] - largest);
            logits.iter_mut().for_each(|l| *l = (*l - largest).exp());
            let sum: f64 = logits.iter().map(|&l| f64::from(l)).sum();
            loss += sum.ln() - own;
            logits.iter_mut().for_each(|l| *l = (f64::from(*l) / sum) as f32);
            logits[label] -= 1.0;
            of_intercepts.iter_mut().zip(&*logits).for_each(|(g, &d)| *g += f64::from(d));
        }
        product(
            (classes, dim, rows),
            1.0,
            Matrix::new(logits, classes).t(),
            Matrix::new(&x, dim),
            &mut block,
            dim,
        );
        of_weights.iter_mut().zip(&block).for_each(|(g, &b)| *g += f64::from(b));
    }
    (loss, gradient)
}

/// The parameters in f32, for the matrix products.
struct Weights {
    /// \[C, D\]
    values: Vec<f32>,
    /// \[C\]
    intercepts: Vec<f32>,
}

impl Weights {
    fn new(parameters: &[f64], classes: usize) -> Self {
        let (w, b) = parameters.split_at(parameters.len() - classes);
        let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect();
        Self { values: narrow(w), intercepts: narrow(b) }
    }

    /// Computes W x + b for `rows` rows `x`: `[rows, C]`.
    fn logits(&self, x: &[f32], rows: usize, out: &mut [f32]) {
        let (classes, dim) = (self.intercepts.len(), self.values.len() / self.intercepts.len());
        product(
            (rows, classes, dim),
            1.0,
            Matrix::new(x, dim),
            Matrix::new(&self.values, dim).t(),
            out,
            classes,
        );
        out.chunks_exact_mut(classes)
            .for_each(|row| row.iter_mut().zip(&self.intercepts).for_each(|(l, b)| *l += b));
    }
}

/// The standardisation of features.
#[derive(Clone, Debug)]
struct Scaler {
    mean: Vec<f32>,
    /// 1 / standard deviation; 0 for a constant feature.
    scale: Vec<f32>,
}

impl Scaler {
    fn new(train: &dyn Rows) -> Self {
        let n = train.rows() as f64;
        let mean: Vec<f64> = column_sums(train, |v, _| v, &vec![0.0; train.dim()])
            .into_iter()
            .map(|s| s / n)
            .collect();
        let variance =
            column_sums(train, |v, mean| (v - mean).powi(2), &mean).into_iter().map(|s| s / n);
        let scale = variance.zip(&mean).map(|(variance, mean)| {
            // The deviation that rounding of the mean can leave for a constant feature.
            let constant = variance.sqrt() <= n * f64::EPSILON * mean.abs();
            let scale = variance.sqrt().recip() as f32;
            if constant || scale.is_infinite() { 0.0 } else { scale }
        });
        // Rounding the mean to f32 shifts the feature equally in all rows, which the intercept
        // absorbs.
        Self { scale: scale.collect(), mean: mean.iter().map(|&m| m as f32).collect() }
    }

    /// Writes the standardised rows `start..start + rows` of `features` to `out`.
    fn standardise(&self, features: &dyn Rows, start: usize, rows: usize, out: &mut Vec<f32>) {
        let dim = self.mean.len();
        out.resize(rows * dim, 0.0);
        for (i, out) in out.chunks_exact_mut(dim).enumerate() {
            features.read(start + i, 0, out);
            out.iter_mut()
                .zip(&self.mean)
                .zip(&self.scale)
                .for_each(|((x, mean), scale)| *x = (*x - mean) * scale);
        }
    }
}

/// Returns, for each column j, the sum of `term(value, of[j])` over the rows.
fn column_sums(features: &dyn Rows, term: impl Fn(f64, f64) -> f64 + Sync, of: &[f64]) -> Vec<f64> {
    let sum = |part: std::ops::Range<usize>| {
        let (mut sums, mut row) = (vec![0.0; features.dim()], vec![0.0; features.dim()]);
        for i in part {
            features.read(i, 0, &mut row);
            sums.iter_mut()
                .zip(&row)
                .zip(of)
                .for_each(|((sum, &v), &of)| *sum += term(v.into(), of));
        }
        sums
    };
    let parts: Vec<Vec<f64>> = parts(features.rows()).into_par_iter().map(sum).collect();
    let mut total = vec![0.0; features.dim()];
    parts.iter().for_each(|part| total.iter_mut().zip(part).for_each(|(t, p)| *t += p));
    total
}

/// Splits 0..`rows` into [`PARTS`] parts, whatever the number of threads.
fn parts(rows: usize) -> Vec<std::ops::Range<usize>> {
    (0..PARTS).map(|i| i * rows / PARTS..(i + 1) * rows / PARTS).collect()
}

#[cfg(test)]
mod tests;
