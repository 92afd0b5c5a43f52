//! Maps: two-dimensional projections of features, and the share of neighbourhoods that a map
//! preserves.
//!
//! Everything here uses L2-normalised features, like the protocol `knn`.

use super::features::Features;
use super::knn::{nearest, normalise};
use super::latent_statistics::statistics;
use crate::error::{Error, Result};
use crate::progress::Progress;
use bhtsne::{Neighbor, tSNE};
use rayon::prelude::*;

/// The fewest images for a map.
pub const FEWEST: usize = 10;
/// Iterations of t-SNE, the usual number; the first quarter uses early exaggeration.
const ROUNDS: usize = 1000;
/// Accuracy of the Barnes-Hut approximation, the usual value.
const THETA: f32 = 0.5;
/// Standard deviation of t-SNE's initial points along the first axis (scikit-learn).
const START: f64 = 1e-4;

/// Returns the first two principal components of the normalised features, `[N]` of (x, y), and
/// their shares of the variance.
///
/// # Errors
/// If there are fewer than [`FEWEST`] images, features are not finite, or have fewer than 2
/// dimensions.
pub fn pca(features: &Features) -> Result<(Vec<[f64; 2]>, [f64; 2])> {
    let (n, dim) = (features.rows(), features.dim);
    if n < FEWEST || dim < 2 {
        return Err(Error::failed(format!(
            "{n} images of {dim} features each: a map needs at least {FEWEST} of 2"
        )));
    }
    let mut values = vec![0.0; features.values.len()];
    features
        .values
        .chunks_exact(dim)
        .zip(values.chunks_exact_mut(dim))
        .for_each(|(from, to)| normalise(from, to));
    let stats = statistics(&values, dim)?;
    let along = |row: &[f32], direction: &[f64]| -> f64 {
        row.iter()
            .zip(&stats.mean)
            .zip(direction)
            .map(|((v, mean), d)| (f64::from(*v) - mean) * d)
            .sum()
    };
    let points = values
        .chunks_exact(dim)
        .map(|row| [0, 1].map(|i| along(row, stats.direction(i))))
        .collect();
    let shares = stats.shares();
    Ok((points, [shares[0], shares[1]]))
}

/// Computes t-SNE (van der Maaten and Hinton 2008; Barnes-Hut) of the features at `perplexity`,
/// `[N]` of (x, y), initialised with their principal components. It runs on one thread to be
/// reproducible: t-SNE is chaotic, and several threads would sum in varying order.
///
/// # Errors
/// As [`pca`]; if the features are all the same, or the perplexity isn't at least 1 and at most a
/// third of the number of other images.
pub fn tsne(features: &Features, perplexity: f64) -> Result<Vec<[f64; 2]>> {
    let (start, _) = pca(features)?;
    let n = features.rows();
    let most = (n - 1) as f64 / 3.0;
    if !(1.0..=most).contains(&perplexity) {
        return Err(Error::usage(format!(
            "perplexity {perplexity}: for {n} images choose 1 to {most:.0}"
        )));
    }
    let deviation = (start.iter().map(|p| p[0] * p[0]).sum::<f64>() / n as f64).sqrt();
    // Rounding errors of normalised features are 1e-7.
    if deviation < 1e-6 {
        return Err(Error::failed(
            "the features of all images are the same: there is nothing to map",
        ));
    }
    let start: Vec<f32> = start.iter().flatten().map(|v| (v * START / deviation) as f32).collect();
    let row = |(rows, cosines): (Vec<usize>, Vec<f32>)| -> Vec<Neighbor<f32>> {
        rows.into_iter()
            .zip(cosines)
            .map(|(index, c)| Neighbor { index, distance: (2.0 - 2.0 * c).max(0.0).sqrt() })
            .collect()
    };
    let neighbours: Vec<_> =
        others(features, (3.0 * perplexity) as usize).into_iter().map(row).collect();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let one = one.map_err(|e| Error::failed(format!("cannot start a thread: {e}")))?;
    let progress = Progress::new("t-SNE, iterations", Some(ROUNDS));
    let points = one.install(|| {
        let samples = vec![(); n];
        let mut tsne = tSNE::<f32, (), 2>::new(&samples);
        tsne.perplexity(perplexity as f32)
            .epochs(ROUNDS)
            .initial_embedding(start)
            .epoch_callback(|_, _| progress.add(1));
        tsne.barnes_hut_with_neighbors(THETA, &neighbours).embedding()
    });
    Ok(points.chunks_exact(2).map(|p| [p[0].into(), p[1].into()]).collect())
}

/// Finds, for each row, the `k` nearest other rows (fewer if there are no more) and their cosines,
/// nearest first.
fn others(features: &Features, k: usize) -> Vec<(Vec<usize>, Vec<f32>)> {
    let all = nearest(features, features, k + 1).into_iter().enumerate();
    // If a row has duplicates, it needn't be its own first neighbour.
    all.map(|(i, found)| found.into_iter().filter(|(row, _)| *row != i).take(k).unzip()).collect()
}

/// Returns the share, in per cent, of each image's `k` nearest neighbours in feature space that are
/// among its `k` nearest on the map: 100 if the map preserves all neighbourhoods, 100 k / (N - 1)
/// on average for a random map.
///
/// # Panics
/// If the numbers of points and features differ, or there are no `k` other images.
pub fn preserved(features: &Features, points: &[[f64; 2]], k: usize) -> f64 {
    let n = points.len();
    assert_eq!(n, features.rows(), "number of points, compared with features");
    assert!(k > 0 && k < n, "{k} neighbours of {n} images");
    let kept = |(i, (rows, _)): (usize, &(Vec<usize>, Vec<f32>))| {
        let distance = |j: usize| {
            (points[i][0] - points[j][0]).powi(2) + (points[i][1] - points[j][1]).powi(2)
        };
        let mut on_map: Vec<(f64, usize)> =
            (0..n).filter(|&j| j != i).map(|j| (distance(j), j)).collect();
        on_map.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        on_map[..k].iter().filter(|(_, j)| rows.contains(j)).count()
    };
    let kept: usize = others(features, k).par_iter().enumerate().map(kept).sum();
    100.0 * kept as f64 / (n * k) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{self, Purpose};

    /// Five clusters in 12 dimensions.
    fn clusters(n: usize) -> Features {
        let mut values = rng::normal(&mut rng::stream(8, Purpose::Test, 0), n * 12);
        let labels: Vec<u16> = (0..n).map(|i| (i % 5) as u16).collect();
        values
            .chunks_exact_mut(12)
            .zip(&labels)
            .for_each(|(row, &label)| row[usize::from(label)] += 12.0);
        Features { dim: 12, values, labels }
    }

    /// The share of points whose nearest neighbour is of their class, in per cent.
    fn purity(points: &[[f64; 2]], labels: &[u16]) -> f64 {
        let distance = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2);
        let nearest = |i: usize| {
            (0..points.len()).filter(|&j| j != i).min_by(|&a, &b| {
                distance(points[i], points[a]).total_cmp(&distance(points[i], points[b]))
            })
        };
        let right = (0..points.len()).filter(|&i| labels[i] == labels[nearest(i).unwrap()]).count();
        100.0 * right as f64 / points.len() as f64
    }

    #[test]
    fn principal_components_are_those_of_the_normalised_features() {
        let features = clusters(400);
        let (points, shares) = pca(&features).unwrap();
        let variance = |axis: usize| points.iter().map(|p| p[axis] * p[axis]).sum::<f64>() / 400.0;
        let product = points.iter().map(|p| p[0] * p[1]).sum::<f64>() / 400.0;
        // Uncorrelated, the first with the larger variance, in the ratio of the shares.
        assert!(product.abs() < 1e-6 && variance(0) >= variance(1));
        assert!((variance(0) / variance(1) - shares[0] / shares[1]).abs() < 1e-4, "{shares:?}");
        // Lengths don't matter.
        let mut longer = features.clone();
        longer
            .values
            .chunks_exact_mut(12)
            .enumerate()
            .for_each(|(i, row)| row.iter_mut().for_each(|v| *v *= 1.0 + i as f32));
        let (same, _) = pca(&longer).unwrap();
        assert!(same.len() == points.len() && same.iter().flatten().all(|v| v.is_finite()));
        let difference = same
            .iter()
            .flatten()
            .zip(points.iter().flatten())
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(difference < 1e-4, "{difference}");
    }

    #[test]
    fn tsne_keeps_clusters_and_more_neighbours_than_chance_or_pca_and_is_reproducible() {
        let features = clusters(300);
        let points = tsne(&features, 20.0).unwrap();
        assert!(points.iter().flatten().all(|v| v.is_finite()));
        assert!(purity(&points, &features.labels) > 95.0);
        let (plane, _) = pca(&features).unwrap();
        let kept = [&points, &plane].map(|points| preserved(&features, points, 10));
        assert!(kept[0] > kept[1] && kept[1] > 2.0 * 1000.0 / 299.0, "{kept:?}");
        // Negative control: the same points, shuffled among the images.
        let order = rng::permutation(&mut rng::stream(8, Purpose::Test, 1), 300);
        let mixed: Vec<[f64; 2]> = order.iter().map(|&i| points[i as usize]).collect();
        assert!(
            purity(&mixed, &features.labels) < 40.0
                && preserved(&features, &mixed, 10) < kept[0] / 2.0
        );
        assert!(tsne(&features, 20.0).unwrap() == points);
    }

    #[test]
    fn a_map_identical_to_the_features_preserves_all_neighbourhoods() {
        // On the unit circle, where cosines and distances in the plane give the same order.
        let angle = |i: usize| 0.05 * i as f32 + 0.0007 * (i * i) as f32;
        let values: Vec<f32> = (0..40).flat_map(|i| [angle(i).cos(), angle(i).sin()]).collect();
        let points: Vec<[f64; 2]> =
            values.chunks_exact(2).map(|p| [p[0].into(), p[1].into()]).collect();
        let features = Features { dim: 2, values, labels: vec![0; 40] };
        assert_eq!(preserved(&features, &points, 5), 100.0);
        let mut wrong = points.clone();
        wrong.swap(0, 39);
        assert!(preserved(&features, &wrong, 5) < 100.0);
    }

    #[test]
    fn inputs_without_a_map_are_refused() {
        let few = clusters(FEWEST - 1);
        assert!(pca(&few).unwrap_err().to_string().contains("9 images"));
        let features = clusters(30);
        for perplexity in [0.5, 10.0, f64::NAN] {
            assert_eq!(tsne(&features, perplexity).unwrap_err().exit_code(), 2);
        }
        let copies = Features { dim: 12, values: vec![1.0; 30 * 12], labels: vec![0; 30] };
        assert!(tsne(&copies, 5.0).unwrap_err().to_string().contains("all images are the same"));
        // A few duplicates are harmless.
        let mut some = clusters(60);
        let first = some.values[..12].to_vec();
        some.values[12..96].chunks_exact_mut(12).for_each(|row| row.copy_from_slice(&first));
        assert!(tsne(&some, 5.0).unwrap().iter().flatten().all(|v| v.is_finite()));
        let mut broken = clusters(30);
        broken.values[5] = f32::NAN;
        assert!(tsne(&broken, 5.0).is_err());
    }
}
