//! Fused AdaGN on Burn's CPU backend: one pass over each image's group while it is in cache, no reduction between
//! threads, so the result doesn't depend on their number.

use super::{Activation, AdaGnGrads, AdaGnKernels, AdaGnOptions, Dropout, Modulation};
use crate::kernels::math;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Shape, TensorData};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("ada_gn: a contiguous f32 tensor")
}

fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

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

/// Dropout factors of one channel's pixels; elements are counted in NHWC order.
fn drop(row: &mut [f32], dropout: Dropout, first: usize, channels: usize) {
    let (threshold, scale) = (dropout.threshold(), 1.0 / (1.0 - dropout.p));
    for (p, value) in row.iter_mut().enumerate() {
        let kept = math::hash(dropout.key, (first + p * channels) as u32) >= threshold;
        *value = if kept { *value * scale } else { 0.0 };
    }
}

/// Mean of `f` over `x` in f64, summed in blocks that vectorise.
fn mean_of(x: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0f64;
    for block in x.chunks(256) {
        let mut lanes = [0.0f32; 16];
        let mut chunks = block.chunks_exact(16);
        for chunk in &mut chunks {
            for (lane, v) in lanes.iter_mut().zip(chunk) {
                *lane += f(*v);
            }
        }
        let tail: f32 = chunks.remainder().iter().map(|v| f(*v)).sum();
        total += f64::from(lanes.iter().sum::<f32>() + tail);
    }
    total / x.len() as f64
}

/// (sum of a, sum of a * b), in lanes that vectorise.
fn sums_of(a: &[f32], b: &[f32]) -> (f32, f32) {
    let (mut s0, mut s1) = ([0.0f32; 16], [0.0f32; 16]);
    let (mut a16, mut b16) = (a.chunks_exact(16), b.chunks_exact(16));
    for (x, y) in (&mut a16).zip(&mut b16) {
        for i in 0..16 {
            s0[i] += x[i];
            s1[i] += x[i] * y[i];
        }
    }
    let (mut t0, mut t1) = (s0.iter().sum::<f32>(), s1.iter().sum::<f32>());
    for (x, y) in a16.remainder().iter().zip(b16.remainder()) {
        t0 += x;
        t1 += x * y;
    }
    (t0, t1)
}

impl AdaGnKernels for Flex {
    fn forward(
        h: FloatTensor<Self>,
        modulation: Option<Modulation<FloatTensor<Self>>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let h = h.to_contiguous();
        let shape = h.layout().shape().clone();
        let (channels, pixels) = (shape[1], shape[2] * shape[3]);
        let size = channels / options.groups;
        let modulation = modulation.map(|m| Modulation { t: m.t.to_contiguous(), z: m.z.to_contiguous() });
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let affine = Affine {
            channels,
            modulation: modulation.as_ref().map(|m| Modulation { t: values(&m.t), z: values(&m.z) }),
            gamma: values(&gamma),
            beta: values(&beta),
        };
        let mut out = vec![0.0f32; shape.num_elements()];
        let mut saved = vec![0.0f32; shape[0] * channels * 4];
        (out.par_chunks_mut(size * pixels), saved.par_chunks_mut(size * 4), values(&h).par_chunks(size * pixels))
            .into_par_iter()
            .enumerate()
            .for_each(|(bg, (out, saved, x))| {
                let (b, first) = (bg / options.groups, bg % options.groups * size);
                let mean = mean_of(x, |v| v) as f32;
                let variance = mean_of(x, |v| (v - mean) * (v - mean));
                let rstd = (1.0 / (variance + f64::from(options.eps)).sqrt()) as f32;
                for k in 0..size {
                    let (a, d) = affine.at(b, first + k);
                    saved[k * 4..k * 4 + 4].copy_from_slice(&[a, d, mean, rstd]);
                    let row = &mut out[k * pixels..(k + 1) * pixels];
                    for (o, v) in row.iter_mut().zip(&x[k * pixels..]) {
                        *o = a * ((v - mean) * rstd) + d;
                    }
                    if options.activation == Activation::Silu {
                        row.iter_mut().for_each(|u| *u *= math::sigmoid(*u));
                    }
                    if let Some(dropout) = options.dropout {
                        drop(row, dropout, b * pixels * channels + first + k, channels);
                    }
                }
            });
        (tensor(out, shape.clone()), tensor(saved, Shape::new([shape[0], channels, 4])))
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
        let (d_out, h) = (d_out.to_contiguous(), h.to_contiguous());
        let shape = h.layout().shape().clone();
        let (batch, channels, pixels) = (shape[0], shape[1], shape[2] * shape[3]);
        let size = channels / options.groups;
        let mut dh = vec![0.0f32; shape.num_elements()];
        let mut sums = vec![0.0f32; batch * channels * 2];
        (
            dh.par_chunks_mut(size * pixels),
            sums.par_chunks_mut(size * 2),
            values(&h).par_chunks(size * pixels),
            values(&d_out).par_chunks(size * pixels),
            values(&saved).par_chunks(size * 4),
        )
            .into_par_iter()
            .enumerate()
            .for_each_init(Vec::new, |xhat, (bg, (dh, sums, x, dy, saved))| {
                let (b, first) = (bg / options.groups, bg % options.groups * size);
                let (mean, rstd) = (saved[2], saved[3]);
                xhat.clear();
                xhat.extend(x.iter().map(|v| (v - mean) * rstd));
                // dh first holds g, the gradient of the activation's argument.
                dh.copy_from_slice(dy);
                let (mut m0, mut m1) = (0.0f64, 0.0f64);
                for k in 0..size {
                    let (a, d) = (saved[k * 4], saved[k * 4 + 1]);
                    let (g, xh) = (&mut dh[k * pixels..(k + 1) * pixels], &xhat[k * pixels..(k + 1) * pixels]);
                    if let Some(dropout) = options.dropout {
                        drop(g, dropout, b * pixels * channels + first + k, channels);
                    }
                    if options.activation == Activation::Silu {
                        for (g, xh) in g.iter_mut().zip(xh) {
                            let u = a * xh + d;
                            let sigma = math::sigmoid(u);
                            *g *= sigma * (1.0 + u * (1.0 - sigma));
                        }
                    }
                    let (s0, s1) = sums_of(g, xh);
                    sums[k * 2..k * 2 + 2].copy_from_slice(&[s0, s1]);
                    m0 += f64::from(a * s0);
                    m1 += f64::from(a * s1);
                }
                let n = (size * pixels) as f64;
                let (m0, m1) = ((m0 / n) as f32, (m1 / n) as f32);
                for k in 0..size {
                    let a = saved[k * 4];
                    for (g, xh) in dh[k * pixels..(k + 1) * pixels].iter_mut().zip(&xhat[k * pixels..]) {
                        *g = rstd * (a * *g - m0 - xh * m1);
                    }
                }
            });
        let modulation = modulation.map(|m| Modulation { t: m.t.to_contiguous(), z: m.z.to_contiguous() });
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let (gamma, beta) = (values(&gamma), values(&beta));
        let (mut d_gamma, mut d_beta) = (vec![0.0f32; channels], vec![0.0f32; channels]);
        let mut d_mod = modulation.as_ref().map(|_| Modulation {
            t: vec![0.0f32; batch * 2 * channels],
            z: vec![0.0f32; batch * 2 * channels],
        });
        for b in 0..batch {
            for c in 0..channels {
                let (s0, s1) = (sums[(b * channels + c) * 2], sums[(b * channels + c) * 2 + 1]);
                let mut scale = 1.0;
                if let (Some(m), Some(out)) = (&modulation, &mut d_mod) {
                    let (t, z) = (values(&m.t), values(&m.z));
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
        let of_modulation = |values| tensor(values, Shape::new([batch, 2 * channels]));
        AdaGnGrads {
            h: tensor(dh, shape),
            modulation: d_mod.map(|m| Modulation { t: of_modulation(m.t), z: of_modulation(m.z) }),
            gamma: tensor(d_gamma, Shape::new([channels])),
            beta: tensor(d_beta, Shape::new([channels])),
        }
    }
}
