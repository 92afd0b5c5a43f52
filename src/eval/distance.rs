//! How far a set of images lies from another one in a feature space: Frechet distance and k-NN precision and recall.
//!
//! The features are those of the encoder that is judged, so the numbers compare sets of images under one encoder and say nothing
//! across encoders. They are not FID, which is the Frechet distance in the feature space of one particular Inception network.

use super::latent::mean_and_covariance;
use super::matrix::{eigen_symmetric, times_transposed};
use crate::error::{Error, Result};
use crate::progress::Progress;
use rayon::prelude::*;
use serde::Serialize;

/// Neighbours that span the manifold of a set (Kynkaanniemi et al. 2019 use 3).
pub const NEIGHBOURS: usize = 3;

/// A set of drawn images beside one of real images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distance {
    /// See [`frechet`].
    pub frechet: f64,
    /// Share of the drawn images that lie among the real ones, per cent: are they right?
    pub precision: f64,
    /// Share of the real images that lie among the drawn ones, per cent: are all kinds drawn?
    pub recall: f64,
}

/// All distances of `drawn` `[N, dim]` from `real` `[M, dim]`.
///
/// # Errors
/// Features that are not finite, or no more than [`NEIGHBOURS`] of a kind.
pub fn distance(drawn: &[f32], real: &[f32], dim: usize) -> Result<Distance> {
    let frechet = frechet(drawn, real, dim)?;
    let (precision, recall) = precision_recall(drawn, real, dim)?;
    Ok(Distance { frechet, precision, recall })
}

/// |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)): the squared Wasserstein-2 distance between the Gaussians of means m and covariances
/// A and B that fit rows `a` and `b` (Dowson and Landau 1982). 0 for equal sets; it grows with few rows even where both come from
/// one distribution, so compare sets of one size.
///
/// # Errors
/// No rows, or values that are not finite.
pub fn frechet(a: &[f32], b: &[f32], dim: usize) -> Result<f64> {
    let ((mean_a, cov_a), (mean_b, cov_b)) = (mean_and_covariance(a, dim)?, mean_and_covariance(b, dim)?);
    let between: f64 = mean_a.iter().zip(&mean_b).map(|(a, b)| (a - b).powi(2)).sum();
    let trace = |m: &[f64]| (0..dim).map(|i| m[i * dim + i]).sum::<f64>();
    // The eigenvalues of A B are those of the symmetric A^(1/2) B A^(1/2).
    let (values, vectors) = eigen_symmetric(&cov_a, dim);
    let mut scaled = vectors;
    for (row, value) in scaled.chunks_exact_mut(dim).zip(&values) {
        row.iter_mut().for_each(|v| *v *= value.max(0.0).sqrt());
    }
    // With S = diag(sqrt(values)) V (rows of eigenvectors), S B S^T has the same eigenvalues, since A = S^T S.
    let product = times_transposed(&times_transposed(&scaled, &cov_b, dim), &scaled, dim);
    let root: f64 = eigen_symmetric(&product, dim).0.iter().map(|v| v.max(0.0).sqrt()).sum();
    // Rounding may leave -1e-12 for equal sets.
    Ok((between + trace(&cov_a) + trace(&cov_b) - 2.0 * root).max(0.0))
}

/// Improved precision and recall (Kynkaanniemi et al. 2019), per cent: a vector lies among the others where it is no further from
/// one of them than that one's [`NEIGHBOURS`]-th neighbour among its own kind.
///
/// # Errors
/// Fewer than [`NEIGHBOURS`] + 1 rows of a kind.
pub fn precision_recall(drawn: &[f32], real: &[f32], dim: usize) -> Result<(f64, f64)> {
    for (rows, name) in [(drawn.len() / dim, "drawn"), (real.len() / dim, "real")] {
        if rows <= NEIGHBOURS {
            let least = NEIGHBOURS + 1;
            return Err(Error::failed(format!(
                "{rows} {name} images are too few for precision and recall; take {least} or more"
            )));
        }
    }
    Ok((share_within(drawn, real, dim), share_within(real, drawn, dim)))
}

/// Share of `points` within the ball of some row of `among`, per cent.
fn share_within(points: &[f32], among: &[f32], dim: usize) -> f64 {
    let progress = Progress::new("precision and recall, images", Some((points.len() + among.len()) / dim));
    let radius = |i: usize| {
        progress.add(1);
        let own = &among[i * dim..][..dim];
        let mut distances: Vec<f32> = among.chunks_exact(dim).map(|other| squared(own, other)).collect();
        // The row itself is the nearest, at 0.
        *distances.select_nth_unstable_by(NEIGHBOURS, f32::total_cmp).1
    };
    let radii: Vec<f32> = (0..among.len() / dim).into_par_iter().map(radius).collect();
    let within = |p: &[f32]| {
        progress.add(1);
        among.chunks_exact(dim).zip(&radii).any(|(row, &radius)| squared(p, row) <= radius)
    };
    let inside = points.par_chunks_exact(dim).filter(|p| within(p)).count();
    100.0 * inside as f64 / (points.len() / dim) as f64
}

/// |a - b|^2.
pub(super) fn squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{self, Purpose};

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
        let want: f64 = (0..dim).map(|i| (2.0 * mean[i] + 0.5).powi(2) + 4.0 * cov[i * dim + i]).sum();
        let got = frechet(&a, &b, dim).unwrap();
        // f32 features of size 1: 1e-6 of the sum.
        assert!((got - want).abs() < 1e-5 * want, "{got} instead of {want}");
        assert!(frechet(&a, &a, dim).unwrap() < 1e-9);
        // Two draws of one distribution: about dim (dim + 3) / 4n, far below that of another distribution.
        let other = frechet(&a, &gaussian(20_000, dim, 1.0, 0.0, 1), dim).unwrap();
        assert!(other < 0.01, "{other}");
        // A covariance of lower rank has a square root too.
        let mut flat = a.clone();
        flat.iter_mut().skip(1).step_by(dim).for_each(|v| *v = 0.0);
        let lost = frechet(&a, &flat, dim).unwrap();
        assert!((lost - cov[dim + 1] - mean[1].powi(2)).abs() < 1e-2, "{lost} instead of {}", cov[dim + 1]);
    }

    #[test]
    fn precision_and_recall_tell_wrong_images_from_missing_ones() {
        let (dim, n) = (3, 400);
        let real: Vec<f32> = [gaussian(n, dim, 1.0, 0.0, 2), gaussian(n, dim, 1.0, 40.0, 3)].concat();
        // One of two kinds only: everything is right, half is missing.
        let (precision, recall) = precision_recall(&gaussian(n, dim, 1.0, 0.0, 4), &real, dim).unwrap();
        assert!(precision > 85.0 && (40.0..=50.0).contains(&recall), "{precision} {recall}");
        // Both kinds and as many wrong ones.
        let drawn = [gaussian(n, dim, 1.0, 0.0, 5), gaussian(n, dim, 1.0, 40.0, 6), gaussian(2 * n, dim, 1.0, -90.0, 7)].concat();
        let (precision, recall) = precision_recall(&drawn, &real, dim).unwrap();
        assert!((40.0..=50.0).contains(&precision) && recall > 85.0, "{precision} {recall}");
        assert_eq!(precision_recall(&real, &real, dim).unwrap(), (100.0, 100.0));
        let few = precision_recall(&real[..9], &real, dim).unwrap_err().to_string();
        assert!(few.starts_with("3 drawn images are too few"), "{few}");
    }
}
