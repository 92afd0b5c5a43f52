//! The gradient of the weights of a 3x3 convolution by minimal filtering, F(3x3, 2x2) or
//! F(3x3, 4x4): the tile of dy serves as the kernel.
//!
//! dw = A^T [sum over tiles of (G dy G^T) * (B^T d B)] A
//!
//! The products of all tiles, a matrix product over tiles for each position, are added up before the inverse transform, which then runs once for each pair of channels. A task owns its
//! pairs of channels and walks over all tiles in order.

// Loops over positions index several arrays of vectors. Iterators over such arrays aren't always
// inlined, and are then compiled without vector instructions.
#![allow(clippy::needless_range_loop)]

use super::outer::{outer_tile, tile_rows};
use super::tiles::BLOCK;
use super::winograd::{
    F2, F4, Filter, Tile, Winograd, load, position_step, store, transform_input,
};
use crate::kernels::buffers::Buffer;
use crate::kernels::simd::Path;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::marker::PhantomData;

/// How the gradient of the weights is split: `rows` channels of x and `cols` channels of dy per
/// task.
struct Cut {
    rows: usize,
    cols: usize,
    /// Tasks along the channels of dy.
    col_tasks: usize,
    /// Channels of a vector block; the last one may be narrower.
    block: usize,
}

impl Cut {
    fn new(x_channels: usize, dy_channels: usize, lanes: usize) -> Self {
        let block = BLOCK * lanes;
        let all = dy_channels.next_multiple_of(lanes);
        let threads = rayon::current_num_threads();
        let enough = |&(rows, cols): &(usize, usize)| {
            let tasks = x_channels.div_ceil(rows) * dy_channels.div_ceil(cols);
            tasks.is_multiple_of(threads) || tasks >= 4 * threads
        };
        let cuts = [(32, all), (16, all), (8, all), (16, block), (8, block)];
        let (rows, cols) = cuts
            .into_iter()
            .filter(|(rows, _)| *rows <= x_channels.max(8))
            .find(enough)
            .unwrap_or((8, block));
        Self { rows, cols, col_tasks: dy_channels.div_ceil(cols), block }
    }

    /// Returns the number of elements of one position of a task, laid out as [vector
    /// block][row][channel of the block].
    fn position_len(&self) -> usize {
        self.rows * self.cols
    }

    /// Returns the index of the sum of a channel of x and a channel of dy, for the first of
    /// `positions` positions.
    fn at(
        &self,
        positions: usize,
        (row, col): (usize, usize),
        dy_channels: usize,
        lanes: usize,
    ) -> usize {
        let task = row / self.rows * self.col_tasks + col / self.cols;
        let within = col % self.cols;
        let first = within / self.block * self.block;
        let left = (dy_channels - (col - within)).min(self.cols) - first;
        let width = left.next_multiple_of(lanes).min(self.block);
        task * positions * self.position_len()
            + first * self.rows
            + row % self.rows * width
            + within
            - first
    }
}

/// Computes the gradient of the weights: `x` `[batch, height, width, source_channels]`, `dy`
/// `[.., out_channels]`, `dw` `[out_channels, source_channels, 3, 3]`, overwritten.
pub(super) fn grad_weight(path: Path, winograd: &Winograd, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    if winograd.prefers_4() {
        by::<F4, 4, 6>(path, winograd, x, dy, dw);
    } else {
        by::<F2, 2, 4>(path, winograd, x, dy, dw);
    }
}

/// Runs [`grad_weight`] by the algorithm `F`.
fn by<F: Filter<M, A>, const M: usize, const A: usize>(
    path: Path,
    winograd: &Winograd,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
) {
    let (inputs, outputs, lanes) = (winograd.source_channels, winograd.out_channels, path.lanes());
    let cut = Cut::new(inputs, outputs, lanes);
    let mut sums =
        Buffer::new(inputs.div_ceil(cut.rows) * cut.col_tasks * A * A * cut.position_len());
    sums.par_chunks_mut(A * A * cut.position_len()).enumerate().for_each(|(task, sums)| {
        sums.fill(0.0);
        let (row, col) = (task / cut.col_tasks * cut.rows, task % cut.col_tasks * cut.cols);
        path.run(WeightTask::<F, M, A> {
            filter: PhantomData,
            winograd,
            x,
            dy,
            cut: &cut,
            rows: (row, cut.rows.min(inputs - row)),
            cols: (col, cut.cols.min(outputs - col)),
            sums,
        });
    });
    // The first 9 positions now hold the taps.
    dw.par_chunks_mut(inputs * 9).enumerate().for_each(|(output, dw)| {
        for (input, taps) in dw.chunks_exact_mut(9).enumerate() {
            let first = cut.at(A * A, (input, output), outputs, lanes);
            let sums = sums[first..].iter().step_by(cut.position_len());
            taps.iter_mut().zip(sums).for_each(|(tap, sum)| *tap = *sum);
        }
    });
}

/// A task: the sums of some channels of x (first, count) by some of dy, over all tiles.
struct WeightTask<'a, F, const M: usize, const A: usize> {
    filter: PhantomData<F>,
    winograd: &'a Winograd,
    x: &'a [f32],
    dy: &'a [f32],
    cut: &'a Cut,
    rows: (usize, usize),
    cols: (usize, usize),
    sums: &'a mut [f32],
}

impl<F: Filter<M, A>, const M: usize, const A: usize> WithSimd for WeightTask<'_, F, M, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { winograd: w, x, dy, cut, rows: (row, rows), cols: (col, cols), sums, .. } = self;
        let lanes = S::F32_LANES;
        let padded = cols.next_multiple_of(lanes);
        // By all channels, not just this task's: the groups decide how sums are rounded.
        let group = Winograd::group(w.out_channels, A * A);
        let (mut v, mut e) = (
            Buffer::new(A * A * position_step(group * rows)),
            Buffer::new(A * A * position_step(group * padded)),
        );
        let all = w.tiles(M);
        for first in (0..all).step_by(group) {
            let tiles: Vec<Tile> =
                (first..(first + group).min(all)).map(|t| w.tile(t, M)).collect();
            let count = tiles.len();
            let of_x = (w.source_channels, row, rows);
            transform_input::<S, F, M, A>(simd, w, x, &tiles, of_x, &mut v);
            transform_gradient::<S, F, M, A>(simd, w, dy, &tiles, (col, cols), &mut e);
            for position in 0..A * A {
                let v = &v[position * position_step(count * rows)..][..count * rows];
                let e = &e[position * position_step(count * padded)..][..count * padded];
                let sums = &mut sums[position * cut.position_len()..][..cut.position_len()];
                for block in (0..cols).step_by(cut.block) {
                    let width = (cols - block).next_multiple_of(lanes).min(cut.block);
                    let sums = &mut sums[block * cut.rows..];
                    let mut at = 0;
                    while at < rows {
                        let (scalars, vectors) = ((&v[at..], rows), (&e[block..], padded));
                        let sums = &mut sums[at * width..];
                        let tile = tile_rows(rows - at, S::REGISTER_COUNT);
                        outer_tile(
                            simd,
                            (tile, width == lanes),
                            &[(0, 0, count)],
                            scalars,
                            vectors,
                            sums,
                        );
                        at += tile;
                    }
                }
            }
        }
        // From all positions to 9 taps, in place.
        for block in (0..cols).step_by(cut.block) {
            let width = (cols - block).next_multiple_of(lanes).min(cut.block);
            for at in (0..rows * width).step_by(lanes) {
                let at = block * cut.rows + at;
                let mut columns = [[simd.splat_f32s(0.0); 3]; A];
                for c in 0..A {
                    let mut m = [simd.splat_f32s(0.0); A];
                    for r in 0..A {
                        m[r] = load(simd, &sums[(r * A + c) * cut.position_len() + at..][..lanes]);
                    }
                    columns[c] = F::weight(simd, m);
                }
                for r in 0..3 {
                    let mut m = [simd.splat_f32s(0.0); A];
                    for c in 0..A {
                        m[c] = columns[c][r];
                    }
                    let taps = F::weight(simd, m);
                    for c in 0..3 {
                        store(
                            simd,
                            &mut sums[(r * 3 + c) * cut.position_len() + at..][..lanes],
                            taps[c],
                        );
                    }
                }
            }
        }
    }
}

/// Writes G dy G^T of `count` channels from `first` on to `e` [position][tile of the
/// group][channel, padded to whole vectors].
#[inline(always)]
fn transform_gradient<S: Simd, F: Filter<M, A>, const M: usize, const A: usize>(
    simd: S,
    winograd: &Winograd,
    dy: &[f32],
    tiles: &[Tile],
    (first, count): (usize, usize),
    e: &mut [f32],
) {
    let (lanes, channels) = (S::F32_LANES, winograd.out_channels);
    let padded = count.next_multiple_of(lanes);
    let step = position_step(tiles.len() * padded);
    // Not in the loop, which would fill it with zeros for every tile.
    let mut rows = [[simd.splat_f32s(0.0); A]; M];
    for (t, tile) in tiles.iter().enumerate() {
        let at = ((tile.image * winograd.height + tile.row) * winograd.width + tile.col) * channels
            + first;
        let (height, width) = (winograd.height - tile.row, winograd.width - tile.col);
        for channel in (0..count).step_by(lanes) {
            let len = lanes.min(count - channel);
            for r in 0..M {
                let mut g = [simd.splat_f32s(0.0); M];
                for c in 0..M {
                    if r < height && c < width {
                        let pixel = at + (r * winograd.width + c) * channels;
                        g[c] = load(simd, &dy[pixel + channel..][..len]);
                    }
                }
                rows[r] = F::gradient(simd, g);
            }
            let e = &mut e[t * padded + channel..];
            for c in 0..A {
                let mut g = [simd.splat_f32s(0.0); M];
                for r in 0..M {
                    g[r] = rows[r][c];
                }
                let column = F::gradient(simd, g);
                for r in 0..A {
                    store(simd, &mut e[(r * A + c) * step..][..lanes], column[r]);
                }
            }
        }
    }
}
