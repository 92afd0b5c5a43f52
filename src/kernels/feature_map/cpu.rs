//! Concatenation and upsampling over f32 slices in NHWC, rows of pixels by threads.

use super::{FeatureMapGradients, FeatureMapOp};
use crate::kernels::buffers::Buffer;
use crate::kernels::layout::FlexImage;
use crate::kernels::profile;
use crate::kernels::simd::{Loop, vectorised};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

/// Pixels of a task.
const PIXELS: usize = 512;

impl FeatureMapOp for Flex {
    fn concat(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        let _timer = profile::timer("concat");
        let (a, b) = (FlexImage::new(a), FlexImage::new(b));
        let ([batch, c_a, height, width], c_b) = (a.dims, b.dims[1]);
        let both = c_a + c_b;
        let mut out = Buffer::new(a.len() + b.len());
        (out.par_chunks_mut(PIXELS * both), a.values().par_chunks(PIXELS * c_a), b.values().par_chunks(PIXELS * c_b))
            .into_par_iter()
            .for_each(|(out, a, b)| {
                for ((out, a), b) in out.chunks_exact_mut(both).zip(a.chunks_exact(c_a)).zip(b.chunks_exact(c_b)) {
                    out[..c_a].copy_from_slice(a);
                    out[c_a..].copy_from_slice(b);
                }
            });
        FlexImage::tensor(out, [batch, both, height, width])
    }

    fn upsample(x: FlexTensor) -> FlexTensor {
        let _timer = profile::timer("upsample forward");
        let x = FlexImage::new(x);
        let [batch, channels, height, width] = x.dims;
        let row = width * channels;
        let mut out = Buffer::new(4 * x.len());
        out.par_chunks_mut(4 * row).zip(x.values().par_chunks(row)).for_each(|(out, x)| {
            let (upper, lower) = out.split_at_mut(2 * row);
            for (pair, x) in upper.chunks_exact_mut(2 * channels).zip(x.chunks_exact(channels)) {
                pair[..channels].copy_from_slice(x);
                pair[channels..].copy_from_slice(x);
            }
            lower.copy_from_slice(upper);
        });
        FlexImage::tensor(out, [batch, channels, 2 * height, 2 * width])
    }
}

impl FeatureMapGradients for Flex {
    fn split(dy: FlexTensor, channels: usize) -> [FlexTensor; 2] {
        let _timer = profile::timer("concat backward");
        let dy = FlexImage::new(dy);
        let [batch, both, height, width] = dy.dims;
        let pixels = batch * height * width;
        let (c_a, c_b) = (channels, both - channels);
        let (mut a, mut b) = (Buffer::new(pixels * c_a), Buffer::new(pixels * c_b));
        (a.par_chunks_mut(PIXELS * c_a), b.par_chunks_mut(PIXELS * c_b), dy.values().par_chunks(PIXELS * both))
            .into_par_iter()
            .for_each(|(a, b, dy)| {
                for ((a, b), dy) in a.chunks_exact_mut(c_a).zip(b.chunks_exact_mut(c_b)).zip(dy.chunks_exact(both)) {
                    a.copy_from_slice(&dy[..c_a]);
                    b.copy_from_slice(&dy[c_a..]);
                }
            });
        [FlexImage::tensor(a, [batch, c_a, height, width]), FlexImage::tensor(b, [batch, c_b, height, width])]
    }

    fn sum_2x2(dy: FlexTensor) -> FlexTensor {
        let _timer = profile::timer("upsample backward");
        let dy = FlexImage::new(dy);
        let [batch, channels, height, width] = dy.dims;
        let row = width * channels;
        let mut dx = Buffer::new(dy.len() / 4);
        dx.par_chunks_mut(row / 2)
            .zip(dy.values().par_chunks(2 * row))
            .for_each(|(dx, dy)| vectorised::<SumRow, _>((dx, dy, channels)));
        FlexImage::tensor(dx, [batch, channels, height / 2, width / 2])
    }
}

/// One row of sums from two rows of dy.
struct SumRow;

impl<'a> Loop<(&'a mut [f32], &'a [f32], usize)> for SumRow {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>((dx, dy, channels): (&'a mut [f32], &'a [f32], usize)) {
        let (upper, lower) = dy.split_at(dy.len() / 2);
        let pairs = upper.chunks_exact(2 * channels).zip(lower.chunks_exact(2 * channels));
        for (dx, (upper, lower)) in dx.chunks_exact_mut(channels).zip(pairs) {
            let ((a, b), (c, d)) = (upper.split_at(channels), lower.split_at(channels));
            for ((((dx, a), b), c), d) in dx.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *dx = (a + b) + (c + d);
            }
        }
    }
}
