//! Diagnostics of a representation: alignment and uniformity on the sphere (Wang and Isola 2020), and
//! the purity of neighbourhoods.

use super::features::Features;
use super::{knn, precision_recall};
use crate::error::{Error, Result};
use rayon::prelude::*;

/// The most rows that pairwise measures use: all pairs of 2,000 rows take a tenth of a second.
const MOST_ROWS: usize = 2000;

/// Returns the mean squared distance between the normalised features of two views of an image, rows
/// `a` and `b` `[N, dim]`: 0 if the encoder maps both views to the same point (Wang and Isola 2020,
/// alpha = 2). Compare it with [`separation`].
///
/// # Errors
/// If there are no rows.
pub fn alignment(a: &[f32], b: &[f32], dim: usize) -> Result<f64> {
    assert_eq!(a.len(), b.len(), "views of the same images");
    let (a, b) = (unit_rows(a, dim)?, unit_rows(b, dim)?);
    Ok(a.chunks_exact(dim).zip(b.chunks_exact(dim)).map(|(a, b)| squared(a, b)).sum::<f64>()
        / (a.len() / dim) as f64)
}

/// Returns the mean squared distance between the normalised features of different images, over all
/// pairs of the rows `[N, dim]`: 2 if they lie evenly around the origin, less if they have a
/// direction in common.
///
/// # Errors
/// If there are fewer than two rows.
pub fn separation(values: &[f32], dim: usize) -> Result<f64> {
    let rows = unit_rows(values, dim)?;
    let n = (rows.len() / dim) as f64;
    if n < 2.0 {
        return Err(Error::failed("the distance of different images needs at least two"));
    }
    // sum over pairs of |a - b|^2 = n^2 (1 - |mean|^2), and each row is at 0 from itself.
    let mean = |c: usize| rows.iter().skip(c).step_by(dim).map(|v| f64::from(*v)).sum::<f64>() / n;
    let shared = (0..dim).map(|c| mean(c).powi(2)).sum::<f64>();
    Ok(2.0 * (1.0 - shared).max(0.0) * n / (n - 1.0))
}

/// Returns ln of the mean of exp(-2 d^2) over pairs of normalised rows at distance d: 0 if all
/// features are the same, about -4 (1 - 2/dim) if they are spread evenly over the sphere (Wang and
/// Isola 2020, t = 2). Uses the first 2,000 rows.
///
/// # Errors
/// If there are fewer than two rows.
pub fn uniformity(values: &[f32], dim: usize) -> Result<f64> {
    let rows = unit_rows(&values[..values.len().min(MOST_ROWS * dim)], dim)?;
    let n = rows.len() / dim;
    if n < 2 {
        return Err(Error::failed("uniformity needs at least two images"));
    }
    let row = |i: usize| &rows[i * dim..][..dim];
    // Summed row by row in order, so that the result doesn't depend on which thread finishes first.
    let sums: Vec<f64> = (0..n)
        .into_par_iter()
        .map(|i| (0..i).map(|j| (-2.0 * squared(row(i), row(j))).exp()).sum())
        .collect();
    Ok((sums.iter().sum::<f64>() * 2.0 / (n * (n - 1)) as f64).ln())
}

/// Returns the share of each row's `k` nearest neighbours, excluding the row itself, that are of
/// its class, in per cent.
///
/// # Errors
/// If there are no more than `k` rows.
pub fn purity(features: &Features, k: usize) -> Result<f64> {
    let n = features.rows();
    if n <= k {
        return Err(Error::failed(format!(
            "{n} images are too few to find the {k} nearest neighbours of each"
        )));
    }
    // A row is its own nearest neighbour unless another row equals it, so one more is requested and
    // the row itself is dropped.
    let neighbours = knn::nearest(features, features, k + 1);
    let same = |(i, found): (usize, &Vec<(usize, f32)>)| {
        let others = found.iter().map(|f| f.0).filter(|&j| j != i).take(k);
        others.filter(|&j| features.labels[j] == features.labels[i]).count()
    };
    let same: usize = neighbours.iter().enumerate().map(same).sum();
    Ok(100.0 * same as f64 / (n * k) as f64)
}

/// Returns the rows scaled to length 1.
fn unit_rows(values: &[f32], dim: usize) -> Result<Vec<f32>> {
    if values.is_empty() {
        return Err(Error::failed("there are no images to compare the features of"));
    }
    let mut rows = vec![0.0; values.len()];
    values
        .chunks_exact(dim)
        .zip(rows.chunks_exact_mut(dim))
        .for_each(|(from, to)| knn::normalise(from, to));
    Ok(rows)
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    f64::from(precision_recall::squared(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{self, Purpose};

    fn draws(n: usize, stream: u64) -> Vec<f32> {
        rng::normal(&mut rng::stream(13, Purpose::Test, stream), n)
    }

    #[test]
    fn alignment_ranges_from_equal_to_unrelated_views() {
        let (dim, n) = (64, 1000);
        let a = draws(n * dim, 0);
        let longer: Vec<f32> = a.iter().map(|v| 3.0 * v).collect();
        // Lengths don't matter.
        assert!(alignment(&a, &longer, dim).unwrap() < 1e-10);
        let opposite: Vec<f32> = a.iter().map(|v| -v).collect();
        assert!((alignment(&a, &opposite, dim).unwrap() - 4.0).abs() < 1e-5);
        // Unrelated: 2, within five standard errors of 2 / sqrt(dim n).
        let unrelated = alignment(&a, &draws(n * dim, 1), dim).unwrap();
        assert!((unrelated - 2.0).abs() < 10.0 / ((dim * n) as f64).sqrt(), "{unrelated}");
        assert!(alignment(&[], &[], dim).is_err());
    }

    #[test]
    fn separation_is_the_mean_over_all_pairs() {
        let (dim, n) = (8, 40);
        let values: Vec<f32> = draws(n * dim, 7).iter().map(|v| v + 0.5).collect();
        let rows = unit_rows(&values, dim).unwrap();
        let row = |i: usize| &rows[i * dim..][..dim];
        let pairs = (0..n).flat_map(|i| (0..i).map(move |j| (i, j)));
        let sum: f64 = pairs.map(|(i, j)| squared(row(i), row(j))).sum();
        let (all, mean) = (separation(&values, dim).unwrap(), 2.0 * sum / (n * (n - 1)) as f64);
        assert!(mean > 0.1 && (all - mean).abs() < 1e-5 * mean, "{all}, pair by pair {mean}");
        assert!(separation(&[0.3; 640], 64).unwrap() < 1e-6, "all in one point");
        assert!(separation(&[1.0; 64], 64).is_err(), "one row");
    }

    #[test]
    fn uniformity_ranges_from_one_point_to_the_whole_sphere() {
        let (dim, n) = (64, 1000);
        assert!(uniformity(&[0.3; 640], 64).unwrap().abs() < 1e-6);
        let spread = uniformity(&draws(n * dim, 2), dim).unwrap();
        // Gaussian d^2 has mean 2 and variance 4 / dim: ln E exp(-2 d^2) = -4 + 2 * 4 / dim.
        assert!((spread - (-4.0 + 8.0 / 64.0)).abs() < 0.02, "{spread}");
        let cone: Vec<f32> = draws(n * dim, 3).iter().map(|v| v + 2.0).collect();
        assert!(uniformity(&cone, dim).unwrap() > spread + 1.0);
        assert!(uniformity(&[1.0; 64], 64).is_err());
    }

    #[test]
    fn purity_of_clusters_and_of_chance() {
        let (dim, n) = (8, 300);
        let labels: Vec<u16> = (0..n).map(|i| (i % 3) as u16).collect();
        let mut values = draws(n * dim, 4);
        let chance =
            purity(&Features { dim, values: values.clone(), labels: labels.clone() }, 5).unwrap();
        // 1,500 neighbours, a third of them of the row's class: 5 standard errors are 6 points, and
        // neighbours of neighbours are correlated.
        assert!((chance - 33.3).abs() < 8.0, "{chance}");
        values.chunks_exact_mut(dim).zip(&labels).for_each(|(row, l)| row[usize::from(*l)] += 20.0);
        let features = Features { dim, values, labels };
        assert_eq!(purity(&features, 5).unwrap(), 100.0);
        assert!(purity(&features, 300).is_err());
    }
}
