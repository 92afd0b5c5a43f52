//! Concatenation over f32 slices in NHWC order, with blocks of pixels divided among threads.

use super::{Concat, ConcatInputs, work};
use crate::kernels::buffers::Buffer;
use crate::kernels::layout::{FlexImage, flex_dims};
use crate::kernels::timer::timer;
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

/// The pixels of a task.
const PIXELS: usize = 512;

impl Concat for Flex {
    fn forward(ConcatInputs { a, b }: ConcatInputs<Self>) -> FlexTensor {
        let ([batch, c_a, height, width], [_, c_b, ..]) = (flex_dims(&a), flex_dims(&b));
        let both = c_a + c_b;
        let _timer = timer("concat", || work([batch, both, height, width]));
        let (a, b) = (FlexImage::new(a), FlexImage::new(b));
        let mut out = Buffer::new(a.len() + b.len());
        (
            out.par_chunks_mut(PIXELS * both),
            a.values().par_chunks(PIXELS * c_a),
            b.values().par_chunks(PIXELS * c_b),
        )
            .into_par_iter()
            .for_each(|(out, a, b)| {
                for ((out, a), b) in
                    out.chunks_exact_mut(both).zip(a.chunks_exact(c_a)).zip(b.chunks_exact(c_b))
                {
                    out[..c_a].copy_from_slice(a);
                    out[c_a..].copy_from_slice(b);
                }
            });
        FlexImage::tensor(out, [batch, both, height, width])
    }

    fn backward(dy: FlexTensor, channels: usize) -> (FlexTensor, FlexTensor) {
        let _timer = timer("concat backward", || work(flex_dims(&dy)));
        let dy = FlexImage::new(dy);
        let [batch, both, height, width] = dy.dims;
        let pixels = batch * height * width;
        let (c_a, c_b) = (channels, both - channels);
        let (mut a, mut b) = (Buffer::new(pixels * c_a), Buffer::new(pixels * c_b));
        (
            a.par_chunks_mut(PIXELS * c_a),
            b.par_chunks_mut(PIXELS * c_b),
            dy.values().par_chunks(PIXELS * both),
        )
            .into_par_iter()
            .for_each(|(a, b, dy)| {
                for ((a, b), dy) in
                    a.chunks_exact_mut(c_a).zip(b.chunks_exact_mut(c_b)).zip(dy.chunks_exact(both))
                {
                    a.copy_from_slice(&dy[..c_a]);
                    b.copy_from_slice(&dy[c_a..]);
                }
            });
        (
            FlexImage::tensor(a, [batch, c_a, height, width]),
            FlexImage::tensor(b, [batch, c_b, height, width]),
        )
    }
}
