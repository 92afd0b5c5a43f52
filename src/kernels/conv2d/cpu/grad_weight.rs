//! The gradient of the weights.
//!
//! ```text
//! dw[ky, kx, ci, co] = sum over output pixels m of x[position of m under (ky, kx), ci] dy[m, co]
//! ```
//!
//! A task owns a block of input channels, a block of output channels and some taps, and walks over
//! the pixels of the whole batch in blocks that stay in cache. Pixels that fall outside the image
//! are skipped, so nothing is copied. Each block of pixels is summed from zero and then added,
//! which keeps rounding errors small; the order doesn't depend on the number of threads.

use super::outer::{Run, Strided, outer_tile, tile_rows};
use super::tiles::BLOCK;
use crate::kernels::conv2d::shape::ConvShape;
use crate::kernels::simd::Path;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::Cell;

/// Output pixels per block.
const PIXELS: usize = 128;

/// Returns the number of channels whose scalars the smallest task broadcasts: one tile, or two
/// where registers are few.
fn task_rows(lanes: usize) -> usize {
    if lanes == 8 { 12 } else { 8 }
}

/// Returns whether vectors run along input channels: they do where that wastes fewer lanes than
/// output channels.
fn vectors_along_input(shape: &ConvShape, lanes: usize) -> bool {
    let cost = |scalars: usize, vectors: usize| {
        // A remainder of up to 4 scalars takes about as long as 4, a larger one as long as 8: the
        // multipliers wait.
        (scalars / 8 * 8 + (scalars % 8).next_multiple_of(4)) * vectors.div_ceil(lanes)
    };
    cost(shape.c_out, shape.c_in) < cost(shape.c_in, shape.c_out)
}

thread_local! {
    // Taken out while in use, as a waiting thread may run a task of another convolution.
    static SUMS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// How the sums are split into tasks and laid out: [row block][vector block][tap][row][channel of
/// the vector block].
struct Cut {
    /// Scalar channels per task.
    rows: usize,
    /// Taps per task.
    taps: usize,
    vector_blocks: usize,
    /// Channels of a vector block; the last one may be narrower.
    block: usize,
    /// Elements of one tap in a task.
    tile: usize,
}

impl Cut {
    fn new(scalars: usize, vectors: usize, taps: usize, kernel: usize, lanes: usize) -> Self {
        let block = BLOCK.min(vectors.div_ceil(lanes)) * lanes;
        let vector_blocks = vectors.div_ceil(block);
        // With more scalars and taps per task, more of them share the pixels that are read, but
        // every thread should have work.
        let threads = rayon::current_num_threads();
        let enough = |&(rows, taps_each): &(usize, usize)| {
            let tasks = scalars.div_ceil(rows) * vector_blocks * taps.div_ceil(taps_each);
            tasks.is_multiple_of(threads) || tasks >= 4 * threads
        };
        let unit = task_rows(lanes);
        let cuts = [(4 * unit, taps), (2 * unit, taps), (unit, taps), (unit, kernel), (unit, 1)];
        let (rows, taps) = cuts
            .into_iter()
            .filter(|(rows, _)| *rows <= scalars.max(unit))
            .find(enough)
            .unwrap_or((unit, 1));
        Self { rows, taps, vector_blocks, block, tile: rows * block }
    }

    /// Returns the index of the sum of a scalar channel and a vector channel, for the first of
    /// `taps` taps.
    fn at(&self, scalar: usize, vector: usize, vectors: usize, taps: usize, lanes: usize) -> usize {
        let (vector_block, vector) = (vector / self.block, vector % self.block);
        let width = (vectors - vector_block * self.block).next_multiple_of(lanes).min(self.block);
        (scalar / self.rows * self.vector_blocks + vector_block) * taps * self.tile
            + scalar % self.rows * width
            + vector
    }
}

/// Computes the gradient of the weights, with sizes that `super::grad_weight` has checked.
pub(super) fn grad_weight(path: Path, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let lanes = path.lanes();
    let swap = vectors_along_input(shape, lanes);
    let (scalars, vectors) =
        if swap { (shape.c_out, shape.c_in) } else { (shape.c_in, shape.c_out) };
    let taps = shape.kernel * shape.kernel;
    let cut = Cut::new(scalars, vectors, taps, shape.kernel, lanes);
    let mut sums = SUMS.take();
    sums.clear();
    sums.resize(scalars.div_ceil(cut.rows) * cut.vector_blocks * taps * cut.tile, 0.0);
    let tasks: Vec<_> = sums
        .chunks_mut(taps * cut.tile)
        .enumerate()
        .flat_map(|(pair, sums)| {
            sums.chunks_mut(cut.taps * cut.tile)
                .enumerate()
                .map(move |(group, sums)| (pair, group, sums))
        })
        .collect();
    tasks.into_par_iter().for_each(|(pair, group, sums)| {
        let (row, vector) =
            (pair / cut.vector_blocks * cut.rows, pair % cut.vector_blocks * cut.block);
        path.run(Task {
            shape,
            x,
            dy,
            swap,
            first_tap: group * cut.taps,
            tile: cut.tile,
            row,
            rows: cut.rows.min(scalars - row),
            vector,
            vectors: cut.block.min(vectors - vector),
            sums,
        });
    });
    // To [c_out, c_in, kernel, kernel].
    let row = shape.c_in * taps;
    dw.par_chunks_mut(cut.block * row).enumerate().for_each(|(group, dw)| {
        for ci in 0..shape.c_in {
            let at = |co: usize| {
                if swap {
                    cut.at(co, ci, vectors, taps, lanes)
                } else {
                    cut.at(ci, co, vectors, taps, lanes)
                }
            };
            let first = group * cut.block;
            if swap {
                for (co, dw) in dw.chunks_exact_mut(row).enumerate() {
                    let sums = sums[at(first + co)..].iter().step_by(cut.tile);
                    dw[ci * taps..][..taps].iter_mut().zip(sums).for_each(|(dw, sum)| *dw = *sum);
                }
            } else {
                for tap in 0..taps {
                    let sums = &sums[at(first) + tap * cut.tile..];
                    dw[ci * taps + tap..]
                        .iter_mut()
                        .step_by(row)
                        .zip(sums)
                        .for_each(|(dw, sum)| *dw = *sum);
                }
            }
        }
    });
    SUMS.set(sums);
}

/// One block of channels by channels, for as many taps from `first_tap` on as `sums` has room for.
struct Task<'a> {
    shape: &'a ConvShape,
    x: &'a [f32],
    dy: &'a [f32],
    swap: bool,
    first_tap: usize,
    tile: usize,
    row: usize,
    rows: usize,
    vector: usize,
    vectors: usize,
    sums: &'a mut [f32],
}

impl Task<'_> {
    /// Computes the runs of output rows `rows` (counted through the batch) under a tap, offset to
    /// this task's channels.
    fn runs(&self, rows: std::ops::Range<usize>, tap: usize, runs: &mut Vec<Run>) {
        let s = self.shape;
        let (ky, kx) = (tap / s.kernel, tap % s.kernel);
        let (out_height, out_width) = (s.out_height(), s.out_width());
        let (in_offset, out_offset) =
            if self.swap { (self.vector, self.row) } else { (self.row, self.vector) };
        runs.clear();
        // The columns ox whose input column ox * stride + kx - padding lies in the image.
        let first = s.padding.saturating_sub(kx).div_ceil(s.stride);
        let end = (s.width + s.padding).saturating_sub(kx).div_ceil(s.stride).min(out_width);
        if first >= end {
            return;
        }
        for row in rows {
            let (image, oy) = (row / out_height, row % out_height);
            let Some(iy) = (oy * s.stride + ky).checked_sub(s.padding).filter(|iy| *iy < s.height)
            else {
                continue;
            };
            let ix = first * s.stride + kx - s.padding;
            let x_at = ((image * s.height + iy) * s.width + ix) * s.c_in + in_offset;
            let dy_at = (row * out_width + first) * s.c_out + out_offset;
            runs.push(if self.swap {
                (dy_at, x_at, end - first)
            } else {
                (x_at, dy_at, end - first)
            });
        }
    }
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let s = self.shape;
        let all_rows = s.batch * s.out_height();
        let rows_each = (PIXELS / s.out_width()).max(1);
        let (x, dy) = ((self.x, s.stride * s.c_in), (self.dy, s.c_out));
        let (scalars, vectors) = if self.swap { (dy, x) } else { (x, dy) };
        let one = self.vectors <= S::F32_LANES;
        let block = if one { 1 } else { BLOCK } * S::F32_LANES;
        let mut runs = Vec::with_capacity(rows_each);
        let sums = std::mem::take(&mut self.sums);
        for first in (0..all_rows).step_by(rows_each) {
            for (tap, sums) in sums.chunks_exact_mut(self.tile).enumerate() {
                self.runs(
                    first..(first + rows_each).min(all_rows),
                    self.first_tap + tap,
                    &mut runs,
                );
                if runs.is_empty() {
                    continue;
                }
                let mut row = 0;
                while row < self.rows {
                    let scalars: Strided = (&scalars.0[row..], scalars.1);
                    let sums = &mut sums[row * block..];
                    let rows = tile_rows(self.rows - row, S::REGISTER_COUNT);
                    outer_tile(simd, (rows, one), &runs, scalars, vectors, sums);
                    row += rows;
                }
            }
        }
    }
}
