//! A Gaussian mixture with full covariances: the distribution that z is sampled from when there is
//! no image to encode.

mod em;

use crate::error::Result;
use crate::eval::matrix::{invert_lower, times_transposed};
use crate::rng::{self, Purpose};
use rand::RngExt;
use rayon::prelude::*;

pub use em::{Fit, fit};

/// Vectors per parallel task.
const CHUNK: usize = 512;

/// p(z) = sum over k of weight_k N(z; mean_k, L_k L_k^T).
///
/// Values are f32, as in the file, so a mixture that is written and read back is unchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// Length of z, Z.
    pub dim: usize,
    /// The weights of the components, which sum to 1, `[K]`.
    pub weights: Vec<f32>,
    /// The means of the components, `[K, Z]`.
    pub means: Vec<f32>,
    /// The lower triangular L of each component, `[K, Z, Z]`.
    pub factors: Vec<f32>,
}

/// A component, prepared for evaluating its density.
struct Density {
    /// log weight - log det L - Z / 2 log 2 pi.
    log_constant: f64,
    mean: Vec<f64>,
    /// L^-1, `[Z, Z]`.
    inverse: Vec<f64>,
}

impl Density {
    fn new(weight: f64, mean: &[f64], factor: &[f64]) -> Self {
        let dim = mean.len();
        let log_det: f64 = (0..dim).map(|i| factor[i * dim + i].ln()).sum();
        let log_constant = weight.ln() - log_det - 0.5 * dim as f64 * std::f64::consts::TAU.ln();
        Self { log_constant, mean: mean.to_vec(), inverse: invert_lower(factor, dim) }
    }
}

/// Returns log(weight_k N(z_i; k)), `[N, K]`, for the rows of `z` `[N, dim]`.
fn log_joint(z: &[f64], dim: usize, densities: &[Density]) -> Vec<f64> {
    let count = densities.len();
    let mut out = vec![0.0; z.len() / dim * count];
    out.par_chunks_mut(CHUNK * count).zip(z.par_chunks(CHUNK * dim)).for_each(|(out, z)| {
        for (k, density) in densities.iter().enumerate() {
            let centred: Vec<f64> = z
                .chunks_exact(dim)
                .flat_map(|z| z.iter().zip(&density.mean).map(|(z, mean)| z - mean))
                .collect();
            let white = times_transposed(&centred, &density.inverse, dim);
            for (out, white) in out.chunks_exact_mut(count).zip(white.chunks_exact(dim)) {
                out[k] = density.log_constant - 0.5 * white.iter().map(|v| v * v).sum::<f64>();
            }
        }
    });
    out
}

/// Returns the logarithm of the sum of exponentials, without overflow.
fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_finite() {
        largest + values.iter().map(|v| (v - largest).exp()).sum::<f64>().ln()
    } else {
        largest
    }
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| v.into()).collect()
}

impl Mixture {
    /// Returns the number of components, K.
    pub fn components(&self) -> usize {
        self.weights.len()
    }

    /// Checks whether the shapes are consistent and every value is valid.
    pub fn is_sound(&self) -> bool {
        let (k, dim) = (self.components(), self.dim);
        let shapes =
            k > 0 && dim > 0 && self.means.len() == k * dim && self.factors.len() == k * dim * dim;
        let finite = [&self.weights, &self.means, &self.factors]
            .iter()
            .all(|v| v.iter().all(|v| v.is_finite()));
        let sum: f32 = self.weights.iter().sum();
        shapes
            && finite
            && self.weights.iter().all(|&w| w >= 0.0)
            && (sum - 1.0).abs() < 1e-3
            && self.factors.chunks_exact(dim * dim).all(|l| (0..dim).all(|i| l[i * dim + i] > 0.0))
    }

    /// Returns the mean log-likelihood of `z` `[N, Z]` in nats per dimension.
    pub fn log_likelihood(&self, z: &[f32]) -> f64 {
        let dim = self.dim;
        let densities: Vec<Density> = (0..self.components())
            .map(|k| {
                let (mean, factor) =
                    (&self.means[k * dim..][..dim], &self.factors[k * dim * dim..][..dim * dim]);
                Density::new(self.weights[k].into(), &to_f64(mean), &to_f64(factor))
            })
            .collect();
        let joint = log_joint(&to_f64(z), dim, &densities);
        joint.chunks_exact(self.components()).map(log_sum_exp).sum::<f64>() / z.len() as f64
    }

    /// Draws `n` samples mean_k + temperature L_k eps, `[n, Z]`. The i-th depends only on `seed`
    /// and i; a temperature below 1 keeps samples closer to the means.
    pub fn sample(&self, n: usize, temperature: f32, seed: u64) -> Vec<f32> {
        let dim = self.dim;
        let mut out = Vec::with_capacity(n * dim);
        for i in 0..n {
            let mut rng = rng::stream(seed, Purpose::Latent, i as u64);
            let mut rest = rng.random::<f32>();
            let found = self.weights.iter().position(|w| {
                rest -= w;
                rest < 0.0
            });
            // Rounding may leave the sum of the weights slightly below 1.
            let likeliest = || {
                (0..self.components())
                    .max_by(|&a, &b| self.weights[a].total_cmp(&self.weights[b]))
                    .unwrap_or(0)
            };
            let k = found.unwrap_or_else(likeliest);
            let eps = rng::normal(&mut rng, dim);
            let (mean, factor) =
                (&self.means[k * dim..][..dim], &self.factors[k * dim * dim..][..dim * dim]);
            let moved = mean.iter().zip(factor.chunks_exact(dim));
            out.extend(moved.map(|(mean, row)| {
                mean + temperature * row.iter().zip(&eps).map(|(l, e)| l * e).sum::<f32>()
            }));
        }
        out
    }
}

#[cfg(test)]
mod tests;
