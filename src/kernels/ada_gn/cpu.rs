//! Fused AdaGN on Burn's CPU backend, on NHWC memory: each image is worked on by one thread while it is in cache, channels
//! along the vector lanes, so the result doesn't depend on the number of threads.

use super::{Activation, AdaGnGrads, AdaGnKernels, AdaGnOptions, Modulation};
use crate::kernels::buffers::Buffer;
use crate::kernels::layout::{FlexImage, flex_values};
use crate::kernels::math;
use crate::kernels::profile;
use crate::kernels::simd::{LANES, Loop, blocks, load, store, vectorised};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

/// (A, D) with u = A * xhat + D, for image `b` and channel `c`.
struct Affine<'a> {
    channels: usize,
    modulation: Option<Modulation<&'a [f32]>>,
    gamma: &'a [f32],
    beta: &'a [f32],
}

impl Affine<'_> {
    fn at(&self, b: usize, c: usize) -> (f32, f32) {
        let (mut scale, mut shift) = (self.gamma[c], self.beta[c]);
        if let Some(m) = &self.modulation {
            let at = b * 2 * self.channels + c;
            for part in [m.t, m.z] {
                scale *= part[at];
                shift = part[at] * shift + part[at + self.channels];
            }
        }
        (scale, shift)
    }
}

/// Columns of the saved `[C, 4]`, each of length C: u = A * xhat + D, xhat = (h - mean) * rstd.
fn columns(saved: &[f32]) -> [Vec<f32>; 4] {
    [0, 1, 2, 3].map(|i| saved.iter().skip(i).step_by(4).copied().collect())
}

/// Sums over each group of `size` channels divided by `n`, spread back to its channels.
fn group_means(sums: &mut [f32], size: usize, n: usize) {
    for group in sums.chunks_mut(size) {
        let mean = (group.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64) as f32;
        group.fill(mean);
    }
}

/// Pixels summed in f32 before they are added to the total, so that rounding errors don't add up.
const BLOCK: usize = 64;

/// Sums over the pixels of (x - centre) for each channel, or of its square.
#[inline(always)]
fn channel_sums(x: &[f32], centre: &[f32], squared: bool) -> Vec<f32> {
    let channels = centre.len();
    let mut totals = vec![0.0f32; channels];
    for (first, count) in blocks(channels) {
        let centre = load(&centre[first..], count);
        let mut total = [0.0; LANES];
        for rows in x.chunks(BLOCK * channels) {
            let mut sum = [0.0; LANES];
            for row in rows.chunks_exact(channels) {
                let x = load(&row[first..], count);
                for i in 0..LANES {
                    let d = x[i] - centre[i];
                    sum[i] += if squared { d * d } else { d };
                }
            }
            for i in 0..LANES {
                total[i] += sum[i];
            }
        }
        store(&mut totals[first..], count, &total);
    }
    totals
}

/// Dropout of one image; elements are counted in NHWC order from `first`.
#[inline(always)]
fn drop(image: &mut [f32], options: &AdaGnOptions, first: usize) {
    let Some(dropout) = options.dropout else { return };
    let (threshold, scale) = (dropout.threshold(), 1.0 / (1.0 - dropout.p));
    for (i, value) in image.iter_mut().enumerate() {
        let kept = math::hash(dropout.key, first as u32 + i as u32) >= threshold;
        *value = if kept { *value * scale } else { 0.0 };
    }
}

/// One image of the forward pass: (x, out, saved, image number).
struct ForwardImage;

impl<'a> Loop<(&'a [f32], &'a mut [f32], &'a mut [f32], usize, &'a Affine<'a>, &'a AdaGnOptions)> for ForwardImage {
    type Output = ();

    #[inline(always)]
    fn run(
        (x, out, saved, b, affine, options): (&'a [f32], &'a mut [f32], &'a mut [f32], usize, &'a Affine<'a>, &'a AdaGnOptions),
    ) {
        let channels = affine.channels;
        let (size, pixels) = (channels / options.groups, x.len() / channels);
        let mut means = channel_sums(x, &vec![0.0; channels], false);
        group_means(&mut means, size, size * pixels);
        let mut variances = channel_sums(x, &means, true);
        group_means(&mut variances, size, size * pixels);
        for c in 0..channels {
            let (a, d) = affine.at(b, c);
            saved[c * 4..c * 4 + 4].copy_from_slice(&[a, d, means[c], 1.0 / (variances[c] + options.eps).sqrt()]);
        }
        let coefficients = columns(saved);
        let silu = options.activation == Activation::Silu;
        for (first, count) in blocks(channels) {
            let [a, d, mean, rstd] = [0, 1, 2, 3].map(|i| load(&coefficients[i][first..], count));
            for (out, x) in out.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                let mut u = load(&x[first..], count);
                for i in 0..LANES {
                    u[i] = a[i] * ((u[i] - mean[i]) * rstd[i]) + d[i];
                }
                if silu {
                    for u in &mut u {
                        *u *= math::sigmoid(*u);
                    }
                }
                store(&mut out[first..], count, &u);
            }
        }
        drop(out, options, b * x.len());
    }
}

/// One image of the backward pass: (x, dy, dh, sums, saved, image number).
struct BackwardImage;

impl<'a> Loop<(&'a [f32], &'a [f32], &'a mut [f32], &'a mut [f32], &'a [f32], usize, &'a AdaGnOptions)> for BackwardImage {
    type Output = ();

    #[inline(always)]
    fn run(
        (x, dy, dh, sums, saved, b, options): (
            &'a [f32],
            &'a [f32],
            &'a mut [f32],
            &'a mut [f32],
            &'a [f32],
            usize,
            &'a AdaGnOptions,
        ),
    ) {
        let channels = sums.len() / 2;
        let (size, pixels) = (channels / options.groups, x.len() / channels);
        let coefficients = columns(saved);
        let at = |first: usize, count| [0, 1, 2, 3].map(|i| load(&coefficients[i][first..], count));
        // dh first holds g, the gradient of the activation's argument.
        dh.copy_from_slice(dy);
        drop(dh, options, b * x.len());
        let silu = options.activation == Activation::Silu;
        let (mut m0, mut m1) = (vec![0.0f32; channels], vec![0.0f32; channels]);
        for (first, count) in blocks(channels) {
            let [a, d, mean, rstd] = at(first, count);
            let (mut s0, mut s1) = ([0.0; LANES], [0.0; LANES]);
            for (g, x) in dh.chunks_mut(BLOCK * channels).zip(x.chunks(BLOCK * channels)) {
                let (mut b0, mut b1) = ([0.0; LANES], [0.0; LANES]);
                for (g, x) in g.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                    let (mut lanes, mut xhat) = (load(&g[first..], count), load(&x[first..], count));
                    for i in 0..LANES {
                        xhat[i] = (xhat[i] - mean[i]) * rstd[i];
                    }
                    if silu {
                        for i in 0..LANES {
                            let u = a[i] * xhat[i] + d[i];
                            let sigma = math::sigmoid(u);
                            lanes[i] *= sigma * (1.0 + u * (1.0 - sigma));
                        }
                        store(&mut g[first..], count, &lanes);
                    }
                    for i in 0..LANES {
                        b0[i] += lanes[i];
                        b1[i] += lanes[i] * xhat[i];
                    }
                }
                for i in 0..LANES {
                    s0[i] += b0[i];
                    s1[i] += b1[i];
                }
            }
            for i in 0..count {
                let c = first + i;
                sums[2 * c] = s0[i];
                sums[2 * c + 1] = s1[i];
                m0[c] = a[i] * s0[i];
                m1[c] = a[i] * s1[i];
            }
        }
        group_means(&mut m0, size, size * pixels);
        group_means(&mut m1, size, size * pixels);
        for (first, count) in blocks(channels) {
            let [a, _, mean, rstd] = at(first, count);
            let (m0, m1) = (load(&m0[first..], count), load(&m1[first..], count));
            for (g, x) in dh.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                let (mut lanes, x) = (load(&g[first..], count), load(&x[first..], count));
                for i in 0..LANES {
                    let xhat = (x[i] - mean[i]) * rstd[i];
                    lanes[i] = rstd[i] * (a[i] * lanes[i] - m0[i] - xhat * m1[i]);
                }
                store(&mut g[first..], count, &lanes);
            }
        }
    }
}

impl AdaGnKernels for Flex {
    fn forward(
        h: FloatTensor<Self>,
        modulation: Option<Modulation<FloatTensor<Self>>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let _timer = profile::timer("ada_gn forward");
        let h = FlexImage::new(h);
        let [batch, channels, ..] = h.dims;
        let image = h.len() / batch;
        let modulation = modulation.map(|m| Modulation { t: m.t.to_contiguous(), z: m.z.to_contiguous() });
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let affine = Affine {
            channels,
            modulation: modulation.as_ref().map(|m| Modulation { t: flex_values(&m.t), z: flex_values(&m.z) }),
            gamma: flex_values(&gamma),
            beta: flex_values(&beta),
        };
        let mut out = Buffer::new(h.len());
        let mut saved = Buffer::new(batch * channels * 4);
        (out.par_chunks_mut(image), saved.par_chunks_mut(channels * 4), h.values().par_chunks(image))
            .into_par_iter()
            .enumerate()
            .for_each(|(b, (out, saved, x))| vectorised::<ForwardImage, _>((x, out, saved, b, &affine, &options)));
        (FlexImage::tensor(out, h.dims), saved.tensor(Shape::new([batch, channels, 4])))
    }

    fn backward(
        d_out: FloatTensor<Self>,
        h: FloatTensor<Self>,
        saved: FloatTensor<Self>,
        modulation: Option<Modulation<FloatTensor<Self>>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> AdaGnGrads<FloatTensor<Self>> {
        let _timer = profile::timer("ada_gn backward");
        let (d_out, h) = (FlexImage::new(d_out), FlexImage::new(h));
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
            .for_each(|(b, (dh, sums, x, dy, saved))| vectorised::<BackwardImage, _>((x, dy, dh, sums, saved, b, &options)));
        gradients(FlexImage::tensor(dh, h.dims), &sums, modulation, gamma, beta)
    }
}

/// `h` and everything small from the sums (S0, S1), `[B, C, 2]`; the formulas stand in shaders/ada_gn_parameters.wgsl.
fn gradients(
    h: FlexTensor,
    sums: &[f32],
    modulation: Option<Modulation<FlexTensor>>,
    gamma: FlexTensor,
    beta: FlexTensor,
) -> AdaGnGrads<FlexTensor> {
    let modulation = modulation.map(|m| Modulation { t: m.t.to_contiguous(), z: m.z.to_contiguous() });
    let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
    let (gamma, beta) = (flex_values(&gamma), flex_values(&beta));
    let channels = gamma.len();
    let batch = sums.len() / (2 * channels);
    let (mut d_gamma, mut d_beta) = (Buffer::zeros(channels), Buffer::zeros(channels));
    let mut d_mod =
        modulation.as_ref().map(|_| Modulation { t: Buffer::new(batch * 2 * channels), z: Buffer::new(batch * 2 * channels) });
    for b in 0..batch {
        for c in 0..channels {
            let (s0, s1) = (sums[(b * channels + c) * 2], sums[(b * channels + c) * 2 + 1]);
            let mut scale = 1.0;
            if let (Some(m), Some(out)) = (&modulation, &mut d_mod) {
                let (t, z) = (flex_values(&m.t), flex_values(&m.z));
                let at = b * 2 * channels + c;
                let v = gamma[c] * s1 + beta[c] * s0;
                out.t[at] = z[at] * v;
                out.t[at + channels] = z[at] * s0;
                out.z[at] = t[at] * v + t[at + channels] * s0;
                out.z[at + channels] = s0;
                scale = z[at] * t[at];
            }
            d_gamma[c] += scale * s1;
            d_beta[c] += scale * s0;
        }
    }
    let pair = |values: Buffer| values.tensor(Shape::new([batch, 2 * channels]));
    AdaGnGrads {
        h,
        modulation: d_mod.map(|m| Modulation { t: pair(m.t), z: pair(m.z) }),
        gamma: d_gamma.tensor(Shape::new([channels])),
        beta: d_beta.tensor(Shape::new([channels])),
    }
}
