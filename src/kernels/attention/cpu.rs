//! Attention over f32 slices, `[pixels, 3C]` per image. A task is a block of queries in the forward
//! pass and a whole image in the backward pass; one thread runs it.

use super::{Attention, backward_work, forward_work};
use crate::kernels::buffers::Buffer;
use crate::kernels::gemm::{Matrix, product};
use crate::kernels::layout::{FlexImage, flex_dims, flex_values};
use crate::kernels::math;
use crate::kernels::shader::Elem;
use crate::kernels::simd::{LANES, Loop, vectorised};
use crate::kernels::timer::timer;
use burn::tensor::Shape;
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

/// Queries per task of the forward pass.
const QUERIES: usize = 64;

/// q, k and v of one image, in rows of 3C values.
struct Image<'a> {
    qkv: &'a [f32],
    channels: usize,
}

impl<'a> Image<'a> {
    fn pixels(&self) -> usize {
        self.qkv.len() / (3 * self.channels)
    }

    /// Returns q, k or v from pixel `first` on.
    fn part(&self, part: usize, first: usize) -> Matrix<'a> {
        Matrix::new(
            &self.qkv[first * 3 * self.channels + part * self.channels..],
            3 * self.channels,
        )
    }

    fn scale(&self) -> f32 {
        1.0 / (self.channels as f32).sqrt()
    }

    /// Computes scores[query, key] of the queries from `first` on.
    fn scores(&self, first: usize, scores: &mut [f32]) {
        let n = self.pixels();
        let size = (scores.len() / n, n, self.channels);
        product(size, self.scale(), self.part(0, first), self.part(1, 0).t(), scores, n);
    }
}

/// The loop that turns rows of scores into rows of weights, and writes the logarithms of their sums
/// of exponentials to the second slice.
struct Softmax;

impl<'a> Loop<(&'a mut [f32], &'a mut [f32])> for Softmax {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>((scores, log_sums): (&'a mut [f32], &'a mut [f32])) {
        let n = scores.len() / log_sums.len();
        for (row, log_sum) in scores.chunks_exact_mut(n).zip(log_sums) {
            let (blocks, rest) = row.as_chunks::<LANES>();
            let mut highest = [f32::NEG_INFINITY; LANES];
            for block in blocks {
                for i in 0..LANES {
                    highest[i] = highest[i].max(block[i]);
                }
            }
            let highest = highest.iter().chain(rest).fold(f32::NEG_INFINITY, |m, v| m.max(*v));
            let (blocks, rest) = row.as_chunks_mut::<LANES>();
            let mut sums = [0.0; LANES];
            for block in blocks.iter_mut() {
                for i in 0..LANES {
                    block[i] = math::exp::<FMA>(block[i] - highest);
                    sums[i] += block[i];
                }
            }
            for value in rest.iter_mut() {
                *value = math::exp::<FMA>(*value - highest);
            }
            let sum: f32 = sums.iter().sum::<f32>() + rest.iter().sum::<f32>();
            row.iter_mut().for_each(|v| *v *= 1.0 / sum);
            *log_sum = highest + sum.ln();
        }
    }
}

/// The loop that turns rows of scores into rows of weights, given the logarithms of their sums.
struct Weights;

impl<'a> Loop<(&'a mut [f32], &'a [f32])> for Weights {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>((scores, log_sums): (&'a mut [f32], &'a [f32])) {
        let n = scores.len() / log_sums.len();
        for (row, log_sum) in scores.chunks_exact_mut(n).zip(log_sums) {
            for value in row {
                *value = math::exp::<FMA>(*value - log_sum);
            }
        }
    }
}

/// The loop that turns d into the gradient of the scores: weights * (d - sum over the row of
/// weights * d).
struct ScoreGradient;

impl<'a> Loop<(&'a mut [f32], &'a [f32], usize)> for ScoreGradient {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>((d, weights, n): (&'a mut [f32], &'a [f32], usize)) {
        for (d, weights) in d.chunks_exact_mut(n).zip(weights.chunks_exact(n)) {
            let (d_blocks, d_rest) = d.as_chunks::<LANES>();
            let (w_blocks, w_rest) = weights.as_chunks::<LANES>();
            let mut sums = [0.0; LANES];
            for (d, w) in d_blocks.iter().zip(w_blocks) {
                for i in 0..LANES {
                    sums[i] += d[i] * w[i];
                }
            }
            let sum = sums.iter().sum::<f32>()
                + d_rest.iter().zip(w_rest).map(|(d, w)| d * w).sum::<f32>();
            for (d, w) in d.iter_mut().zip(weights) {
                *d = w * (*d - sum);
            }
        }
    }
}

impl Attention for Flex {
    fn forward(qkv: FlexTensor, _: Elem) -> (FlexTensor, FlexTensor) {
        let [batch, channels, height, width] = flex_dims(&qkv);
        let (c, n) = (channels / 3, height * width);
        let _timer = timer("attention forward", || forward_work([batch, c, height, width]));
        let qkv = FlexImage::new(qkv);
        let mut out = Buffer::new(batch * n * c);
        let mut log_sums = Buffer::new(batch * n);
        let tasks: Vec<_> = out
            .chunks_mut(n * c)
            .zip(log_sums.chunks_mut(n))
            .zip(qkv.values().chunks(n * channels))
            .flat_map(|((out, log_sums), qkv)| {
                let blocks =
                    out.chunks_mut(QUERIES * c).zip(log_sums.chunks_mut(QUERIES)).enumerate();
                blocks.map(move |(block, (out, log_sums))| {
                    (Image { qkv, channels: c }, block * QUERIES, out, log_sums)
                })
            })
            .collect();
        tasks.into_par_iter().for_each(|(image, first, out, log_sums)| {
            let queries = log_sums.len();
            let mut scores = Buffer::new(queries * n);
            image.scores(first, &mut scores);
            vectorised::<Softmax, _>((&mut scores, log_sums));
            product((queries, c, n), 1.0, Matrix::new(&scores, n), image.part(2, 0), out, c);
        });
        (FlexImage::tensor(out, [batch, c, height, width]), log_sums.tensor(Shape::new([batch, n])))
    }

    fn backward(
        d_out: FlexTensor,
        qkv: FlexTensor,
        _out: FlexTensor,
        log_sums: FlexTensor,
        _: Elem,
    ) -> FlexTensor {
        let _timer = timer("attention backward", || backward_work(flex_dims(&d_out)));
        let (d_out, qkv) = (FlexImage::new(d_out), FlexImage::new(qkv));
        let [_, channels, height, width] = qkv.dims;
        let (c, n) = (channels / 3, height * width);
        let mut d_qkv = Buffer::new(qkv.len());
        (
            d_qkv.par_chunks_mut(n * channels),
            qkv.values().par_chunks(n * channels),
            d_out.values().par_chunks(n * c),
            flex_values(&log_sums).par_chunks(n),
        )
            .into_par_iter()
            .for_each(|(d_qkv, qkv, d_out, log_sums)| {
                let image = Image { qkv, channels: c };
                let (mut weights, mut d) = (Buffer::new(n * n), Buffer::new(n * n));
                image.scores(0, &mut weights);
                vectorised::<Weights, _>((&mut weights, log_sums));
                let d_out = Matrix::new(d_out, c);
                product(
                    (n, c, n),
                    1.0,
                    Matrix::new(&weights, n).t(),
                    d_out,
                    &mut d_qkv[2 * c..],
                    channels,
                );
                product((n, n, c), 1.0, d_out, image.part(2, 0).t(), &mut d, n);
                vectorised::<ScoreGradient, _>((&mut d, &weights, n));
                let d = Matrix::new(&d, n);
                product((n, c, n), image.scale(), d, image.part(1, 0), d_qkv, channels);
                product(
                    (n, c, n),
                    image.scale(),
                    d.t(),
                    image.part(0, 0),
                    &mut d_qkv[c..],
                    channels,
                );
            });
        FlexImage::tensor(d_qkv, qkv.dims)
    }
}
