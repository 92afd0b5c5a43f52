//! Fused AdaGN on Burn's CPU backend, over NHWC memory. One thread processes an image while it is
//! in cache, with the channels along the vector lanes, so the result doesn't depend on the number
//! of threads.

use super::{
    Activation, AdaGn, AdaGnGradients, AdaGnInputs, AdaGnOptions, AdaGnParameters, Dropout,
    Modulation, backward_work, forward_work,
};
use crate::kernels::buffers::Buffer;
use crate::kernels::layout::{FlexImage, flex_dims, flex_values};
use crate::kernels::math;
use crate::kernels::moments::{self, TILE, accumulate, group_means};
use crate::kernels::simd::{LANES, Lanes, Loop, blocks, load, load_each, store, vectorised, whole};
use crate::kernels::timer::timer;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

/// The operands that give (A, D) of an image `b` and a channel `c`, where u = A * xhat + D.
struct Affine<'a> {
    channels: usize,
    /// t and z.
    modulation: Option<[&'a [f32]; 2]>,
    gamma: &'a [f32],
    beta: &'a [f32],
}

impl Affine<'_> {
    fn at(&self, b: usize, c: usize) -> (f32, f32) {
        let (mut scale, mut shift) = (self.gamma[c], self.beta[c]);
        if let Some(modulation) = self.modulation {
            let at = b * 2 * self.channels + c;
            for part in modulation {
                scale *= part[at];
                shift = part[at] * shift + part[at + self.channels];
            }
        }
        (scale, shift)
    }
}

/// Returns the columns A, D, mean and rstd of the saved `[C, 4]`, each of length C; u = A * xhat +
/// D and xhat = (h - mean) * rstd.
fn columns(saved: &[f32]) -> [Vec<f32>; 4] {
    [0, 1, 2, 3].map(|i| saved.iter().skip(i).step_by(4).copied().collect())
}

/// Returns the mean and 1 / sqrt(var + eps) of each group of one image `[pixels, channels]`.
#[inline(always)]
fn statistics(x: &[f32], channels: usize, options: &AdaGnOptions) -> Vec<[f32; 2]> {
    let pivot = moments::pivots(x, channels);
    let [sums, squares] = moments::sums(x, &pivot);
    let (n, size) = ((x.len() / channels) as f64, channels / options.groups);
    let mean = |c: usize| f64::from(pivot[c]) + f64::from(sums[c]) / n;
    let group = |first: usize| {
        let group = first..first + size;
        let group_mean = group.clone().map(mean).sum::<f64>() / size as f64;
        let spread = group.map(|c| {
            let within = f64::from(squares[c]) - f64::from(sums[c]).powi(2) / n;
            moments::not_below_0(within) + n * (mean(c) - group_mean).powi(2)
        });
        let variance = spread.sum::<f64>() / (n * size as f64);
        [group_mean as f32, (1.0 / (variance + f64::from(options.eps)).sqrt()) as f32]
    };
    (0..channels).step_by(size).map(group).collect()
}

/// Returns the factors by which dropout multiplies element `first` and those after it.
#[inline(always)]
fn dropout_factors(dropout: &Dropout, first: usize) -> Lanes {
    let (threshold, scale) = (dropout.threshold(), 1.0 / (1.0 - dropout.p));
    let mut factors = [0.0; LANES];
    for (i, factor) in factors.iter_mut().enumerate() {
        *factor =
            if math::hash(dropout.key, first as u32 + i as u32) >= threshold { scale } else { 0.0 };
    }
    factors
}

/// The forward pass of one image: (x, out, saved, image index, affine, options).
struct ForwardImage;

type ForwardArguments<'a> =
    (&'a [f32], &'a mut [f32], &'a mut [f32], usize, &'a Affine<'a>, &'a AdaGnOptions);

impl<'a> Loop<ForwardArguments<'a>> for ForwardImage {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>((x, out, saved, b, affine, options): ForwardArguments<'a>) {
        let (size, whole) = (affine.channels / options.groups, whole(affine.channels));
        let statistics = statistics(x, affine.channels, options);
        for (c, saved) in saved.chunks_exact_mut(4).enumerate() {
            let ((a, d), [mean, rstd]) = (affine.at(b, c), statistics[c / size]);
            saved.copy_from_slice(&[a, d, mean, rstd]);
        }
        let first = b * x.len();
        let dropout = options.dropout.as_ref();
        // Without dropout and over whole blocks, the loops hold no branches.
        match (options.activation, whole && dropout.is_none()) {
            (Activation::None, true) => apply::<FMA, false, true>(x, out, saved, None, first),
            (Activation::Silu, true) => apply::<FMA, true, true>(x, out, saved, None, first),
            (Activation::None, false) => apply::<FMA, false, false>(x, out, saved, dropout, first),
            (Activation::Silu, false) => apply::<FMA, true, false>(x, out, saved, dropout, first),
        }
    }
}

/// Computes out = dropout(activation(A * xhat + D)) of one image, whose elements are counted in
/// NHWC order from `first_element`.
#[inline(always)]
fn apply<const FMA: bool, const SILU: bool, const WHOLE: bool>(
    x: &[f32],
    out: &mut [f32],
    saved: &[f32],
    dropout: Option<&Dropout>,
    first_element: usize,
) {
    let channels = saved.len() / 4;
    let coefficients = columns(saved);
    let coefficients = coefficients.each_ref().map(Vec::as_slice);
    for (tile, (out, x)) in
        out.chunks_mut(TILE * channels).zip(x.chunks(TILE * channels)).enumerate()
    {
        for (first, count) in blocks::<WHOLE>(channels) {
            let [a, d, mean, rstd] = load_each(coefficients, first, count);
            let mut element = first_element + tile * TILE * channels + first;
            for (out, x) in out.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                let mut u = load(&x[first..], count);
                for i in 0..LANES {
                    u[i] = math::mul_add::<FMA>(a[i], (u[i] - mean[i]) * rstd[i], d[i]);
                }
                if SILU {
                    for u in &mut u {
                        *u *= math::sigmoid::<FMA>(*u);
                    }
                }
                if let Some(dropout) = dropout {
                    let factors = dropout_factors(dropout, element);
                    for i in 0..LANES {
                        u[i] *= factors[i];
                    }
                    element += channels;
                }
                store(&mut out[first..], count, &u);
            }
        }
    }
}

/// The backward pass of one image: (x, dy, dh, sums, saved, image index, options).
struct BackwardImage;

type BackwardArguments<'a> =
    (&'a [f32], &'a [f32], &'a mut [f32], &'a mut [f32], &'a [f32], usize, &'a AdaGnOptions);

impl<'a> Loop<BackwardArguments<'a>> for BackwardImage {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>((x, dy, dh, sums, saved, b, options): BackwardArguments<'a>) {
        let channels = saved.len() / 4;
        let (size, pixels) = (channels / options.groups, x.len() / channels);
        let first = b * x.len();
        // dh first holds g, the gradient of the activation's argument.
        let (whole, dropout) = (whole(channels), options.dropout.as_ref());
        let [s0, s1] = match (options.activation, whole && dropout.is_none()) {
            (Activation::None, true) => {
                activation_gradient::<FMA, false, true>(x, dy, dh, saved, None, first)
            }
            (Activation::Silu, true) => {
                activation_gradient::<FMA, true, true>(x, dy, dh, saved, None, first)
            }
            (Activation::None, false) => {
                activation_gradient::<FMA, false, false>(x, dy, dh, saved, dropout, first)
            }
            (Activation::Silu, false) => {
                activation_gradient::<FMA, true, false>(x, dy, dh, saved, dropout, first)
            }
        };
        for (c, sums) in sums.chunks_exact_mut(2).enumerate() {
            sums.copy_from_slice(&[s0[c], s1[c]]);
        }
        let [a, _, mean, rstd] = columns(saved);
        let weighted = |s: &[f32]| s.iter().zip(&a).map(|(s, a)| s * a).collect::<Vec<_>>();
        let (mut m0, mut m1) = (weighted(&s0), weighted(&s1));
        group_means(&mut m0, size, size * pixels);
        group_means(&mut m1, size, size * pixels);
        let coefficients = [&a, &mean, &rstd, &m0, &m1].map(Vec::as_slice);
        if whole {
            input_gradient::<FMA, true>(dh, x, coefficients);
        } else {
            input_gradient::<FMA, false>(dh, x, coefficients);
        }
    }
}

/// Replaces g in `dh` by dh = rstd * (A * g - m0 - xhat * m1), for one image.
#[inline(always)]
fn input_gradient<const FMA: bool, const WHOLE: bool>(
    dh: &mut [f32],
    x: &[f32],
    coefficients: [&[f32]; 5],
) {
    let channels = coefficients[0].len();
    for (g, x) in dh.chunks_mut(TILE * channels).zip(x.chunks(TILE * channels)) {
        for (first, count) in blocks::<WHOLE>(channels) {
            let [a, mean, rstd, m0, m1] = load_each(coefficients, first, count);
            let (mut of_g, mut of_x, mut constant) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
            for i in 0..LANES {
                of_g[i] = rstd[i] * a[i];
                of_x[i] = -rstd[i] * rstd[i] * m1[i];
                constant[i] = -rstd[i] * m0[i];
            }
            for (g, x) in g.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                let (mut lanes, x) = (load(&g[first..], count), load(&x[first..], count));
                for i in 0..LANES {
                    let rest = math::mul_add::<FMA>(of_x[i], x[i] - mean[i], constant[i]);
                    lanes[i] = math::mul_add::<FMA>(of_g[i], lanes[i], rest);
                }
                store(&mut g[first..], count, &lanes);
            }
        }
    }
}

/// Writes g, the gradient of u = A * xhat + D. Returns the sums S0 = sum g and S1 = sum g * xhat
/// over the pixels of one image.
#[inline(always)]
fn activation_gradient<const FMA: bool, const SILU: bool, const WHOLE: bool>(
    x: &[f32],
    dy: &[f32],
    g: &mut [f32],
    saved: &[f32],
    dropout: Option<&Dropout>,
    first_element: usize,
) -> [Vec<f32>; 2] {
    let channels = saved.len() / 4;
    let coefficients = columns(saved);
    let coefficients = coefficients.each_ref().map(Vec::as_slice);
    let (mut sums, mut products) = (vec![0.0f32; channels], vec![0.0f32; channels]);
    let size = TILE * channels;
    for (tile, ((g, dy), x)) in
        g.chunks_mut(size).zip(dy.chunks(size)).zip(x.chunks(size)).enumerate()
    {
        for (first, count) in blocks::<WHOLE>(channels) {
            let [a, d, mean, rstd] = load_each(coefficients, first, count);
            let mut element = first_element + tile * size + first;
            let (mut s0, mut s1) = ([0.0; LANES], [0.0; LANES]);
            let rows = g
                .chunks_exact_mut(channels)
                .zip(dy.chunks_exact(channels))
                .zip(x.chunks_exact(channels));
            for ((g, dy), x) in rows {
                let (mut lanes, mut xhat) = (load(&dy[first..], count), load(&x[first..], count));
                if let Some(dropout) = dropout {
                    let factors = dropout_factors(dropout, element);
                    for i in 0..LANES {
                        lanes[i] *= factors[i];
                    }
                    element += channels;
                }
                for i in 0..LANES {
                    xhat[i] = (xhat[i] - mean[i]) * rstd[i];
                    if SILU {
                        let u = math::mul_add::<FMA>(a[i], xhat[i], d[i]);
                        let sigma = math::sigmoid::<FMA>(u);
                        lanes[i] *= sigma * math::mul_add::<FMA>(u, 1.0 - sigma, 1.0);
                    }
                    s0[i] += lanes[i];
                    s1[i] = math::mul_add::<FMA>(lanes[i], xhat[i], s1[i]);
                }
                store(&mut g[first..], count, &lanes);
            }
            accumulate(&mut sums[first..], count, &s0);
            accumulate(&mut products[first..], count, &s1);
        }
    }
    [sums, products]
}

/// Makes each tensor contiguous.
fn contiguous(parameters: AdaGnParameters<Flex>) -> AdaGnParameters<Flex> {
    parameters.map(|tensor| tensor.to_contiguous())
}

/// Returns the values of t and z, if they modulate.
fn values(modulation: &Modulation<Flex>) -> Option<[&[f32]; 2]> {
    match modulation {
        Modulation::Absent => None,
        Modulation::By { t, z } => Some([flex_values(t), flex_values(z)]),
    }
}

impl AdaGn for Flex {
    /// Returns the result, and for the backward pass A, D, mean and 1 / sqrt(var + eps) of each
    /// image's channels, `[B, C, 4]`.
    fn forward(inputs: AdaGnInputs<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let _timer = timer("ada_gn forward", || forward_work(flex_dims(&inputs.h)));
        let (h, parameters) = (FlexImage::new(inputs.h), contiguous(inputs.parameters));
        let [batch, channels, ..] = h.dims;
        let image = h.len() / batch;
        let options = &parameters.options;
        let affine = Affine {
            channels,
            modulation: values(&parameters.modulation),
            gamma: flex_values(&parameters.gamma),
            beta: flex_values(&parameters.beta),
        };
        let mut out = Buffer::new(h.len());
        let mut saved = Buffer::new(batch * channels * 4);
        (
            out.par_chunks_mut(image),
            saved.par_chunks_mut(channels * 4),
            h.values().par_chunks(image),
        )
            .into_par_iter()
            .enumerate()
            .for_each(|(b, (out, saved, x))| {
                vectorised::<ForwardImage, _>((x, out, saved, b, &affine, options))
            });
        (FlexImage::tensor(out, h.dims), saved.tensor(Shape::new([batch, channels, 4])))
    }

    fn backward(
        d_out: FloatTensor<Self>,
        saved: FloatTensor<Self>,
        inputs: AdaGnInputs<Self>,
    ) -> AdaGnGradients<Self> {
        let _timer = timer("ada_gn backward", || backward_work(flex_dims(&inputs.h)));
        let (d_out, h) = (FlexImage::new(d_out), FlexImage::new(inputs.h));
        let options = &inputs.parameters.options;
        let [batch, channels, ..] = h.dims;
        let image = h.len() / batch;
        let mut dh = Buffer::new(h.len());
        let mut sums = Buffer::new(batch * channels * 2);
        (
            dh.par_chunks_mut(image),
            sums.par_chunks_mut(channels * 2),
            h.values().par_chunks(image),
            d_out.values().par_chunks(image),
            flex_values(&saved).par_chunks(channels * 4),
        )
            .into_par_iter()
            .enumerate()
            .for_each(|(b, (dh, sums, x, dy, saved))| {
                vectorised::<BackwardImage, _>((x, dy, dh, sums, saved, b, options))
            });
        gradients(FlexImage::tensor(dh, h.dims), &sums, contiguous(inputs.parameters))
    }
}

/// Computes the gradients of the small operands from the sums (S0, S1), `[B, C, 2]`, and returns
/// them with `h`, the gradient of the feature map. The formulas are in
/// shaders/ada_gn_parameters.wgsl.
fn gradients(
    h: FlexTensor,
    sums: &[f32],
    parameters: AdaGnParameters<Flex>,
) -> AdaGnGradients<Flex> {
    let (gamma, beta) = (flex_values(&parameters.gamma), flex_values(&parameters.beta));
    let modulation = values(&parameters.modulation);
    let channels = gamma.len();
    let batch = sums.len() / (2 * channels);
    let (mut d_gamma, mut d_beta) = (Buffer::zeros(channels), Buffer::zeros(channels));
    let mut d_mod =
        modulation.map(|_| [Buffer::new(batch * 2 * channels), Buffer::new(batch * 2 * channels)]);
    for b in 0..batch {
        for c in 0..channels {
            let (s0, s1) = (sums[(b * channels + c) * 2], sums[(b * channels + c) * 2 + 1]);
            let mut scale = 1.0;
            if let (Some([t, z]), Some([dt, dz])) = (modulation, &mut d_mod) {
                let at = b * 2 * channels + c;
                let v = gamma[c] * s1 + beta[c] * s0;
                dt[at] = z[at] * v;
                dt[at + channels] = z[at] * s0;
                dz[at] = t[at] * v + t[at + channels] * s0;
                dz[at + channels] = s0;
                scale = z[at] * t[at];
            }
            d_gamma[c] += scale * s1;
            d_beta[c] += scale * s0;
        }
    }
    let pair = |values: Buffer| values.tensor(Shape::new([batch, 2 * channels]));
    AdaGnGradients {
        h,
        modulation: d_mod
            .map_or(Modulation::Absent, |[t, z]| Modulation::By { t: pair(t), z: pair(z) }),
        gamma: d_gamma.tensor(Shape::new([channels])),
        beta: d_beta.tensor(Shape::new([channels])),
    }
}
