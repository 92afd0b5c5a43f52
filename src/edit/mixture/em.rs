//! Fitting a Gaussian mixture by expectation maximisation (EM).

use super::{Density, Mixture, Result, log_joint, log_sum_exp, to_f64};
use crate::error::Error;
use crate::eval::latent_statistics::mean_and_covariance;
use crate::eval::matrix::{cholesky, gram, invert_lower, times_transposed};
use crate::progress::Progress;
use crate::rng::{self, Purpose, Stream};
use rand::RngExt;
use rayon::prelude::*;

/// Rounds of k-means before the first covariances.
const KMEANS_ROUNDS: usize = 10;
/// The largest number of rounds of EM.
const MAX_ROUNDS: usize = 100;
/// EM stops when a round gains less than this many nats per dimension.
const MIN_GAIN: f64 = 1e-4;
/// Added to the diagonal of the pooled covariance, relative to the mean variance, because some
/// dimensions of z may be constant.
const RIDGE: f64 = 1e-6;
/// Added to the same diagonal as an absolute value, for z without any variance.
const RIDGE_FLOOR: f64 = 1e-12;
/// The smallest responsibility that counts; anything smaller is below the precision of the sums.
const MIN_SHARE: f64 = 1e-14;

/// A fitted mixture and the course of the fit.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The fitted mixture.
    pub mixture: Mixture,
    /// The objective of EM in nats per image, before each round and after the last: the mean
    /// log-likelihood plus the log-prior of the covariances divided by N.
    pub objective: Vec<f64>,
}

/// The data of a fit: z in f64 `[N, dim]`, and what the covariances are regularised towards.
struct Problem {
    z: Vec<f64>,
    dim: usize,
    /// The pooled covariance and its factor.
    pooled: Vec<f64>,
    pooled_factor: Vec<f64>,
    strength: f64,
}

struct Component {
    weight: f64,
    mean: Vec<f64>,
    factor: Vec<f64>,
}

/// Fits `components` Gaussians (fewer if `z` `[N, dim]` has fewer rows) by EM, initialised by
/// k-means++ (Arthur and Vassilvitskii 2007) under `seed`.
///
/// Covariances are regularised towards the pooled covariance C: component k has
/// (S_k + `strength` C) / (N_k + `strength`), where S_k is its scatter about its mean. This
/// maximises the likelihood times an inverse Wishart prior (Fraley and Raftery 2007); the pooled
/// covariance counts as much as `strength` images.
///
/// # Errors
/// If there are no rows, or values are not finite.
///
/// # Panics
/// If `z` is not `[N, dim]`, there are no components, or `strength` isn't positive.
pub fn fit(z: &[f32], dim: usize, components: usize, strength: f64, seed: u64) -> Result<Fit> {
    assert!(components > 0 && strength > 0.0, "{components} components, strength {strength}");
    let (_, mut pooled) = mean_and_covariance(z, dim)?;
    let mean_variance = (0..dim).map(|i| pooled[i * dim + i]).sum::<f64>() / dim as f64;
    (0..dim).for_each(|i| pooled[i * dim + i] += RIDGE * mean_variance + RIDGE_FLOOR);
    let pooled_factor = cholesky(&pooled, dim).ok_or_else(not_positive)?;
    let problem = Problem { z: to_f64(z), dim, pooled, pooled_factor, strength };
    let count = components.min(problem.len());
    let progress = Progress::new(format!("fitting {count} Gaussians to z, rounds"), None);
    let mut rng = rng::stream(seed, Purpose::Latent, u64::MAX);
    let centres = problem.kmeans(problem.start(count, &mut rng));
    let mut shares: Vec<f64> = vec![0.0; problem.len() * count];
    let nearest = problem.nearest(&centres);
    shares.chunks_exact_mut(count).zip(nearest).for_each(|(row, (k, _))| row[k] = 1.0);
    let mut model = problem.maximise(&shares, &centres)?;
    let mut objective = Vec::new();
    for _ in 0..=MAX_ROUNDS {
        let value = problem.expect(&model, &mut shares);
        progress.add(1);
        let gain = objective.last().map(|last| value - last);
        objective.push(value);
        // A single Gaussian is already at the optimum.
        if count == 1
            || gain.is_some_and(|gain| gain < MIN_GAIN * dim as f64)
            || objective.len() > MAX_ROUNDS
        {
            break;
        }
        let means: Vec<f64> = model.iter().flat_map(|c| c.mean.clone()).collect();
        model = problem.maximise(&shares, &means)?;
    }
    let f32s = |part: &dyn Fn(&Component) -> Vec<f64>| -> Vec<f32> {
        model.iter().flat_map(part).map(|v| v as f32).collect()
    };
    let mixture = Mixture {
        dim,
        weights: f32s(&|c| vec![c.weight]),
        means: f32s(&|c| c.mean.clone()),
        factors: f32s(&|c| c.factor.clone()),
    };
    Ok(Fit { mixture, objective })
}

fn not_positive() -> Error {
    Error::failed(
        "the covariance of z has no Cholesky factor; the values of z are too large or too small to \
         fit a distribution to",
    )
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

impl Problem {
    fn len(&self) -> usize {
        self.z.len() / self.dim
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.z[i * self.dim..][..self.dim]
    }

    /// Chooses centres by k-means++: each next centre is a row sampled with a probability
    /// proportional to its squared distance from the nearest centre so far.
    fn start(&self, count: usize, rng: &mut Stream) -> Vec<f64> {
        let mut centres = self.row(rng.random_range(0..self.len())).to_vec();
        let mut distances = vec![f64::INFINITY; self.len()];
        while centres.len() < count * self.dim {
            let newest = &centres[centres.len() - self.dim..];
            distances
                .par_iter_mut()
                .enumerate()
                .for_each(|(i, d)| *d = d.min(squared_distance(self.row(i), newest)));
            let mut rest = rng.random::<f64>() * distances.iter().sum::<f64>();
            let reached = distances.iter().position(|d| {
                rest -= d;
                rest < 0.0
            });
            // `None` if all rows coincide with centres already.
            let next = reached.unwrap_or_else(|| rng.random_range(0..self.len()));
            centres.extend_from_slice(self.row(next));
        }
        centres
    }

    /// Returns the nearest centre of each row and its squared distance.
    fn nearest(&self, centres: &[f64]) -> Vec<(usize, f64)> {
        let distances = |i| {
            centres
                .chunks_exact(self.dim)
                .map(move |c| squared_distance(self.row(i), c))
                .enumerate()
        };
        let nearest =
            |i| distances(i).min_by(|a, b| a.1.total_cmp(&b.1)).expect("there is a centre");
        (0..self.len()).into_par_iter().map(nearest).collect()
    }

    /// Runs Lloyd's algorithm; a centre that no row is assigned to stays where it is.
    fn kmeans(&self, mut centres: Vec<f64>) -> Vec<f64> {
        for _ in 0..KMEANS_ROUNDS {
            let mut sums = vec![0.0; centres.len()];
            let mut counts = vec![0usize; centres.len() / self.dim];
            for (i, (k, _)) in self.nearest(&centres).into_iter().enumerate() {
                counts[k] += 1;
                sums[k * self.dim..][..self.dim]
                    .iter_mut()
                    .zip(self.row(i))
                    .for_each(|(s, z)| *s += z);
            }
            for (k, &n) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
                let part = k * self.dim..(k + 1) * self.dim;
                centres[part.clone()]
                    .iter_mut()
                    .zip(&sums[part])
                    .for_each(|(c, s)| *c = s / n as f64);
            }
        }
        centres
    }

    /// Runs the M step: returns the components that fit the responsibilities `shares` `[N, K]`
    /// best. A component without any keeps its mean from `means`.
    fn maximise(&self, shares: &[f64], means: &[f64]) -> Result<Vec<Component>> {
        let count = means.len() / self.dim;
        let component = |k: usize| {
            let share = |i: usize| shares[i * count + k];
            let members: Vec<usize> = (0..self.len()).filter(|&i| share(i) > MIN_SHARE).collect();
            let total: f64 = members.iter().map(|&i| share(i)).sum();
            let mut mean = means[k * self.dim..][..self.dim].to_vec();
            if total > 0.0 {
                mean.fill(0.0);
                for &i in &members {
                    mean.iter_mut().zip(self.row(i)).for_each(|(m, z)| *m += share(i) / total * z);
                }
            }
            let mut covariance = gram(members.len(), self.dim, |at, out| {
                let root = share(members[at]).sqrt();
                let row = self.row(members[at]).iter().zip(&mean);
                out.iter_mut().zip(row).for_each(|(out, (z, mean))| *out = root * (z - mean));
            });
            let divisor = total + self.strength;
            covariance
                .iter_mut()
                .zip(&self.pooled)
                .for_each(|(c, p)| *c = (*c + self.strength * p) / divisor);
            let factor = cholesky(&covariance, self.dim).ok_or_else(not_positive)?;
            Ok(Component { weight: total / self.len() as f64, mean, factor })
        };
        (0..count).into_par_iter().map(component).collect()
    }

    /// Runs the E step: writes the responsibility of each component for each row to `shares`
    /// `[N, K]` and returns the objective of `model`.
    fn expect(&self, model: &[Component], shares: &mut [f64]) -> f64 {
        let densities: Vec<Density> =
            model.iter().map(|c| Density::new(c.weight, &c.mean, &c.factor)).collect();
        shares.copy_from_slice(&log_joint(&self.z, self.dim, &densities));
        let mut sum = 0.0;
        for row in shares.chunks_exact_mut(model.len()) {
            let log = log_sum_exp(row);
            sum += log;
            row.iter_mut().for_each(|v| *v = (*v - log).exp());
        }
        let prior: f64 = model.iter().map(|c| self.log_prior(c)).sum();
        (sum + prior) / self.len() as f64
    }

    /// Returns the log-prior of a component's covariance without its constant terms:
    /// -strength (log det L + |L^-1 L_pooled|^2 / 2).
    fn log_prior(&self, component: &Component) -> f64 {
        let dim = self.dim;
        let log_det: f64 = (0..dim).map(|i| component.factor[i * dim + i].ln()).sum();
        let inverse = invert_lower(&component.factor, dim);
        let columns: Vec<f64> =
            (0..dim * dim).map(|at| self.pooled_factor[at % dim * dim + at / dim]).collect();
        let product = times_transposed(&inverse, &columns, dim);
        -self.strength * (log_det + 0.5 * product.iter().map(|v| v * v).sum::<f64>())
    }
}
