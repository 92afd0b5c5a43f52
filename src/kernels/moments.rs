//! Sums for the mean and variance of each channel of NHWC memory, in one pass.

use super::simd::{LANES, Lanes, Loop, blocks, load, store, whole};

/// The pixels that are processed together: their values stay in the L1 cache, and their sums are
/// f32.
pub(crate) const TILE: usize = 64;

/// Returns an estimate of each channel's mean, from a few of the pixels of `x`
/// `[pixels, channels]`: sums of differences from it don't suffer from cancellation.
#[inline(always)]
pub(crate) fn pivots(x: &[f32], channels: usize) -> Vec<f32> {
    const PIXELS: usize = 8;
    let pixels = x.len() / channels;
    let mut pivot = vec![0.0; channels];
    for i in 0..PIXELS {
        let pixel = &x[i * pixels / PIXELS * channels..][..channels];
        pivot.iter_mut().zip(pixel).for_each(|(p, x)| *p += x / PIXELS as f32);
    }
    pivot
}

/// Returns for each channel the sums over the pixels of x - pivot and of its square.
#[inline(always)]
pub(crate) fn sums(x: &[f32], pivot: &[f32]) -> [Vec<f32>; 2] {
    if whole(pivot.len()) { sums_of::<true>(x, pivot) } else { sums_of::<false>(x, pivot) }
}

/// Runs [`sums`] over blocks of channels that are all `WHOLE`, or not.
#[inline(always)]
fn sums_of<const WHOLE: bool>(x: &[f32], pivot: &[f32]) -> [Vec<f32>; 2] {
    let channels = pivot.len();
    let (mut sums, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
    for tile in x.chunks(TILE * channels) {
        for (first, count) in blocks::<WHOLE>(channels) {
            let pivot = load(&pivot[first..], count);
            let (mut s, mut q) = ([0.0; LANES], [0.0; LANES]);
            for row in tile.chunks_exact(channels) {
                let x = load(&row[first..], count);
                for i in 0..LANES {
                    let d = x[i] - pivot[i];
                    s[i] += d;
                    q[i] += d * d;
                }
            }
            accumulate(&mut sums[first..], count, &s);
            accumulate(&mut squares[first..], count, &q);
        }
    }
    [sums, squares]
}

/// [`sums`] as a [`Loop`].
pub(crate) struct Sums;

impl<'a> Loop<(&'a [f32], &'a [f32])> for Sums {
    type Output = [Vec<f32>; 2];

    #[inline(always)]
    fn run<const FMA: bool>((x, pivot): (&'a [f32], &'a [f32])) -> [Vec<f32>; 2] {
        sums(x, pivot)
    }
}

/// Adds the first `count` of `lanes` to `totals`.
#[inline(always)]
pub(crate) fn accumulate(totals: &mut [f32], count: usize, lanes: &Lanes) {
    let mut total = load(totals, count);
    for i in 0..LANES {
        total[i] += lanes[i];
    }
    store(totals, count, &total);
}

/// Replaces each value by the sum over its group of `size` channels, divided by `n`.
pub(crate) fn group_means(sums: &mut [f32], size: usize, n: usize) {
    for group in sums.chunks_mut(size) {
        let mean = (group.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64) as f32;
        group.fill(mean);
    }
}

/// Returns `v`, or 0 if rounding made a sum of squares negative; NaN stays NaN.
#[inline(always)]
pub(crate) fn not_below_0(v: f64) -> f64 {
    if v < 0.0 { 0.0 } else { v }
}
