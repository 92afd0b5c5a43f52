//! Batch normalisation on NHWC memory: each image's sums by one thread, added up in the order of the images, so that the
//! result doesn't depend on the number of threads.

use super::{BatchNormGradients, BatchNormOp, Options};
use crate::kernels::buffers::Buffer;
use crate::kernels::layout::{FlexImage, flex_values};
use crate::kernels::profile;
use crate::kernels::simd::{LANES, Loop, blocks, load, store, vectorised};
use burn::tensor::Shape;
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

/// y = relu(a * x + d) for each channel.
struct Affine {
    a: Vec<f32>,
    d: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
}

impl Affine {
    fn new(statistics: &[f32], gamma: &[f32], beta: &[f32], eps: f32) -> Self {
        let (mean, variance) = statistics.split_at(gamma.len());
        let rstd: Vec<f32> = variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
        let a: Vec<f32> = gamma.iter().zip(&rstd).map(|(g, r)| g * r).collect();
        let d = beta.iter().zip(mean).zip(&a).map(|((b, m), a)| b - m * a).collect();
        Self { a, d, mean: mean.to_vec(), rstd }
    }

    fn apply(&self, x: &FlexImage, relu: bool) -> Buffer {
        let image = x.len() / x.dims[0];
        let mut y = Buffer::new(x.len());
        (y.par_chunks_mut(image), x.values().par_chunks(image))
            .into_par_iter()
            .for_each(|(y, x)| vectorised::<ApplyImage, _>((x, y, self, relu)));
        y
    }
}

struct ApplyImage;

impl<'a> Loop<(&'a [f32], &'a mut [f32], &'a Affine, bool)> for ApplyImage {
    type Output = ();

    #[inline(always)]
    fn run((x, y, affine, relu): (&'a [f32], &'a mut [f32], &'a Affine, bool)) {
        let channels = affine.a.len();
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        for (first, count) in blocks(channels) {
            let (a, d) = (load(&affine.a[first..], count), load(&affine.d[first..], count));
            for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                let mut lanes = load(&x[first..], count);
                for i in 0..LANES {
                    lanes[i] = (a[i] * lanes[i] + d[i]).max(floor);
                }
                store(&mut y[first..], count, &lanes);
            }
        }
    }
}

/// Sum over batch and pixels of x - centre for each channel, or of its square.
fn channel_sums(x: &FlexImage, centre: &[f32], squared: bool) -> Vec<f64> {
    let image = x.len() / x.dims[0];
    let per_image: Vec<Vec<f32>> =
        x.values().par_chunks(image).map(|x| vectorised::<ImageSums, _>((x, centre, squared))).collect();
    let mut total = vec![0.0f64; centre.len()];
    for sums in per_image {
        total.iter_mut().zip(sums).for_each(|(t, s)| *t += f64::from(s));
    }
    total
}

struct ImageSums;

impl<'a> Loop<(&'a [f32], &'a [f32], bool)> for ImageSums {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run((x, centre, squared): (&'a [f32], &'a [f32], bool)) -> Vec<f32> {
        let channels = centre.len();
        let mut sums = vec![0.0f32; channels];
        for (first, count) in blocks(channels) {
            let centre = load(&centre[first..], count);
            let mut sum = [0.0; LANES];
            for row in x.chunks_exact(channels) {
                let x = load(&row[first..], count);
                for i in 0..LANES {
                    let d = x[i] - centre[i];
                    sum[i] += if squared { d * d } else { d };
                }
            }
            store(&mut sums[first..], count, &sum);
        }
        sums
    }
}

/// One image of the backward pass: g = dy where the ReLU let something through; returns the sums of g and g * xhat.
struct MaskedImage;

impl<'a> Loop<(&'a mut [f32], &'a [f32], &'a [f32], &'a Affine, bool)> for MaskedImage {
    type Output = [Vec<f32>; 2];

    #[inline(always)]
    fn run((g, x, dy, affine, relu): (&'a mut [f32], &'a [f32], &'a [f32], &'a Affine, bool)) -> [Vec<f32>; 2] {
        let channels = affine.a.len();
        let (mut sums, mut products) = (vec![0.0f32; channels], vec![0.0f32; channels]);
        for (first, count) in blocks(channels) {
            let [a, d, mean, rstd] = [&affine.a, &affine.d, &affine.mean, &affine.rstd].map(|v| load(&v[first..], count));
            let (mut s0, mut s1) = ([0.0; LANES], [0.0; LANES]);
            let rows = g.chunks_exact_mut(channels).zip(x.chunks_exact(channels)).zip(dy.chunks_exact(channels));
            for ((g, x), dy) in rows {
                let (x, mut lanes) = (load(&x[first..], count), load(&dy[first..], count));
                for i in 0..LANES {
                    let passed = !relu || a[i] * x[i] + d[i] > 0.0;
                    lanes[i] = if passed { lanes[i] } else { 0.0 };
                    s0[i] += lanes[i];
                    s1[i] += lanes[i] * ((x[i] - mean[i]) * rstd[i]);
                }
                store(&mut g[first..], count, &lanes);
            }
            store(&mut sums[first..], count, &s0);
            store(&mut products[first..], count, &s1);
        }
        [sums, products]
    }
}

/// g becomes the gradient of x; `m0`, `m1` are the means of g and g * xhat.
struct GradientImage;

impl<'a> Loop<(&'a mut [f32], &'a [f32], &'a [f32], &'a [f32], &'a Affine)> for GradientImage {
    type Output = ();

    #[inline(always)]
    fn run((g, x, m0, m1, affine): (&'a mut [f32], &'a [f32], &'a [f32], &'a [f32], &'a Affine)) {
        let channels = affine.a.len();
        for (first, count) in blocks(channels) {
            let [a, mean, rstd] = [&affine.a, &affine.mean, &affine.rstd].map(|v| load(&v[first..], count));
            let (m0, m1) = (load(&m0[first..], count), load(&m1[first..], count));
            for (g, x) in g.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                let (mut lanes, x) = (load(&g[first..], count), load(&x[first..], count));
                for i in 0..LANES {
                    let xhat = (x[i] - mean[i]) * rstd[i];
                    lanes[i] = a[i] * (lanes[i] - m0[i] - xhat * m1[i]);
                }
                store(&mut g[first..], count, &lanes);
            }
        }
    }
}

impl BatchNormOp for Flex {
    fn train(x: FlexTensor, gamma: FlexTensor, beta: FlexTensor, options: Options) -> (FlexTensor, FlexTensor) {
        let _timer = profile::timer("batch_norm forward");
        let (x, gamma, beta) = (FlexImage::new(x), gamma.to_contiguous(), beta.to_contiguous());
        let channels = x.dims[1];
        let n = (x.len() / channels) as f64;
        let mean: Vec<f32> = channel_sums(&x, &vec![0.0; channels], false).iter().map(|s| (s / n) as f32).collect();
        let squares = channel_sums(&x, &mean, true);
        let mut statistics = mean;
        statistics.extend(squares.iter().map(|s| (s / n) as f32));
        let affine = Affine::new(&statistics, flex_values(&gamma), flex_values(&beta), options.eps);
        let y = affine.apply(&x, options.relu);
        (FlexImage::tensor(y, x.dims), Buffer::copy(&statistics).tensor(Shape::new([2 * channels])))
    }

    fn normalise(x: FlexTensor, statistics: FlexTensor, gamma: FlexTensor, beta: FlexTensor, options: Options) -> FlexTensor {
        let _timer = profile::timer("batch_norm normalise");
        let (x, statistics) = (FlexImage::new(x), statistics.to_contiguous());
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let affine = Affine::new(flex_values(&statistics), flex_values(&gamma), flex_values(&beta), options.eps);
        FlexImage::tensor(affine.apply(&x, options.relu), x.dims)
    }
}

impl BatchNormGradients for Flex {
    fn gradients(
        dy: FlexTensor,
        x: FlexTensor,
        statistics: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        options: Options,
    ) -> [FlexTensor; 3] {
        let _timer = profile::timer("batch_norm backward");
        let (dy, x) = (FlexImage::new(dy), FlexImage::new(x));
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let affine = Affine::new(flex_values(&statistics), flex_values(&gamma), flex_values(&beta), options.eps);
        let (channels, image) = (x.dims[1], x.len() / x.dims[0]);
        let n = (x.len() / channels) as f32;
        let mut dx = Buffer::new(x.len());
        // dx first holds g.
        let sums: Vec<[Vec<f32>; 2]> = (dx.par_chunks_mut(image), x.values().par_chunks(image), dy.values().par_chunks(image))
            .into_par_iter()
            .map(|(g, x, dy)| vectorised::<MaskedImage, _>((g, x, dy, &affine, options.relu)))
            .collect();
        let total = |i: usize| -> Vec<f32> {
            let sum = |c: usize| sums.iter().map(|s| f64::from(s[i][c])).sum::<f64>() as f32;
            (0..channels).map(sum).collect()
        };
        let (s0, s1) = (total(0), total(1));
        let means = |sums: &[f32]| sums.iter().map(|s| s / n).collect::<Vec<_>>();
        let (m0, m1) = (means(&s0), means(&s1));
        (dx.par_chunks_mut(image), x.values().par_chunks(image))
            .into_par_iter()
            .for_each(|(g, x)| vectorised::<GradientImage, _>((g, x, &m0, &m1, &affine)));
        [
            FlexImage::tensor(dx, x.dims),
            Buffer::copy(&s1).tensor(Shape::new([channels])),
            Buffer::copy(&s0).tensor(Shape::new([channels])),
        ]
    }
}
