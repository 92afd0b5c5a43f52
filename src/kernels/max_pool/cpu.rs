//! Max-pooling on Burn's CPU backend, on NHWC memory, with channels along the SIMD lanes.

use super::{MaxPool, backward_work, forward_work, out_dims};
use crate::kernels::buffers::Buffer;
use crate::kernels::layout::{FlexImage, flex_dims};
use crate::kernels::simd::{LANES, Lanes, Loop, blocks, load, store, vectorised};
use crate::kernels::timer::timer;
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;
use std::ops::Range;

/// The size of an image.
#[derive(Clone, Copy)]
struct Size {
    height: usize,
    width: usize,
    channels: usize,
}

/// Returns the rows (or columns), out of `len`, in window number `window`.
#[inline(always)]
fn reach(window: usize, len: usize) -> Range<usize> {
    (2 * window).saturating_sub(1)..(2 * window + 2).min(len)
}

/// Returns the maxima of `count` channels of `x`, from `first` on, in the window of these rows and
/// columns, and the pixels where they are.
#[inline(always)]
fn maxima(
    x: &[f32],
    size: Size,
    [rows, cols]: [Range<usize>; 2],
    (first, count): (usize, usize),
) -> (Lanes, [u32; LANES]) {
    let start = rows.start * size.width + cols.start;
    let mut best = load(&x[start * size.channels + first..], count);
    let mut at = [start as u32; LANES];
    for row in rows {
        for col in cols.clone() {
            let pixel = row * size.width + col;
            let values = load(&x[pixel * size.channels + first..], count);
            for i in 0..LANES {
                let more = values[i] > best[i] || values[i].is_nan();
                best[i] = if more { values[i] } else { best[i] };
                at[i] = if more { pixel as u32 } else { at[i] };
            }
        }
    }
    (best, at)
}

/// One row of the result: (image, output row, row number, size of the image).
struct ForwardRow;

impl<'a> Loop<(&'a [f32], &'a mut [f32], usize, Size)> for ForwardRow {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>((x, y, row, size): (&'a [f32], &'a mut [f32], usize, Size)) {
        let rows = reach(row, size.height);
        for (col, y) in y.chunks_exact_mut(size.channels).enumerate() {
            for (first, count) in blocks::<false>(size.channels) {
                let window = [rows.clone(), reach(col, size.width)];
                let (best, _) = maxima(x, size, window, (first, count));
                store(&mut y[first..], count, &best);
            }
        }
    }
}

/// One image of the backward pass: (x, dy, dx, size of the image).
struct BackwardImage;

impl<'a> Loop<(&'a [f32], &'a [f32], &'a mut [f32], Size)> for BackwardImage {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>((x, dy, dx, size): (&'a [f32], &'a [f32], &'a mut [f32], Size)) {
        dx.fill(0.0);
        let (channels, out_width) = (size.channels, size.width.div_ceil(2));
        for (window, dy) in dy.chunks_exact(channels).enumerate() {
            let [rows, cols] =
                [reach(window / out_width, size.height), reach(window % out_width, size.width)];
            for (first, count) in blocks::<false>(channels) {
                let (_, at) = maxima(x, size, [rows.clone(), cols.clone()], (first, count));
                let dy = load(&dy[first..], count);
                for pixel in
                    rows.clone().flat_map(|row| cols.clone().map(move |col| row * size.width + col))
                {
                    let dx = &mut dx[pixel * channels + first..];
                    let mut sums = load(dx, count);
                    for i in 0..LANES {
                        sums[i] += if at[i] == pixel as u32 { dy[i] } else { 0.0 };
                    }
                    store(dx, count, &sums);
                }
            }
        }
    }
}

impl MaxPool for Flex {
    fn forward(x: FlexTensor) -> FlexTensor {
        let _timer = timer("max_pool forward", || forward_work(flex_dims(&x)));
        let x = FlexImage::new(x);
        let (dims, [_, channels, height, width]) = (out_dims(x.dims), x.dims);
        let size = Size { height, width, channels };
        let mut y = Buffer::new(dims.iter().product());
        if !y.is_empty() {
            let image = height * width * channels;
            y.par_chunks_mut(dims[3] * channels).enumerate().for_each(|(row, y)| {
                let x = &x.values()[row / dims[2] * image..][..image];
                vectorised::<ForwardRow, _>((x, y, row % dims[2], size));
            });
        }
        FlexImage::tensor(y, dims)
    }

    fn backward(dy: FlexTensor, x: FlexTensor) -> FlexTensor {
        let _timer = timer("max_pool backward", || backward_work(flex_dims(&x)));
        let (dy, x) = (FlexImage::new(dy), FlexImage::new(x));
        let [batch, channels, height, width] = x.dims;
        let size = Size { height, width, channels };
        let mut dx = Buffer::new(x.len());
        if !dx.is_empty() {
            let [of_x, of_y] = [x.len() / batch, dy.len() / batch];
            (dx.par_chunks_mut(of_x), x.values().par_chunks(of_x), dy.values().par_chunks(of_y))
                .into_par_iter()
                .for_each(|(dx, x, dy)| vectorised::<BackwardImage, _>((x, dy, dx, size)));
        }
        FlexImage::tensor(dx, x.dims)
    }
}
