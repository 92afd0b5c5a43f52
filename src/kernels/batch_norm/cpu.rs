//! Batch normalisation on the CPU backend, over NHWC memory. One thread computes the sums of an
//! image, and the images' sums are added up in their order, so that the result doesn't depend on
//! the number of threads.

use super::{
    BatchNorm, BatchNormGradients, BatchNormInputs, BatchNormParameters, Statistics, backward_work,
    forward_work,
};
use crate::kernels::buffers::Buffer;
use crate::kernels::layout::{FlexImage, flex_dims, flex_values};
use crate::kernels::math::mul_add;
use crate::kernels::moments::{Sums, TILE, accumulate, not_below_0, pivots};
use crate::kernels::operand::Optional;
use crate::kernels::simd::{LANES, Loop, blocks, load, load_each, store, vectorised, whole};
use crate::kernels::timer::timer;
use burn::tensor::Shape;
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

/// The coefficients of y = relu(a * x + d + residual) for each channel.
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

    fn apply(&self, x: &FlexImage, residual: Option<&FlexImage>, relu: bool) -> Buffer {
        let image = x.len() / x.dims[0];
        let mut y = Buffer::new(x.len());
        let residual = |i: usize| residual.map(|r| &r.values()[i * image..][..image]);
        (y.par_chunks_mut(image), x.values().par_chunks(image))
            .into_par_iter()
            .enumerate()
            .for_each(|(i, (y, x))| vectorised::<ApplyImage, _>((x, residual(i), y, self, relu)));
        y
    }
}

struct ApplyImage;

type ApplyArguments<'a> = (&'a [f32], Option<&'a [f32]>, &'a mut [f32], &'a Affine, bool);

impl<'a> Loop<ApplyArguments<'a>> for ApplyImage {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(arguments: ApplyArguments<'a>) {
        if whole(arguments.3.a.len()) {
            Self::blocks::<FMA, true>(arguments);
        } else {
            Self::blocks::<FMA, false>(arguments);
        }
    }
}

impl ApplyImage {
    #[inline(always)]
    fn blocks<const FMA: bool, const WHOLE: bool>((x, residual, y, affine, relu): ApplyArguments) {
        let channels = affine.a.len();
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        for (pixel, (y, x)) in
            y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)).enumerate()
        {
            for (first, count) in blocks::<WHOLE>(channels) {
                let (a, mut d) = (load(&affine.a[first..], count), load(&affine.d[first..], count));
                if let Some(residual) = residual {
                    let r = load(&residual[pixel * channels + first..], count);
                    for i in 0..LANES {
                        d[i] += r[i];
                    }
                }
                let mut lanes = load(&x[first..], count);
                for i in 0..LANES {
                    let u = mul_add::<FMA>(a[i], lanes[i], d[i]);
                    // NaN stays NaN.
                    lanes[i] = if u < floor { floor } else { u };
                }
                store(&mut y[first..], count, &lanes);
            }
        }
    }
}

/// Returns the mean, then the biased variance of each channel over batch and pixels.
fn batch_statistics(x: &FlexImage) -> Vec<f32> {
    let (channels, image) = (x.dims[1], x.len() / x.dims[0]);
    let n = (x.len() / channels) as f64;
    let pivot = pivots(x.values(), channels);
    let images: Vec<_> =
        x.values().par_chunks(image).map(|x| vectorised::<Sums, _>((x, &pivot))).collect();
    let total = |i: usize, c: usize| images.iter().map(|s| f64::from(s[i][c])).sum::<f64>() / n;
    let mean = (0..channels).map(|c| (f64::from(pivot[c]) + total(0, c)) as f32);
    let variance = (0..channels).map(|c| not_below_0(total(1, c) - total(0, c).powi(2)) as f32);
    mean.chain(variance).collect()
}

/// Where the ReLU passes a gradient.
#[derive(Clone, Copy)]
enum Mask<'a> {
    /// Everywhere: there is no ReLU.
    All,
    /// Where a * x + d is above 0.
    Input,
    /// Where the result is above 0.
    Result(&'a [f32]),
}

/// The first step of the backward pass of one image: g = dy where the ReLU passes it, else 0.
/// Returns the sums of g and g * xhat.
struct MaskedImage;

type MaskedArguments<'a> = (&'a mut [f32], &'a [f32], &'a [f32], &'a Affine, Mask<'a>);

impl<'a> Loop<MaskedArguments<'a>> for MaskedImage {
    type Output = [Vec<f32>; 2];

    #[inline(always)]
    fn run<const FMA: bool>(arguments: MaskedArguments<'a>) -> [Vec<f32>; 2] {
        if whole(arguments.3.a.len()) {
            Self::blocks::<FMA, true>(arguments)
        } else {
            Self::blocks::<FMA, false>(arguments)
        }
    }
}

impl MaskedImage {
    #[inline(always)]
    fn blocks<const FMA: bool, const WHOLE: bool>(
        (g, x, dy, affine, mask): MaskedArguments,
    ) -> [Vec<f32>; 2] {
        let channels = affine.a.len();
        let size = TILE * channels;
        let (mut sums, mut products) = (vec![0.0f32; channels], vec![0.0f32; channels]);
        for (tile, ((g, x), dy)) in
            g.chunks_mut(size).zip(x.chunks(size)).zip(dy.chunks(size)).enumerate()
        {
            for (first, count) in blocks::<WHOLE>(channels) {
                let coefficients = [&affine.a[..], &affine.d, &affine.mean, &affine.rstd];
                let [a, d, mean, rstd] = load_each(coefficients, first, count);
                let (mut s0, mut s1) = ([0.0; LANES], [0.0; LANES]);
                let rows = g
                    .chunks_exact_mut(channels)
                    .zip(x.chunks_exact(channels))
                    .zip(dy.chunks_exact(channels));
                for (pixel, ((g, x), dy)) in rows.enumerate() {
                    let (x, mut lanes) = (load(&x[first..], count), load(&dy[first..], count));
                    let mut argument = [1.0; LANES];
                    match mask {
                        Mask::All => {}
                        Mask::Input => {
                            for i in 0..LANES {
                                argument[i] = mul_add::<FMA>(a[i], x[i], d[i]);
                            }
                        }
                        Mask::Result(y) => {
                            argument = load(&y[tile * size + pixel * channels + first..], count)
                        }
                    }
                    for i in 0..LANES {
                        lanes[i] = if argument[i] > 0.0 { lanes[i] } else { 0.0 };
                        s0[i] += lanes[i];
                        s1[i] = mul_add::<FMA>(lanes[i], (x[i] - mean[i]) * rstd[i], s1[i]);
                    }
                    store(&mut g[first..], count, &lanes);
                }
                accumulate(&mut sums[first..], count, &s0);
                accumulate(&mut products[first..], count, &s1);
            }
        }
        [sums, products]
    }
}

/// The second step of the backward pass of one image: dx from g. `m0` and `m1` are the means of g
/// and g * xhat.
struct GradientImage;

type GradientArguments<'a> = (&'a mut [f32], &'a [f32], &'a [f32], [&'a [f32]; 2], &'a Affine);

impl<'a> Loop<GradientArguments<'a>> for GradientImage {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(arguments: GradientArguments<'a>) {
        if whole(arguments.4.a.len()) {
            Self::blocks::<FMA, true>(arguments);
        } else {
            Self::blocks::<FMA, false>(arguments);
        }
    }
}

impl GradientImage {
    #[inline(always)]
    fn blocks<const FMA: bool, const WHOLE: bool>((dx, g, x, [m0, m1], affine): GradientArguments) {
        let channels = affine.a.len();
        for ((dx, g), x) in dx
            .chunks_exact_mut(channels)
            .zip(g.chunks_exact(channels))
            .zip(x.chunks_exact(channels))
        {
            for (first, count) in blocks::<WHOLE>(channels) {
                let coefficients = [&affine.a[..], &affine.mean, &affine.rstd, m0, m1];
                let [a, mean, rstd, m0, m1] = load_each(coefficients, first, count);
                let (mut lanes, x) = (load(&g[first..], count), load(&x[first..], count));
                for i in 0..LANES {
                    let xhat = (x[i] - mean[i]) * rstd[i];
                    lanes[i] = a[i] * mul_add::<FMA>(-xhat, m1[i], lanes[i] - m0[i]);
                }
                store(&mut dx[first..], count, &lanes);
            }
        }
    }
}

impl BatchNorm for Flex {
    fn forward(inputs: BatchNormInputs<Self>) -> (FlexTensor, FlexTensor) {
        let BatchNormInputs {
            x,
            residual,
            parameters: BatchNormParameters { statistics, gamma, beta, options },
        } = inputs;
        let name = match statistics {
            Statistics::OfBatch => "batch_norm forward",
            Statistics::Given(_) => "batch_norm normalise",
        };
        let _timer = timer(name, || forward_work(flex_dims(&x)));
        let (x, residual) = (FlexImage::new(x), residual.into_option().map(FlexImage::new));
        let statistics = match statistics {
            Statistics::OfBatch => {
                let statistics = batch_statistics(&x);
                Buffer::copy(&statistics).tensor(Shape::new([statistics.len()]))
            }
            Statistics::Given(statistics) => statistics.to_contiguous(),
        };
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let affine = Affine::new(
            flex_values(&statistics),
            flex_values(&gamma),
            flex_values(&beta),
            options.eps,
        );
        let y = affine.apply(&x, residual.as_ref(), options.relu);
        (FlexImage::tensor(y, x.dims), statistics)
    }

    fn backward(
        dy: FlexTensor,
        x: FlexTensor,
        y: Optional<Self>,
        statistics: FlexTensor,
        parameters: BatchNormParameters<Self>,
    ) -> BatchNormGradients<Self> {
        let BatchNormParameters { gamma, beta, options, .. } = parameters;
        let _timer = timer("batch_norm backward", || backward_work(flex_dims(&x)));
        let (dy, x, y) =
            (FlexImage::new(dy), FlexImage::new(x), y.into_option().map(FlexImage::new));
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let affine = Affine::new(
            flex_values(&statistics),
            flex_values(&gamma),
            flex_values(&beta),
            options.eps,
        );
        let (channels, image) = (x.dims[1], x.len() / x.dims[0]);
        let n = (x.len() / channels) as f32;
        let mask = |i: usize| match &y {
            _ if !options.relu => Mask::All,
            None => Mask::Input,
            Some(y) => Mask::Result(&y.values()[i * image..][..image]),
        };
        let mut g = Buffer::new(x.len());
        let sums: Vec<[Vec<f32>; 2]> =
            (g.par_chunks_mut(image), x.values().par_chunks(image), dy.values().par_chunks(image))
                .into_par_iter()
                .enumerate()
                .map(|(i, (g, x, dy))| vectorised::<MaskedImage, _>((g, x, dy, &affine, mask(i))))
                .collect();
        let total = |i: usize| -> Vec<f32> {
            let sum = |c: usize| sums.iter().map(|s| f64::from(s[i][c])).sum::<f64>() as f32;
            (0..channels).map(sum).collect()
        };
        let (s0, s1) = (total(0), total(1));
        let means = [&s0, &s1].map(|sums| sums.iter().map(|s| s / n).collect::<Vec<_>>());
        let mut dx = Buffer::new(x.len());
        (dx.par_chunks_mut(image), g.par_chunks(image), x.values().par_chunks(image))
            .into_par_iter()
            .for_each(|(dx, g, x)| {
                vectorised::<GradientImage, _>((
                    dx,
                    g,
                    x,
                    means.each_ref().map(Vec::as_slice),
                    &affine,
                ))
            });
        BatchNormGradients {
            x: FlexImage::tensor(dx, x.dims),
            residual: Optional::new(y.map(|_| FlexImage::tensor(g, x.dims))),
            gamma: Buffer::copy(&s1).tensor(Shape::new([channels])),
            beta: Buffer::copy(&s0).tensor(Shape::new([channels])),
        }
    }
}
