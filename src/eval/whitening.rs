//! Whitening: removes correlations and scales each direction to variance 1, by the mean and
//! covariance of the training images (no labels). Directions with little variance also separate
//! classes, but cosine similarities and probes trained for few epochs hardly use them otherwise.

use super::features::{Features, Rows};
use super::latent_statistics::statistics;
use crate::error::{Error, Result};
use crate::model::weights::{Tensors, WHITENING};
use rayon::prelude::*;
use std::path::Path;

/// Directions with a smaller share of the variance are dropped (their whitened values are 0): in
/// f32 they are rounding error.
const LEAST: f64 = 1e-9;

/// PCA whitening: y = map (x - mean). The dimensions of y are the principal directions of x, by
/// descending variance.
#[derive(Clone, Debug, PartialEq)]
pub struct Whitening {
    /// `[D]`
    mean: Vec<f32>,
    /// Row i is principal direction i divided by the square root of its variance: `[D, D]`.
    map: Vec<f32>,
}

impl Whitening {
    /// Fits the whitening of the vectors `rows`. Takes D^3 operations: a second at 256 dimensions,
    /// a few at 512.
    ///
    /// # Errors
    /// If there are no vectors, one isn't finite, or all are the same.
    pub fn fit(rows: &dyn Rows) -> Result<Self> {
        let dim = rows.dim();
        let mut values = vec![0.0; rows.rows() * dim];
        values
            .par_chunks_exact_mut(dim.max(1))
            .enumerate()
            .for_each(|(i, out)| rows.read(i, 0, out));
        let stats = statistics(&values, dim)?;
        if stats.n <= dim {
            log::warn!(
                "whitening is fitted to {} images, no more than the {dim} dimensions that it \
                 decorrelates: all training images end up equally far apart, so distances carry \
                 little information; use more images, or features without whitening",
                stats.n
            );
        }
        let total: f64 = stats.eigenvalues.iter().sum();
        if total <= 0.0 {
            return Err(Error::failed(
                "features that are the same for every image can't be whitened",
            ));
        }
        let row = |(i, variance): (usize, &f64)| {
            let scale = if *variance > LEAST * total { variance.sqrt().recip() } else { 0.0 };
            stats.direction(i).iter().map(move |v| (v * scale) as f32).collect::<Vec<_>>()
        };
        let map = stats.eigenvalues.iter().enumerate().flat_map(row).collect();
        Ok(Self { mean: stats.mean.iter().map(|m| *m as f32).collect(), map })
    }

    /// Returns D, the length of a vector.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Returns the whitened vectors of `values` `[N, D]`.
    ///
    /// # Panics
    /// If the vectors have another length.
    pub fn apply(&self, values: &[f32]) -> Vec<f32> {
        let dim = self.dim();
        assert!(
            values.len().is_multiple_of(dim),
            "{} values are not vectors of length {dim}",
            values.len()
        );
        let mut out = vec![0.0; values.len()];
        out.par_chunks_exact_mut(dim)
            .zip(values.par_chunks_exact(dim))
            .for_each(|(out, x)| self.row(x, out));
        out
    }

    /// Returns the whitened vectors of `rows`, with their labels.
    ///
    /// # Panics
    /// If the vectors have another length.
    pub fn of(&self, rows: &dyn Rows) -> Features {
        let dim = self.dim();
        assert_eq!(rows.dim(), dim, "length of a vector, compared with that of the whitening");
        let mut values = vec![0.0; rows.rows() * dim];
        values.par_chunks_exact_mut(dim).enumerate().for_each_init(
            || vec![0.0; dim],
            |x, (i, out)| {
                rows.read(i, 0, x);
                self.row(x, out);
            },
        );
        Features { dim, values, labels: rows.labels().to_vec() }
    }

    fn row(&self, x: &[f32], out: &mut [f32]) {
        let centred: Vec<f32> = x.iter().zip(&self.mean).map(|(x, mean)| x - mean).collect();
        for (out, row) in out.iter_mut().zip(self.map.chunks_exact(centred.len())) {
            // Eight independent sums: with one, each addition would wait for the previous one.
            let (rows, rest) = row.as_chunks::<8>();
            let (xs, last) = centred.as_chunks::<8>();
            let mut sums = [0.0f32; 8];
            for (row, x) in rows.iter().zip(xs) {
                sums.iter_mut().zip(row).zip(x).for_each(|((sum, a), b)| *sum += a * b);
            }
            *out =
                sums.iter().sum::<f32>() + rest.iter().zip(last).map(|(a, b)| a * b).sum::<f32>();
        }
    }

    /// Returns the tensors to store in a weights file.
    pub fn to_tensors(&self) -> Tensors {
        let dim = self.dim();
        let named = |name: &str, shape: Vec<usize>, values: &[f32]| {
            (format!("{WHITENING}{name}"), shape, values.to_vec())
        };
        vec![named("mean", vec![dim], &self.mean), named("map", vec![dim, dim], &self.map)]
    }

    /// Reads a whitening of z of `z_dim` dimensions from `tensors`; `None` if there is none.
    ///
    /// # Errors
    /// If the stored tensors don't fit; `origin` is what the message calls the file.
    pub fn of_tensors(tensors: &Tensors, z_dim: usize, origin: &Path) -> Result<Option<Self>> {
        let find =
            |name: &str| tensors.iter().find(|(own, ..)| own.strip_prefix(WHITENING) == Some(name));
        let (mean, map) = match (find("mean"), find("map")) {
            (None, None) => return Ok(None),
            (Some((_, mean_shape, mean)), Some((_, shape, map)))
                if mean_shape[..] == [z_dim] && shape[..] == [z_dim, z_dim] =>
            {
                (mean.clone(), map.clone())
            }
            _ => {
                return Err(Error::failed(format!(
                    "{}: {WHITENING}mean and {WHITENING}map don't fit z of {z_dim} dimensions; \
                    this program didn't write these tensors",
                    origin.display()
                )));
            }
        };
        Ok(Some(Self { mean, map }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{self, Purpose};

    /// `n` vectors with strongly correlated dimensions, very different variances and means far from
    /// 0.
    fn features(n: usize, dim: usize) -> Features {
        let mut values = rng::normal(&mut rng::stream(4, Purpose::Test, dim as u64), n * dim);
        for row in values.chunks_exact_mut(dim) {
            for i in 1..dim {
                row[i] = 0.7 * row[i - 1] + row[i] * 0.8f32.powi(i as i32);
            }
            row.iter_mut().for_each(|v| *v = 3.0 * *v + 10.0);
        }
        Features { dim, values, labels: (0..n).map(|i| (i % 3) as u16).collect() }
    }

    /// The largest deviation of the covariance of `values` from the identity, and of the mean from
    /// 0.
    fn from_white(values: &[f32], dim: usize) -> f64 {
        let stats = statistics(values, dim).expect("statistics");
        let unit = |i: usize| if i.is_multiple_of(dim + 1) { 1.0 } else { 0.0 };
        let covariance = stats.covariance.iter().enumerate().map(|(i, c)| (c - unit(i)).abs());
        covariance.chain(stats.mean.iter().map(|m| m.abs())).fold(0.0, f64::max)
    }

    #[test]
    fn whitened_features_have_no_correlations_and_variance_1() {
        let (dim, features) = (21, features(500, 21));
        assert!(from_white(&features.values, dim) > 5.0);
        let whitening = Whitening::fit(&features).expect("a fit");
        let white = whitening.of(&features);
        assert!(from_white(&white.values, dim) < 1e-3, "{}", from_white(&white.values, dim));
        assert_eq!(
            (&white.values, &white.labels),
            (&whitening.apply(&features.values), &features.labels)
        );
        // Similar vectors come out nearly white, and without subtracting the mean they don't.
        let others = Features {
            values: features.values[100 * dim..].to_vec(),
            labels: features.labels[100..].to_vec(),
            ..features
        };
        let fitted = Whitening::fit(&others).expect("a fit");
        assert!(from_white(&fitted.apply(&features.values), dim) < 0.5);
        let without = Whitening { mean: vec![0.0; dim], ..whitening };
        assert!(from_white(&without.apply(&features.values), dim) > 1.0);
    }

    #[test]
    fn directions_without_variance_become_zeros_and_constant_features_are_refused() {
        let dim = 6;
        let mut some = features(100, dim);
        some.values.chunks_exact_mut(dim).for_each(|row| (row[4], row[5]) = (2.0, row[0] - row[1]));
        let white = Whitening::fit(&some).expect("a fit").of(&some);
        let zeros = |j: usize| white.values.iter().skip(j).step_by(dim).all(|v| *v == 0.0);
        assert_eq!(
            (0..dim).map(zeros).collect::<Vec<_>>(),
            [false, false, false, false, true, true]
        );
        assert!(white.values.iter().all(|v| v.is_finite()));
        some.values.fill(1.5);
        assert!(
            Whitening::fit(&some)
                .expect_err("nothing to whiten")
                .to_string()
                .contains("same for every image")
        );
        some.values[3] = f32::NAN;
        assert!(Whitening::fit(&some).is_err());
    }

    #[test]
    fn tensors_round_trip_and_those_of_other_networks_are_refused() {
        let whitening = Whitening::fit(&features(100, 5)).expect("a fit");
        let (tensors, path) = (whitening.to_tensors(), Path::new("w.safetensors"));
        assert_eq!(Whitening::of_tensors(&tensors, 5, path).expect("its own"), Some(whitening));
        assert_eq!(Whitening::of_tensors(&Tensors::new(), 5, path).expect("nothing there"), None);
        for (tensors, dim) in
            [(&tensors, 6), (&tensors[..1].to_vec(), 5), (&tensors[1..].to_vec(), 5)]
        {
            assert!(
                Whitening::of_tensors(tensors, dim, path)
                    .expect_err("refused")
                    .to_string()
                    .contains("w.safetensors")
            );
        }
    }
}
