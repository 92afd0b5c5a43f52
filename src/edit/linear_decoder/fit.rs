//! Fitting the linear decoder: ridge regression from z to pixels, principal components of the
//! residual, and the spectra of plain images and of target views.

use super::{LARGEST_SIDE, LinearDecoder};
use crate::config::{Config, DataConfig, Views};
use crate::data::{Images, bytes_of, views};
use crate::error::Result;
use crate::eval::features;
use crate::eval::latent_statistics::mean_and_covariance;
use crate::eval::matrix::{cholesky, eigen_symmetric, invert_lower, times_transposed};
use crate::eval::spectrum::Cosines;
use crate::kernels::gemm::{Matrix, product};
use crate::model::Soda;
use crate::progress::Progress;
use crate::rng::{self, Purpose};
use burn::tensor::{Device, f16};
use rayon::prelude::*;

/// The largest number of training images it is fitted to; fifteen thousand would add 0.1 dB.
pub const MOST_IMAGES: usize = 5_000;
/// The number of training images, and of views, whose spectrum is measured.
const SPECTRA: usize = 500;
/// The largest number of principal components of the residual: 90 % of its variance on CIFAR-10,
/// all of it below 8 cycles per image.
const COMPONENTS: usize = 200;
/// Additional directions in the subspace iteration, so that the last components converge as well.
const SPARE: usize = 16;
/// Rounds of subspace iteration.
const ROUNDS: usize = 4;
/// The ridge penalty in units of the number of images, for z of variance 1.
const RIDGE: f64 = 1e-3;
/// Images per matrix product.
const CHUNK: usize = 512;
/// The largest gain of detail. A larger ratio means detail that no view shows: what is generated
/// there is noise, which isn't amplified.
const LARGEST_GAIN: f64 = 2.5;
/// The fixed seed of the choice of images and views and of the start of the subspace iteration.
const SEED: u64 = 0;

/// Fits the linear decoder of `model`, which is on `device`, to `most` randomly chosen training
/// images out of `images`, or to all if there are fewer.
///
/// # Errors
/// If there are no images, the device can't be read, or z isn't finite.
pub fn fit_to(
    model: &Soda,
    images: &Images,
    most: usize,
    config: &Config,
    device: &Device,
) -> Result<LinearDecoder> {
    let mut order =
        rng::permutation(&mut rng::stream(SEED, Purpose::Latent, u64::MAX - 2), images.len());
    order.truncate(most);
    let chosen = images.select(&order.into_iter().map(|i| i as usize).collect::<Vec<_>>());
    let progress = Progress::new("encoding images for the linear decoder", Some(chosen.len()));
    let all: Vec<usize> = (0..chosen.len()).collect();
    let mut z = Vec::with_capacity(chosen.len() * config.model.z_dim);
    for some in all.chunks(features::batch_size(config.model.sides.source)) {
        z.extend(features::encode(model, &chosen, some, &config.data, false, device)?.values);
        progress.add(some.len());
    }
    progress.finish();
    fit(&z, config.model.z_dim, &chosen, &config.data)
}

/// Fits a linear decoder to `images` and their `z` `[N, z_dim]`; `data` is the recipe of the views
/// that the networks were trained on.
///
/// # Errors
/// If there are no images, or z isn't finite.
pub fn fit(z: &[f32], z_dim: usize, images: &Images, data: &DataConfig) -> Result<LinearDecoder> {
    let n = images.len();
    assert_eq!(z.len(), n * z_dim, "linear decoder: one z for each image");
    let side = data.sides().target.min(LARGEST_SIDE);
    let image = bytes_of(side);
    let (z_mean, covariance) = mean_and_covariance(z, z_dim)?;
    // Dimensions of z that are constant but for rounding carry no information, and their deviation
    // can't be divided by.
    let deviation: Vec<f64> = (0..z_dim).map(|i| covariance[i * z_dim + i].sqrt()).collect();
    let largest = deviation.iter().copied().fold(0.0, f64::max);
    let varies = |d: f64, mean: f64| d > (1e-6 * mean.abs().max(largest)).max(1e-8);
    let deviation: Vec<f64> = deviation
        .iter()
        .zip(&z_mean)
        .map(|(&d, &mean)| if varies(d, mean) { d } else { 1e8 })
        .collect();
    let standardised = |v: &[f32]| -> Vec<f32> {
        v.iter()
            .zip(&z_mean)
            .zip(&deviation)
            .map(|((v, mean), d)| ((f64::from(*v) - mean) / d) as f32)
            .collect()
    };
    let z: Vec<f32> = z.par_chunks_exact(z_dim).flat_map_iter(standardised).collect();

    let mut pixels = vec![0.0; n * image];
    pixels
        .par_chunks_mut(image)
        .enumerate()
        .try_for_each(|(i, out)| views::plain_target(images, &[i], side, out))?;
    let mean = means(&pixels, image);
    pixels
        .par_chunks_mut(image)
        .for_each(|row| row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m));

    // (z^T z + penalty) A = z^T x.
    let mut gram = transposed_times(&z, z_dim, &z, z_dim);
    (0..z_dim).for_each(|i| gram[i * z_dim + i] += RIDGE * n as f64);
    let inverse = invert_lower(
        &cholesky(&gram, z_dim).expect("the penalty makes it positive definite"),
        z_dim,
    );
    let moments = transposed_times(&z, z_dim, &pixels, image);
    let mut half = vec![0.0; moments.len()];
    product(
        (z_dim, image, z_dim),
        1.0,
        Matrix::new(&inverse, z_dim),
        Matrix::new(&moments, image),
        &mut half,
        image,
    );
    let mut map = vec![0.0; moments.len()];
    product(
        (z_dim, image, z_dim),
        1.0,
        Matrix::new(&inverse, z_dim).t(),
        Matrix::new(&half, image),
        &mut map,
        image,
    );

    let of_standardised: Vec<f32> = map.iter().map(|&v| v as f32).collect();
    pixels.par_chunks_mut(CHUNK * image).zip(z.par_chunks(CHUNK * z_dim)).for_each(|(rows, z)| {
        let mut predicted = vec![0.0; rows.len()];
        let shape = (rows.len() / image, image, z_dim);
        product(
            shape,
            1.0,
            Matrix::new(z, z_dim),
            Matrix::new(&of_standardised, image),
            &mut predicted,
            image,
        );
        rows.iter_mut().zip(&predicted).for_each(|(v, p)| *v -= p);
    });
    let components = components(&pixels, image, COMPONENTS.min(n.saturating_sub(1)));

    // From standardised z back to z itself.
    map.chunks_exact_mut(image)
        .zip(&deviation)
        .for_each(|(row, d)| row.iter_mut().for_each(|v| *v /= d));
    let mut bias: Vec<f64> = mean.iter().map(|&v| v.into()).collect();
    for (row, m) in map.chunks_exact(image).zip(&z_mean) {
        bias.iter_mut().zip(row).for_each(|(b, v)| *b -= m * v);
    }
    map.extend(bias);
    let rounded = |values: &[f64]| values.iter().map(|&v| f16::from_f64(v).to_f32()).collect();
    Ok(LinearDecoder {
        side,
        map: rounded(&map),
        components: rounded(&components),
        detail: rounded(&detail(images, data)?),
    })
}

/// Returns the mean of each column of `rows` `[N, dim]`.
fn means(rows: &[f32], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0; dim];
    rows.chunks_exact(dim)
        .for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v)));
    let n = (rows.len() / dim).max(1) as f64;
    sums.into_iter().map(|sum: f64| (sum / n) as f32).collect()
}

/// Returns a^T b for `a` `[N, m]` and `b` `[N, n]`: `[m, n]`. Chunks of rows are multiplied in f32
/// and summed in f64, in order.
fn transposed_times(a: &[f32], m: usize, b: &[f32], n: usize) -> Vec<f64> {
    let parts = a.par_chunks(CHUNK * m).zip(b.par_chunks(CHUNK * n)).map(|(a, b)| {
        let mut part = vec![0.0; m * n];
        product((m, n, a.len() / m), 1.0, Matrix::new(a, m).t(), Matrix::new(b, n), &mut part, n);
        part
    });
    let mut sum = vec![0.0; m * n];
    for part in parts.collect::<Vec<_>>() {
        sum.iter_mut().zip(part).for_each(|(sum, v)| *sum += f64::from(v));
    }
    sum
}

/// Returns the `count` principal components of centred `rows` `[N, dim]`, each scaled by its
/// standard deviation: `[count, dim]`. Uses subspace iteration (Halko, Martinsson and Tropp 2011),
/// which never forms the covariance with its dim^2 elements.
pub(super) fn components(rows: &[f32], dim: usize, count: usize) -> Vec<f64> {
    let (n, tried) = (rows.len() / dim, (count + SPARE).min(dim));
    if count == 0 {
        return Vec::new();
    }
    let draws = rng::normal(&mut rng::stream(SEED, Purpose::Latent, u64::MAX - 3), tried * dim);
    let mut basis = orthonormal(draws.into_iter().map(f64::from).collect(), dim);
    for _ in 0..ROUNDS {
        // basis <- basis C, C = rows^T rows / N.
        let directions: Vec<f32> = basis.iter().map(|&v| v as f32).collect();
        let along = times_rows(rows, dim, &directions);
        let mut next = transposed_times(&along, directions.len() / dim, rows, dim);
        next.iter_mut().for_each(|v| *v /= n as f64);
        basis = orthonormal(next, dim);
        if basis.is_empty() {
            return basis;
        }
    }
    let directions: Vec<f32> = basis.iter().map(|&v| v as f32).collect();
    let (along, found) = (times_rows(rows, dim, &directions), basis.len() / dim);
    let small: Vec<f64> =
        transposed_times(&along, found, &along, found).iter().map(|v| v / n as f64).collect();
    let (variances, vectors) = eigen_symmetric(&small, found);
    let kept = count.min(found);
    let mut out = vec![0.0; kept * dim];
    product(
        (kept, dim, found),
        1.0,
        Matrix::new(&vectors, found),
        Matrix::new(&basis, dim),
        &mut out,
        dim,
    );
    out.chunks_exact_mut(dim).zip(&variances).for_each(|(row, variance)| {
        let deviation = variance.max(0.0).sqrt();
        row.iter_mut().for_each(|v| *v *= deviation);
    });
    out
}

/// Returns rows directions^T, `[N, directions]`.
fn times_rows(rows: &[f32], dim: usize, directions: &[f32]) -> Vec<f32> {
    let count = directions.len() / dim;
    let mut out = vec![0.0; rows.len() / dim * count];
    out.par_chunks_mut(CHUNK * count).zip(rows.par_chunks(CHUNK * dim)).for_each(|(out, rows)| {
        let shape = (rows.len() / dim, count, dim);
        product(shape, 1.0, Matrix::new(rows, dim), Matrix::new(directions, dim).t(), out, count);
    });
    out
}

/// Returns an orthonormal basis `[M, dim]` of the span of the rows `[M, dim]`, or of the leading
/// rows only if the others depend on them linearly.
fn orthonormal(rows: Vec<f64>, dim: usize) -> Vec<f64> {
    // Two passes: one leaves an error of the order of the square root of the machine precision.
    [(); 2].iter().fold(rows, |rows, ()| {
        let count = rows.len() / dim;
        let gram = times_transposed(&rows, &rows, dim);
        // The factorisation has no pivot for a row that depends on earlier ones.
        let (used, factor) = (1..=count)
            .rev()
            .find_map(|used| {
                let corner: Vec<f64> =
                    (0..used).flat_map(|i| gram[i * count..][..used].iter().copied()).collect();
                Some((used, cholesky(&corner, used)?))
            })
            .unwrap_or((0, Vec::new()));
        let mut out = vec![0.0; used * dim];
        product(
            (used, dim, used),
            1.0,
            Matrix::new(&invert_lower(&factor, used), used),
            Matrix::new(&rows, dim),
            &mut out,
            dim,
        );
        out
    })
}

/// Returns the amplitudes of plain images over those of target views, per band: from 1 to
/// [`LARGEST_GAIN`], and 1 where the ratio is larger.
fn detail(images: &Images, data: &DataConfig) -> Result<Vec<f64>> {
    let (side, n) = (data.sides().target, images.len().min(SPECTRA));
    let cosines = Cosines::new(side);
    if data.views == Views::Same || data.target.crop == 0.0 {
        return Ok(vec![1.0; cosines.bands()]);
    }
    let indices: Vec<usize> = (0..n).collect();
    let (mut plain, mut viewed) = (vec![0.0; n * bytes_of(side)], vec![0.0; n * bytes_of(side)]);
    views::plain_target(images, &indices, side, &mut plain)?;
    viewed.par_chunks_mut(bytes_of(side)).enumerate().try_for_each(|(i, out)| -> Result<()> {
        let mut stream = rng::stream(SEED, Purpose::Views, i as u64);
        views::to_signed(
            &views::view(&images.image(i)?, side, &data.target, false, &mut stream).0,
            out,
        );
        Ok(())
    })?;
    let ratio = |(plain, viewed): (f64, f64)| {
        let ratio = (plain / viewed).sqrt();
        if ratio <= LARGEST_GAIN { ratio.max(1.0) } else { 1.0 }
    };
    let mut gains: Vec<f64> =
        cosines.power(&plain).into_iter().zip(cosines.power(&viewed)).map(ratio).collect();
    // The mean colour isn't detail.
    gains[0] = 1.0;
    Ok(gains)
}
