//! Similarity of two images: PSNR and SSIM of planar images with values in \[-1, 1\].
//!
//! Both are computed in f64 on pixels mapped to \[0, 1\], (v + 1) / 2. Values are not clipped.

use crate::error::{Error, Result};
use rayon::prelude::*;
use serde::Serialize;

/// The PSNR of identical images and the largest one reported, so that a mean over images stays
/// finite.
pub const MAX_PSNR: f64 = 100.0;

/// Width and sigma of SSIM's Gaussian window.
const WINDOW: usize = 11;
const SIGMA: f64 = 1.5;
/// SSIM's constants (K1 L)^2 and (K2 L)^2 for K1 = 0.01, K2 = 0.03, L = 1.
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;

/// Means over a set of image pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Similarity {
    /// Mean of the images' PSNR in dB.
    pub psnr: f64,
    /// Mean of the images' SSIM, at most 1.
    pub ssim: f64,
    /// Number of pairs.
    pub n: usize,
}

impl Similarity {
    /// Combines the similarities of several sets of images.
    ///
    /// # Panics
    /// If there are no images.
    pub fn over(parts: &[Similarity]) -> Self {
        let n = parts.iter().map(|part| part.n).sum::<usize>();
        assert!(n > 0, "similarity of no images");
        let mean = |of: fn(&Similarity) -> f64| {
            parts.iter().map(|part| of(part) * part.n as f64).sum::<f64>() / n as f64
        };
        Self { psnr: mean(|part| part.psnr), ssim: mean(|part| part.ssim), n }
    }
}

/// Computes the mean PSNR and SSIM of the images of `a` and their counterparts in `b`, both \[N, 3,
/// size, size\].
///
/// # Errors
/// If a pixel is not finite (the message names the image), or there are no images.
///
/// # Panics
/// If the lengths differ or aren't a multiple of 3 size^2, or `size` is below 11.
pub fn similarity(a: &[f32], b: &[f32], size: usize) -> Result<Similarity> {
    let len = 3 * size * size;
    assert_eq!(a.len(), b.len(), "similarity: lengths of the two sets of images");
    assert_eq!(a.len() % len, 0, "similarity: {} values are not [N, 3, {size}, {size}]", a.len());
    for images in [a, b] {
        if let Some(at) = images.iter().position(|v| !v.is_finite()) {
            let (image, value) = (at / len, images[at]);
            return Err(Error::failed(format!(
                "image {image} has a pixel that is {value}; the weights or the sampler diverged"
            )));
        }
    }
    if a.is_empty() {
        return Err(Error::failed("there are no images to compare"));
    }
    let pairs = a.par_chunks_exact(len).zip(b.par_chunks_exact(len));
    let each: Vec<(f64, f64)> = pairs.map(|(a, b)| (psnr(a, b), ssim(a, b, size))).collect();
    let n = each.len();
    let mean =
        |values: &dyn Fn(&(f64, f64)) -> f64| each.iter().map(values).sum::<f64>() / n as f64;
    Ok(Similarity { psnr: mean(&|v| v.0), ssim: mean(&|v| v.1), n })
}

/// Returns the mean absolute difference of the pixels of `a` and `b` in \[0, 1\]; 0 for no pixels.
///
/// # Panics
/// If the lengths differ.
pub fn mean_change(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "mean_change: lengths of the two images");
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>()
        / 2.0
        / a.len().max(1) as f64
}

/// Returns the peak signal-to-noise ratio in dB, 10 log10(1 / mean squared error of pixels in \[0,
/// 1\]), at most [`MAX_PSNR`]; NaN if a pixel is NaN.
///
/// # Panics
/// If the lengths differ or are 0.
pub fn psnr(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "psnr: lengths of the two images");
    assert!(!a.is_empty(), "psnr of images without pixels");
    let squares: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    // [-1, 1] is twice as wide as [0, 1].
    let psnr = -10.0 * (squares / 4.0 / a.len() as f64).log10();
    // f64::min would turn NaN into the best score.
    if psnr > MAX_PSNR { MAX_PSNR } else { psnr }
}

/// Returns the structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004) of two images
/// \[channels, size, size\].
///
/// The window is a Gaussian of 11 x 11, sigma 1.5, with K1 = 0.01 and K2 = 0.03. SSIM is averaged
/// over channels and over the windows that lie entirely inside the image. Equal to scikit-image's
/// `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
/// data_range=1)`, which filters with reflection and then crops 5 pixels from each border.
///
/// # Panics
/// If the lengths differ or aren't a multiple of size^2, or `size` is below 11.
pub fn ssim(a: &[f32], b: &[f32], size: usize) -> f64 {
    assert_eq!(a.len(), b.len(), "ssim: lengths of the two images");
    assert!(size >= WINDOW, "ssim: images of side {size} are smaller than the window of {WINDOW}");
    let area = size * size;
    assert!(
        !a.is_empty() && a.len().is_multiple_of(area),
        "ssim: {} values are not [channels, {size}, {size}]",
        a.len()
    );
    let window = gaussian();
    let mut sum = 0.0;
    for (a, b) in a.chunks_exact(area).zip(b.chunks_exact(area)) {
        let pixels =
            |v: &[f32]| -> Vec<f64> { v.iter().map(|&v| (f64::from(v) + 1.0) / 2.0).collect() };
        let (a, b) = (pixels(a), pixels(b));
        let product =
            |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x * y).collect() };
        let [mean_a, mean_b, aa, bb, ab] =
            [&a, &b, &product(&a, &a), &product(&b, &b), &product(&a, &b)]
                .map(|map| blur(map, size, &window));
        let mut channel = 0.0;
        for i in 0..mean_a.len() {
            let (ma, mb) = (mean_a[i], mean_b[i]);
            let (var_a, var_b, cov) = (aa[i] - ma * ma, bb[i] - mb * mb, ab[i] - ma * mb);
            channel += (2.0 * ma * mb + C1) * (2.0 * cov + C2)
                / ((ma * ma + mb * mb + C1) * (var_a + var_b + C2));
        }
        sum += channel / mean_a.len() as f64;
    }
    sum / (a.len() / area) as f64
}

/// Returns one dimension of the window, which sums to 1.
fn gaussian() -> [f64; WINDOW] {
    let weights: [f64; WINDOW] = std::array::from_fn(|i| {
        let x = i as f64 - (WINDOW / 2) as f64;
        (-x * x / (2.0 * SIGMA * SIGMA)).exp()
    });
    let sum: f64 = weights.iter().sum();
    weights.map(|w| w / sum)
}

/// Computes weighted means over the windows inside a map of `size` x `size`: along its rows, then
/// along its columns.
fn blur(map: &[f64], size: usize, window: &[f64; WINDOW]) -> Vec<f64> {
    let inner = size - WINDOW + 1;
    let mut rows = vec![0.0; size * inner];
    for (out, row) in rows.chunks_exact_mut(inner).zip(map.chunks_exact(size)) {
        for (k, weight) in window.iter().enumerate() {
            out.iter_mut().zip(&row[k..]).for_each(|(sum, v)| *sum += weight * v);
        }
    }
    let mut out = vec![0.0; inner * inner];
    for (y, out) in out.chunks_exact_mut(inner).enumerate() {
        for (k, weight) in window.iter().enumerate() {
            out.iter_mut().zip(&rows[(y + k) * inner..]).for_each(|(sum, v)| *sum += weight * v);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 3 * 32 * 32;

    fn image(pixel: impl Fn(f64) -> f64) -> Vec<f32> {
        (0..LEN).map(|i| pixel(i as f64) as f32).collect()
    }

    /// Two pairs and the values of scikit-image 0.26 for them (channel_axis=0, arguments as in the
    /// documentation of [`ssim`]).
    fn golden() -> [(Vec<f32>, Vec<f32>, f64, f64); 2] {
        let ramp = |i: f64| (i * 37.0) % 256.0 / 255.0 * 2.0 - 1.0;
        [
            (
                image(ramp),
                image(|i| ramp(i) * 0.9 + 0.05 * (i * 0.37).sin() - 0.02),
                29.028084596641918,
                0.9925928906648692,
            ),
            (
                image(|i| (i / 41.0).sin()),
                image(|i| (i / 41.0 + 0.2).sin() * 0.8),
                20.469081640867056,
                0.948000798689411,
            ),
        ]
    }

    #[test]
    fn psnr_and_ssim_agree_with_scikit_image() {
        for (a, b, golden_psnr, golden_ssim) in golden() {
            // The inputs are f32 on both sides; the last bit of sin may differ.
            assert!(
                (psnr(&a, &b) - golden_psnr).abs() < 1e-6,
                "{} instead of {golden_psnr}",
                psnr(&a, &b)
            );
            assert!(
                (ssim(&a, &b, 32) - golden_ssim).abs() < 1e-7,
                "{} instead of {golden_ssim}",
                ssim(&a, &b, 32)
            );
        }
    }

    #[test]
    fn a_difference_of_a_tenth_is_20_decibels() {
        let (a, b) = (image(|_| 0.0), image(|_| 0.2));
        assert!((psnr(&a, &b) - 20.0).abs() < 1e-5);
    }

    #[test]
    fn identical_images_score_the_largest_values_and_nan_never_does() {
        let (a, ..) = golden()[0].clone();
        assert_eq!(psnr(&a, &a), MAX_PSNR);
        assert!((ssim(&a, &a, 32) - 1.0).abs() < 1e-12);
        let mut bad = a.clone();
        bad[5] = f32::NAN;
        assert!(psnr(&a, &bad).is_nan());
        assert!(ssim(&a, &bad, 32).is_nan());
    }

    #[test]
    fn similarity_is_the_mean_over_images() {
        let [(a0, b0, psnr_0, ssim_0), (a1, b1, psnr_1, ssim_1)] = golden();
        let got = similarity(&[a0, a1].concat(), &[b0, b1].concat(), 32).unwrap();
        assert!((got.psnr - (psnr_0 + psnr_1) / 2.0).abs() < 1e-6, "{got:?}");
        assert!((got.ssim - (ssim_0 + ssim_1) / 2.0).abs() < 1e-7, "{got:?}");
        assert_eq!(got.n, 2);
        // The parts of a set are weighted by their number of images.
        let part = |psnr, n| Similarity { psnr, ssim: psnr / 100.0, n };
        let over = Similarity::over(&[part(10.0, 3), part(20.0, 1)]);
        assert!(
            (over.psnr - 12.5).abs() < 1e-12 && (over.ssim - 0.125).abs() < 1e-12 && over.n == 4,
            "{over:?}"
        );
    }

    #[test]
    fn similarity_names_the_image_that_is_not_finite() {
        let good = vec![0.0; 2 * LEN];
        let mut bad = good.clone();
        bad[LEN + 7] = f32::INFINITY;
        let message = similarity(&good, &bad, 32).unwrap_err().to_string();
        assert!(message.starts_with("image 1 has a pixel that is inf"), "{message}");
    }

    #[test]
    #[should_panic(expected = "psnr: lengths of the two images")]
    fn images_of_different_lengths_panic() {
        psnr(&[0.0; 4], &[0.0; 5]);
    }
}
