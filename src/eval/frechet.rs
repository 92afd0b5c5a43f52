//! The Frechet distance between two sets of images in a feature space, and the scores of generated
//! images that are built on it.
//!
//! The features are those of the encoder under evaluation, so values compare sets of images under
//! one encoder and can't be compared across encoders. They are not FID, which is the Frechet
//! distance in the feature space of one particular Inception network; [`scores`] uses that
//! network's features.

use super::inception::{FEATURES, Looked};
use super::latent_statistics::mean_and_covariance;
use super::matrix::{cholesky, eigen_symmetric, eigenvalues, times_transposed};
use super::precision_recall::precision_recall;
use crate::error::{Error, Result};
use crate::kernels::gemm::{Matrix, product};
use crate::rng::{self, Purpose};
use rand::seq::index;
use rayon::prelude::*;
use serde::Serialize;

/// Distances between a set of generated images and one of real images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distance {
    /// See [`frechet`].
    pub frechet: f64,
    /// Share of the generated images that lie on the manifold of the real ones, in per cent:
    /// fidelity.
    pub precision: f64,
    /// Share of the real images that lie on the manifold of the generated ones, in per cent:
    /// coverage.
    pub recall: f64,
}

/// Computes all distances between `generated` `[N, dim]` and `real` `[M, dim]`.
///
/// # Errors
/// If features are not finite, or a set has no more than [`NEIGHBOURS`](super::precision_recall::NEIGHBOURS) rows.
pub fn distance(generated: &[f32], real: &[f32], dim: usize) -> Result<Distance> {
    let frechet = frechet(generated, real, dim)?;
    let (precision, recall) = precision_recall(generated, real, dim)?;
    Ok(Distance { frechet, precision, recall })
}

/// Returns the Frechet distance |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)): the squared
/// Wasserstein-2 distance between the Gaussians of means m and covariances A and B fitted to rows
/// `a` and `b` (Dowson and Landau 1982). It is 0 for equal sets, and biased upwards with few rows
/// even if both sets come from one distribution, so compare sets of the same size.
///
/// # Errors
/// If there are no rows, or values are not finite.
pub fn frechet(a: &[f32], b: &[f32], dim: usize) -> Result<f64> {
    let ((mean_a, cov_a), (mean_b, cov_b)) =
        (mean_and_covariance(a, dim)?, mean_and_covariance(b, dim)?);
    let between: f64 = mean_a.iter().zip(&mean_b).map(|(a, b)| (a - b).powi(2)).sum();
    let trace = |m: &[f64]| (0..dim).map(|i| m[i * dim + i]).sum::<f64>();
    // The eigenvalues of A B are those of the symmetric A^(1/2) B A^(1/2).
    let (values, vectors) = eigen_symmetric(&cov_a, dim);
    let mut scaled = vectors;
    for (row, value) in scaled.chunks_exact_mut(dim).zip(&values) {
        row.iter_mut().for_each(|v| *v *= value.max(0.0).sqrt());
    }
    // With S = diag(sqrt(values)) V (rows of eigenvectors), S B S^T has the same eigenvalues, since
    // A = S^T S.
    let product = times_transposed(&times_transposed(&scaled, &cov_b, dim), &scaled, dim);
    let root: f64 = eigen_symmetric(&product, dim).0.iter().map(|v| v.max(0.0).sqrt()).sum();
    // Rounding may leave -1e-12 for equal sets.
    Ok((between + trace(&cov_a) + trace(&cov_b) - 2.0 * root).max(0.0))
}

/// Scores of generated images in the feature space of an Inception network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// [`frechet`] of the features, with covariances divided by N - 1 as in pytorch-fid: FID
    /// (Heusel et al. 2017).
    pub frechet: f64,
    /// Kernel Inception distance (Binkowski et al. 2018), see [`kid`].
    pub kid: f64,
    /// Inception score (Salimans et al. 2016), see [`inception_score`].
    pub inception_score: f64,
    /// [`Distance::precision`] of these features.
    pub precision: f64,
    /// [`Distance::recall`] of these features.
    pub recall: f64,
}

/// Computes all scores of `generated` images against `real` ones.
///
/// # Errors
/// As [`distance`].
pub fn scores(generated: &Looked, real: &Looked) -> Result<Scores> {
    let (a, b) = (&generated.features, &real.features);
    let (precision, recall) = precision_recall(a, b, FEATURES)?;
    Ok(Scores {
        frechet: frechet_of_many(a, b, FEATURES)?,
        kid: kid(a, b, FEATURES),
        inception_score: inception_score(generated),
        precision,
        recall,
    })
}

/// Returns the Frechet distance as [`frechet`], for vectors of thousands of dimensions and with
/// covariances divided by N - 1.
///
/// # Errors
/// If a set has fewer than two rows, or values are not finite.
pub fn frechet_of_many(a: &[f32], b: &[f32], dim: usize) -> Result<f64> {
    let (mean_a, trace_a, a) = factor(a, dim)?;
    let (mean_b, trace_b, b) = factor(b, dim)?;
    let between: f64 = mean_a.iter().zip(&mean_b).map(|(a, b)| (a - b).powi(2)).sum();
    // With A = F^T F and B = G^T G, the roots of the eigenvalues of A B are the singular values of
    // F G^T.
    let product = times_transposed(&a, &b, dim);
    let rows = a.len() / dim;
    let squares = times_transposed(&product, &product, b.len() / dim);
    let root: f64 = eigenvalues(squares, rows).into_iter().map(|v| v.max(0.0).sqrt()).sum();
    Ok((between + trace_a + trace_b - 2.0 * root).max(0.0))
}

/// Returns the mean of `rows` `[N, dim]`, the trace of their covariance, and a matrix F
/// `[any, dim]` for which F^T F is that covariance.
fn factor(rows: &[f32], dim: usize) -> Result<(Vec<f64>, f64, Vec<f64>)> {
    let n = rows.len() / dim;
    if n < 2 {
        return Err(Error::failed(format!(
            "{n} images are too few for a covariance; take 2 or more"
        )));
    }
    let unbiased = n as f64 / (n - 1) as f64;
    if n <= dim {
        if rows.iter().any(|v| !v.is_finite()) {
            return Err(Error::failed("the features of an image are not finite"));
        }
        let mean: Vec<f64> = (0..dim)
            .map(|i| {
                rows.iter().skip(i).step_by(dim).map(|v| f64::from(*v)).sum::<f64>() / n as f64
            })
            .collect();
        let scale = 1.0 / ((n - 1) as f64).sqrt();
        let centred: Vec<f64> =
            rows.iter().enumerate().map(|(i, v)| (f64::from(*v) - mean[i % dim]) * scale).collect();
        let trace = centred.iter().map(|v| v * v).sum();
        return Ok((mean, trace, centred));
    }
    let (mean, mut covariance) = mean_and_covariance(rows, dim)?;
    covariance.iter_mut().for_each(|v| *v *= unbiased);
    let trace: f64 = (0..dim).map(|i| covariance[i * dim + i]).sum();
    // Rounding can make the zero eigenvalues of directions without variance negative; adding a
    // little to the diagonal makes the matrix positive definite.
    let lower = [0.0, 1e-12, 1e-10, 1e-8].into_iter().find_map(|share| {
        let mut raised = covariance.clone();
        (0..dim).for_each(|i| raised[i * dim + i] += share * trace / dim as f64);
        cholesky(&raised, dim)
    });
    let lower = lower.ok_or_else(|| {
        Error::failed("the features of all images are the same, so they have no covariance")
    })?;
    let upper = (0..dim)
        .flat_map(|i| (0..dim).map(move |j| (i, j)))
        .map(|(i, j)| lower[j * dim + i])
        .collect();
    Ok((mean, trace, upper))
}

/// Images per subset of the kernel distance, and the number of random subsets (Binkowski et al.
/// 2018).
const KID_IMAGES: usize = 1_000;
const KID_SETS: usize = 100;

/// Returns the unbiased squared maximum mean discrepancy of rows `a` and `b` under the kernel
/// (x . y / dim + 1)^3 (Binkowski et al. 2018): the mean over 100 pairs of random subsets of up to
/// 1,000 rows, or the value for all rows if there are no more.
pub fn kid(a: &[f32], b: &[f32], dim: usize) -> f64 {
    let (n, m) = (a.len() / dim, b.len() / dim);
    let all = n.max(m) <= KID_IMAGES;
    let (sets, size) =
        if all { (1, (n, m)) } else { (KID_SETS, (n.min(KID_IMAGES), m.min(KID_IMAGES))) };
    let draw = |rows: &[f32], count: usize, stream: u64| -> Vec<f32> {
        let total = rows.len() / dim;
        if total == count {
            return rows.to_vec();
        }
        let chosen = index::sample(&mut rng::stream(0, Purpose::Sets, stream), total, count);
        chosen.into_iter().flat_map(|i| rows[i * dim..][..dim].to_vec()).collect()
    };
    let one = |set: usize| {
        let (x, y) = (draw(a, size.0, 2 * set as u64), draw(b, size.1, 2 * set as u64 + 1));
        let kernel = |x: &[f32], y: &[f32]| -> Vec<f64> {
            let (rows, columns) = (x.len() / dim, y.len() / dim);
            let mut out = vec![0.0f32; rows * columns];
            product(
                (rows, columns, dim),
                1.0,
                Matrix::new(x, dim),
                Matrix::new(y, dim).t(),
                &mut out,
                columns,
            );
            out.into_iter().map(|v| (f64::from(v) / dim as f64 + 1.0).powi(3)).collect()
        };
        let within = |k: &[f64], n: usize| {
            let trace: f64 = (0..n).map(|i| k[i * n + i]).sum();
            (k.iter().sum::<f64>() - trace) / (n * (n - 1)) as f64
        };
        let across = kernel(&x, &y);
        within(&kernel(&x, &x), size.0) + within(&kernel(&y, &y), size.1)
            - 2.0 * across.iter().sum::<f64>() / across.len() as f64
    };
    (0..sets).into_par_iter().map(one).collect::<Vec<f64>>().iter().sum::<f64>() / sets as f64
}

/// Returns exp of the mean Kullback-Leibler divergence of each image's class distribution from the
/// mean distribution (Salimans et al. 2016), over all images at once; the paper's mean over ten
/// splits is lower.
pub fn inception_score(looked: &Looked) -> f64 {
    let softmax = |row: &[f32]| -> Vec<f64> {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp: Vec<f64> = row.iter().map(|v| f64::from(v - largest).exp()).collect();
        let sum: f64 = exp.iter().sum();
        exp.into_iter().map(|v| v / sum).collect()
    };
    let each: Vec<Vec<f64>> = looked.classes().map(softmax).collect();
    let n = each.len() as f64;
    let mean: Vec<f64> = (0..each.first().map_or(0, Vec::len))
        .map(|c| each.iter().map(|p| p[c]).sum::<f64>() / n)
        .collect();
    let divergence = |p: &Vec<f64>| {
        p.iter().zip(&mean).filter(|(p, _)| **p > 0.0).map(|(p, m)| p * (p / m).ln()).sum::<f64>()
    };
    (each.iter().map(divergence).sum::<f64>() / n).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaussian(n: usize, dim: usize, scale: f32, shift: f32, stream: u64) -> Vec<f32> {
        let draws = rng::normal(&mut rng::stream(11, Purpose::Test, stream), n * dim);
        draws.iter().map(|v| v * scale + shift).collect()
    }

    #[test]
    fn frechet_distance_of_known_gaussians() {
        let dim = 4;
        let a = gaussian(20_000, dim, 1.0, 0.0, 0);
        // Exact for a scaled and shifted copy: |shift|^2 dim + dim var (1 - scale)^2.
        let b: Vec<f32> = a.iter().map(|v| 3.0 * v + 0.5).collect();
        let (mean, cov) = mean_and_covariance(&a, dim).unwrap();
        let want: f64 =
            (0..dim).map(|i| (2.0 * mean[i] + 0.5).powi(2) + 4.0 * cov[i * dim + i]).sum();
        let got = frechet(&a, &b, dim).unwrap();
        // f32 features of size 1: 1e-6 of the sum.
        assert!((got - want).abs() < 1e-5 * want, "{got} instead of {want}");
        assert!(frechet(&a, &a, dim).unwrap() < 1e-9);
        // Two samples of one distribution: about dim (dim + 3) / 4n, far below the distance to
        // another distribution.
        let other = frechet(&a, &gaussian(20_000, dim, 1.0, 0.0, 1), dim).unwrap();
        assert!(other < 0.01, "{other}");
        // A rank-deficient covariance has a square root too.
        let mut flat = a.clone();
        flat.iter_mut().skip(1).step_by(dim).for_each(|v| *v = 0.0);
        let lost = frechet(&a, &flat, dim).unwrap();
        assert!(
            (lost - cov[dim + 1] - mean[1].powi(2)).abs() < 1e-2,
            "{lost} instead of {}",
            cov[dim + 1]
        );
    }

    #[test]
    fn frechet_of_many_matches_frechet() {
        let dim = 6;
        // Enough rows for a covariance of full rank, and fewer rows than dimensions.
        for n in [50, 4] {
            let (a, b) = (gaussian(n, dim, 1.0, 0.0, 0), gaussian(n, dim, 1.5, 0.3, 1));
            let ((mean_a, _), (mean_b, _)) =
                (mean_and_covariance(&a, dim).unwrap(), mean_and_covariance(&b, dim).unwrap());
            let between: f64 = mean_a.iter().zip(&mean_b).map(|(a, b)| (a - b).powi(2)).sum();
            // Covariances are divided by N - 1 instead of N.
            let expected =
                between + (frechet(&a, &b, dim).unwrap() - between) * n as f64 / (n - 1) as f64;
            let found = frechet_of_many(&a, &b, dim).unwrap();
            assert!((found - expected).abs() < 1e-6 * expected, "{found} {expected}");
            assert!(frechet_of_many(&a, &a, dim).unwrap() < 1e-6);
        }
        assert!(frechet_of_many(&[1.0; 6], &[1.0; 12], dim).is_err(), "one row has no covariance");
    }

    #[test]
    fn kernel_distances_are_near_zero_for_one_distribution_and_grow_with_the_distance() {
        let dim = 8;
        let a = gaussian(3_000, dim, 1.0, 0.0, 0);
        let (near, far) = (
            kid(&a, &gaussian(3_000, dim, 1.0, 0.0, 1), dim),
            kid(&a, &gaussian(3_000, dim, 1.0, 0.5, 2), dim),
        );
        assert!(near.abs() < 0.01 && far > 0.1, "{near} {far}");
        // For constant rows of two values the kernel's mean is known: (1 + 1)^3 for equal rows,
        // (1 - 1)^3 for opposite ones.
        let (x, y) = ([1.0f32, 1.0, 1.0, 1.0].as_slice(), [-1.0f32, -1.0, -1.0, -1.0].as_slice());
        assert_eq!(kid(x, y, 2), 8.0 + 8.0);
    }
}
