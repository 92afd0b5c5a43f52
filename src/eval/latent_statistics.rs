//! Statistics of z: mean, variances, principal directions, effective rank.

use super::matrix::{eigen_symmetric, gram};
use crate::error::{Error, Result};

/// Statistics of z `[N, Z]`; variances and covariances are divided by N.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentStats {
    /// Number of vectors, N.
    pub n: usize,
    /// Their length, Z.
    pub dim: usize,
    /// `[Z]`
    pub mean: Vec<f64>,
    /// Variance of each dimension, `[Z]`.
    pub variance: Vec<f64>,
    /// `[Z, Z]`, row-major.
    pub covariance: Vec<f64>,
    /// Eigenvalues of the covariance, `[Z]`, in descending order, none below 0.
    pub eigenvalues: Vec<f64>,
    /// Row i is the unit eigenvector of eigenvalue i, the i-th principal direction, `[Z, Z]`.
    pub eigenvectors: Vec<f64>,
}

/// Computes the mean `[dim]` and covariance `[dim, dim]` (divided by N) of `z` `[N, dim]`.
///
/// # Errors
/// If there are no vectors, or a value is not finite (the message names it).
///
/// # Panics
/// If the length of `z` is not a multiple of `dim`.
pub fn mean_and_covariance(z: &[f32], dim: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    assert!(dim > 0 && z.len().is_multiple_of(dim), "{} values are not a z [N, {dim}]", z.len());
    let n = z.len() / dim;
    if n == 0 {
        return Err(Error::failed("there are no images to compute statistics of z from"));
    }
    if let Some(at) = z.iter().position(|v| !v.is_finite()) {
        return Err(Error::failed(format!(
            "z of image {} holds {} (entry {}); the weights are damaged or have diverged",
            at / dim,
            z[at],
            at % dim
        )));
    }
    let mut mean = vec![0.0; dim];
    for row in z.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v));
    }
    mean.iter_mut().for_each(|m| *m /= n as f64);
    let centred = |i: usize, out: &mut [f64]| {
        let row = &z[i * dim..][..dim];
        out.iter_mut().zip(row).zip(&mean).for_each(|((out, &v), m)| *out = f64::from(v) - m);
    };
    let mut covariance = gram(n, dim, centred);
    covariance.iter_mut().for_each(|c| *c /= n as f64);
    Ok((mean, covariance))
}

/// Computes all statistics of `z` `[N, dim]`. The eigenvectors take dim^3 operations: 0.1 s at 128
/// dimensions, a few seconds at 512.
///
/// # Errors
/// If there are no vectors, or a value is not finite (the message names it).
///
/// # Panics
/// If the length of `z` is not a multiple of `dim`.
pub fn statistics(z: &[f32], dim: usize) -> Result<LatentStats> {
    let (mean, covariance) = mean_and_covariance(z, dim)?;
    let variance = (0..dim).map(|i| covariance[i * dim + i]).collect();
    let (mut eigenvalues, eigenvectors) = eigen_symmetric(&covariance, dim);
    // A covariance has no negative eigenvalues, but rounding leaves some near -1e-17.
    eigenvalues.iter_mut().for_each(|v| *v = v.max(0.0));
    Ok(LatentStats { n: z.len() / dim, dim, mean, variance, covariance, eigenvalues, eigenvectors })
}

impl LatentStats {
    /// Returns the sum of the variances of all dimensions.
    pub fn total_variance(&self) -> f64 {
        self.variance.iter().sum()
    }

    /// Returns the i-th principal direction, `[Z]`, of length 1.
    pub fn direction(&self, i: usize) -> &[f64] {
        &self.eigenvectors[i * self.dim..][..self.dim]
    }

    /// Returns the share of the variance along each principal direction, `[Z]`, summing to 1; zeros
    /// if z is constant.
    pub fn shares(&self) -> Vec<f64> {
        shares(&self.eigenvalues)
    }

    /// Returns the variance of z along the unit vector `u` `[Z]`: u^T C u.
    pub fn variance_along(&self, u: &[f64]) -> f64 {
        let rows = self.covariance.chunks_exact(self.dim).zip(u);
        rows.map(|(row, u_i)| u_i * row.iter().zip(u).map(|(c, u_j)| c * u_j).sum::<f64>())
            .sum::<f64>()
            .max(0.0)
    }

    /// Returns the effective rank of the covariance, see [`effective_rank`].
    pub fn effective_rank(&self) -> f64 {
        effective_rank(&self.eigenvalues)
    }

    /// Returns the largest possible effective rank: N vectors span at most N - 1 directions around
    /// their mean.
    pub fn largest_rank(&self) -> usize {
        self.dim.min(self.n.saturating_sub(1))
    }

    /// Describes the effective rank, as "18.2 of 128 directions" or "4.4 of the 7 directions that 8
    /// images can show".
    pub fn rank_in_words(&self) -> String {
        let (rank, dim, n, most) = (self.effective_rank(), self.dim, self.n, self.largest_rank());
        match most < dim {
            true => format!("{rank:.1} of the {most} directions that {n} images can show"),
            false => format!("{rank:.1} of {dim} directions"),
        }
    }
}

/// Returns exp of the entropy of the normalised `eigenvalues` of a covariance, the number of
/// directions that z effectively uses: d for d equal eigenvalues, 1 for a single one, 0 if all are
/// 0. Roy and Vetterli (2007) define it for the singular values of any matrix; those of a
/// covariance are its eigenvalues.
pub fn effective_rank(eigenvalues: &[f64]) -> f64 {
    if eigenvalues.iter().all(|&v| v <= 0.0) {
        return 0.0;
    }
    shares(eigenvalues).iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum::<f64>().exp()
}

fn shares(eigenvalues: &[f64]) -> Vec<f64> {
    let sum: f64 = eigenvalues.iter().sum();
    eigenvalues.iter().map(|v| if sum > 0.0 { v / sum } else { 0.0 }).collect()
}

/// Returns the share, in per cent, of the rows of `z` `[N, dim]` that lie more than 5 times as far
/// from the mean as the median row. A Gaussian in many dimensions has no such rows; if an encoder's
/// learning rate is too high, single images of each batch dominate z.
pub fn outliers(z: &[f32], stats: &LatentStats) -> f64 {
    let distance = |row: &[f32]| {
        row.iter().zip(&stats.mean).map(|(&v, m)| (f64::from(v) - m).powi(2)).sum::<f64>().sqrt()
    };
    let distances: Vec<f64> = z.chunks_exact(stats.dim).map(distance).collect();
    let mut sorted = distances.clone();
    sorted.sort_by(f64::total_cmp);
    let limit = 5.0 * sorted[sorted.len() / 2];
    100.0 * distances.iter().filter(|d| **d > limit).count() as f64 / distances.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{self, Purpose};

    /// n vectors (a, b, c) with a = 3 g_0 + 1, b = g_0 + g_1, c = 5: known mean and covariance.
    fn known(n: usize) -> Vec<f32> {
        let draws = rng::normal(&mut rng::stream(2, Purpose::Test, 0), 2 * n);
        draws.chunks_exact(2).flat_map(|g| [3.0 * g[0] + 1.0, g[0] + g[1], 5.0]).collect()
    }

    #[test]
    fn few_vectors_show_few_directions() {
        let z: Vec<f32> = (0..40).map(|i| if i % 11 == 0 { 1.0 } else { 0.0 }).collect();
        let words = |n: usize, dim: usize| statistics(&z[..n * dim], dim).unwrap().rank_in_words();
        // Four unit vectors in ten dimensions span three directions alike.
        assert_eq!(words(4, 10), "3.0 of the 3 directions that 4 images can show");
        assert!(words(20, 2).ends_with(" of 2 directions"), "{}", words(20, 2));
    }

    #[test]
    fn statistics_of_a_known_distribution() {
        let n = 20_000;
        let stats = statistics(&known(n), 3).unwrap();
        let close = |got: f64, want: f64, what: &str| {
            // Five standard errors of a covariance whose factors have deviations up to 3.
            let tolerance = 5.0 * 9.0 * (2.0 / n as f64).sqrt();
            assert!((got - want).abs() < tolerance, "{what}: {got} instead of {want}");
        };
        for (i, want) in [1.0, 0.0, 5.0].into_iter().enumerate() {
            close(stats.mean[i], want, "mean");
        }
        for (i, want) in [9.0, 3.0, 0.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0].into_iter().enumerate() {
            close(stats.covariance[i], want, "covariance");
        }
        // Eigenvalues of [[9, 3], [3, 2]]: (11 +- sqrt(85)) / 2.
        for (i, want) in
            [(11.0 + 85f64.sqrt()) / 2.0, (11.0 - 85f64.sqrt()) / 2.0, 0.0].into_iter().enumerate()
        {
            close(stats.eigenvalues[i], want, "eigenvalue");
        }
        let first = stats.direction(0);
        let angle = (3.0f64).atan2((7.0 + 85f64.sqrt()) / 2.0);
        assert!(
            (first[0] - angle.cos()).abs() < 0.02 && (first[1] - angle.sin()).abs() < 0.02,
            "{first:?}"
        );
        // Negative control: the second direction differs.
        assert!((stats.direction(1)[0] - angle.cos()).abs() > 0.1);
        assert_eq!(stats.variance[2], 0.0);
    }

    #[test]
    fn variance_along_a_direction_is_that_of_the_projections() {
        let z = known(500);
        let stats = statistics(&z, 3).unwrap();
        let u = [0.6, -0.8, 0.0];
        let along: Vec<f64> = z
            .chunks_exact(3)
            .map(|z| z.iter().zip(u).map(|(&z, u)| f64::from(z) * u).sum())
            .collect();
        let mean = along.iter().sum::<f64>() / 500.0;
        let variance = along.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 500.0;
        assert!((stats.variance_along(&u) - variance).abs() < 1e-9 * variance);
        for i in 0..3 {
            assert!(
                (stats.variance_along(stats.direction(i)) - stats.eigenvalues[i]).abs()
                    < 1e-9 * stats.eigenvalues[0]
            );
        }
        let shares = stats.shares();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12 && shares[0] > shares[1]);
        assert!(
            (stats.eigenvalues.iter().sum::<f64>() - stats.total_variance()).abs()
                < 1e-9 * stats.total_variance()
        );
    }

    #[test]
    fn effective_rank_of_known_spectra() {
        let close = |spectrum: &[f64], want: f64| {
            let got = effective_rank(spectrum);
            assert!(
                (got - want).abs() < 1e-12 * want.max(1.0),
                "{spectrum:?}: {got} instead of {want}"
            );
        };
        close(&[0.7; 12], 12.0);
        close(&[3.0, 0.0, 0.0], 1.0);
        close(&[0.0; 4], 0.0);
        // Entropy of (1/2, 1/4, 1/4) is 1.5 ln 2.
        close(&[2.0, 1.0, 1.0], 2f64.powf(1.5));
        close(&[], 0.0);
    }

    #[test]
    fn constant_z_has_no_directions_and_damaged_z_is_named() {
        let stats = statistics(&[0.5; 40], 4).unwrap();
        assert_eq!((stats.effective_rank(), stats.shares(), stats.n), (0.0, vec![0.0; 4], 10));
        let single = statistics(&[1.0, 2.0], 2).unwrap();
        assert_eq!((single.mean, single.eigenvalues), (vec![1.0, 2.0], vec![0.0; 2]));
        let message = statistics(&[0.0, 1.0, 2.0, f32::NAN], 2).unwrap_err().to_string();
        assert!(message.starts_with("z of image 1 holds NaN (entry 1)"), "{message}");
        assert!(statistics(&[], 2).unwrap_err().to_string().contains("no images"));
    }

    #[test]
    fn rows_far_from_all_others_are_outliers() {
        let mut z = rng::normal(&mut rng::stream(2, Purpose::Test, 1), 1000 * 16);
        let share = |z: &[f32]| outliers(z, &statistics(z, 16).unwrap());
        assert_eq!(share(&z), 0.0);
        z.chunks_exact_mut(16).take(20).for_each(|row| row.iter_mut().for_each(|v| *v *= 10.0));
        assert_eq!(share(&z), 2.0);
        // With all rows ten times as far away there are no outliers.
        z.chunks_exact_mut(16).skip(20).for_each(|row| row.iter_mut().for_each(|v| *v *= 10.0));
        assert_eq!(share(&z), 0.0);
    }
}
