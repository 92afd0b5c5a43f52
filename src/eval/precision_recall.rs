//! Improved precision and recall of generated images (Kynkaanniemi et al. 2019).

use crate::error::{Error, Result};
use crate::kernels::gemm::{Matrix, product};
use crate::progress::Progress;
use rayon::prelude::*;

/// Neighbours that define the manifold of a set (Kynkaanniemi et al. 2019 use 3).
pub const NEIGHBOURS: usize = 3;

/// Rows per block of distances.
const BLOCK: usize = 500;
/// Returns improved precision and recall (Kynkaanniemi et al. 2019), in per cent: a vector lies on
/// the manifold of the other set if it is no further from one of its vectors than that vector's
/// [`NEIGHBOURS`]-th neighbour within its own set.
///
/// # Errors
/// If a set has fewer than [`NEIGHBOURS`] + 1 rows.
pub fn precision_recall(generated: &[f32], real: &[f32], dim: usize) -> Result<(f64, f64)> {
    for (rows, name) in [(generated.len() / dim, "generated"), (real.len() / dim, "real")] {
        if rows <= NEIGHBOURS {
            let least = NEIGHBOURS + 1;
            return Err(Error::failed(format!(
                "{rows} {name} images are too few for precision and recall; take {least} or more"
            )));
        }
    }
    Ok((share_within(generated, real, dim), share_within(real, generated, dim)))
}

/// Returns the share of `points` within the ball of some row of `among`, in per cent.
fn share_within(points: &[f32], among: &[f32], dim: usize) -> f64 {
    let progress =
        Progress::new("precision and recall, images", Some((points.len() + among.len()) / dim));
    let others = among.len() / dim;
    let radii: Vec<f32> = among
        .par_chunks(BLOCK * dim)
        .flat_map_iter(|block| {
            progress.add(block.len() / dim);
            let mut distances = all_squared(block, among, dim);
            // The nearest row is the row itself, at 0.
            let radius =
                |row: &mut [f32]| *row.select_nth_unstable_by(NEIGHBOURS, f32::total_cmp).1;
            distances.chunks_exact_mut(others).map(radius).collect::<Vec<f32>>()
        })
        .collect();
    let inside: usize = points
        .par_chunks(BLOCK * dim)
        .map(|block| {
            progress.add(block.len() / dim);
            let within =
                |row: &&[f32]| row.iter().zip(&radii).any(|(distance, radius)| distance <= radius);
            all_squared(block, among, dim).chunks_exact(others).filter(within).count()
        })
        .sum();
    100.0 * inside as f64 / (points.len() / dim) as f64
}

/// Returns |a - b|^2 for all rows of `a` and `b`, `[A, B]`. Long vectors use |a|^2 + |b|^2 - 2 a b,
/// which loses digits of small distances and takes a tenth of the time; rows with equal elements
/// still have distance 0.
fn all_squared(a: &[f32], b: &[f32], dim: usize) -> Vec<f32> {
    let columns = b.len() / dim;
    if dim < 512 {
        return a
            .chunks_exact(dim)
            .flat_map(|a| b.chunks_exact(dim).map(move |b| squared(a, b)))
            .collect();
    }
    let norm = |row: &[f32]| row.iter().map(|v| v * v).sum::<f32>();
    let norms: Vec<f32> = b.chunks_exact(dim).map(norm).collect();
    let mut out = vec![0.0; a.len() / dim * columns];
    product(
        (a.len() / dim, columns, dim),
        -2.0,
        Matrix::new(a, dim),
        Matrix::new(b, dim).t(),
        &mut out,
        columns,
    );
    for (row, a) in out.chunks_exact_mut(columns).zip(a.chunks_exact(dim)) {
        let own = norm(a);
        for ((distance, other), b) in row.iter_mut().zip(&norms).zip(b.chunks_exact(dim)) {
            *distance = if a == b { 0.0 } else { (*distance + own + other).max(0.0) };
        }
    }
    out
}

/// Returns |a - b|^2.
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
    fn distances_of_long_vectors_match_the_direct_formula() {
        let (dim, n) = (600, 7);
        let (a, b) = (gaussian(n, dim, 1.0, 3.0, 3), gaussian(n, dim, 2.0, 0.0, 4));
        let found = all_squared(&a, &b, dim);
        for (i, distance) in found.iter().enumerate() {
            let expected = squared(&a[i / n * dim..][..dim], &b[i % n * dim..][..dim]);
            assert!((distance - expected).abs() < 1e-4 * expected, "{distance} {expected}");
        }
        assert!((0..n).all(|i| all_squared(&a, &a, dim)[i * n + i] == 0.0));
    }

    #[test]
    fn precision_and_recall_tell_wrong_images_from_missing_ones() {
        let (dim, n) = (3, 400);
        let real: Vec<f32> =
            [gaussian(n, dim, 1.0, 0.0, 2), gaussian(n, dim, 1.0, 40.0, 3)].concat();
        // One of two modes only: all images are realistic, half of the modes are missing.
        let (precision, recall) =
            precision_recall(&gaussian(n, dim, 1.0, 0.0, 4), &real, dim).unwrap();
        assert!(precision > 85.0 && (40.0..=50.0).contains(&recall), "{precision} {recall}");
        // Both modes and as many unrealistic images.
        let generated = [
            gaussian(n, dim, 1.0, 0.0, 5),
            gaussian(n, dim, 1.0, 40.0, 6),
            gaussian(2 * n, dim, 1.0, -90.0, 7),
        ]
        .concat();
        let (precision, recall) = precision_recall(&generated, &real, dim).unwrap();
        assert!((40.0..=50.0).contains(&precision) && recall > 85.0, "{precision} {recall}");
        assert_eq!(precision_recall(&real, &real, dim).unwrap(), (100.0, 100.0));
        let few = precision_recall(&real[..9], &real, dim).unwrap_err().to_string();
        assert!(few.starts_with("3 generated images are too few"), "{few}");
    }
}
