//! 3x3 convolutions of stride 1 by Winograd's minimal filtering F(2x2, 3x3) or F(4x4, 3x3) (Lavin
//! and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308): 16
//! multiplications instead of 36 for 4 outputs, or 36 instead of 144 for 16.
//!
//! y = A^T [(G g G^T) * (B^T d B)] A for each tile of M x M outputs, where d is the tile of the
//! input under it, A x A with A = M + 2, and g the kernel
//!
//! The gradient of the input is the same with flipped kernels; that of the weights is in
//! `winograd_weights`. The products, a matrix product over channels for each of the A x A
//! positions, are those of `tiles`. Tiles are processed in groups that stay in cache, in an order
//! that doesn't depend on the number of threads.

// Loops over positions index several arrays of vectors. Iterators over such arrays aren't always
// inlined, and are then compiled without vector instructions.
#![allow(clippy::needless_range_loop)]

mod filter;
mod input;
mod tile;

pub(super) use filter::{F2, F4, Filter};
pub(super) use input::{load, store, transform_input};
pub(super) use tile::{Tile, Winograd, position_step};

use super::operands::{Operands, Weights};
use super::tiles::{BLOCK, product};
use crate::kernels::buffers::Buffer;
use crate::kernels::simd::Path;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::marker::PhantomData;

impl Winograd {
    /// Computes out `[batch, height, width, out_channels]` from the operands.
    pub fn run(&self, path: Path, operands: &Operands, out: &mut [f32]) {
        if self.prefers_4() {
            self.by::<F4, 4, 6>(path, operands, out);
        } else {
            self.by::<F2, 2, 4>(path, operands, out);
        }
    }

    /// Runs [`Winograd::run`] by the algorithm `F`.
    fn by<F: Filter<M, A> + Sync, const M: usize, const A: usize>(
        &self,
        path: Path,
        operands: &Operands,
        out: &mut [f32],
    ) {
        let lanes = path.lanes();
        let padded = self.out_channels.next_multiple_of(lanes);
        let mut weights = Buffer::new(A * A * self.source_channels * padded);
        weights.par_chunks_mut(A * A * self.source_channels * BLOCK * lanes).enumerate().for_each(
            |(block, weights)| {
                path.run(TransformWeights::<F, M, A> {
                    filter: PhantomData,
                    winograd: self,
                    weights: operands.weights,
                    first: block * BLOCK * lanes,
                    transformed: weights,
                });
            },
        );
        // A task owns whole rows of tiles, so that its part of `out` is one slice.
        let cols = self.width.div_ceil(M);
        let group = Self::group(self.source_channels, A * A);
        let rows_each = (group / cols).max(1);
        let out_row = self.width * self.out_channels;
        let image = self.height * out_row;
        let mut bands: Vec<_> = out
            .chunks_mut(image)
            .enumerate()
            .flat_map(|(image, out)| {
                out.chunks_mut(M * rows_each * out_row)
                    .enumerate()
                    .map(move |(band, out)| (image, M * rows_each * band, out))
            })
            .collect();
        // Small images: several bands per task, so that a group is full.
        let bands_each = (group / (rows_each.min(self.height.div_ceil(M)) * cols)).max(1);
        bands.par_chunks_mut(bands_each).for_each(|bands| {
            path.run(ForwardTask::<F, M, A> {
                filter: PhantomData,
                winograd: self,
                operands,
                weights: &weights,
                bands,
            });
        });
    }
}

/// The transform of the weights of a block of output channels, to [position][source channel][output
/// channel of the block].
struct TransformWeights<'a, F, const M: usize, const A: usize> {
    filter: PhantomData<F>,
    winograd: &'a Winograd,
    weights: Weights<'a>,
    first: usize,
    transformed: &'a mut [f32],
}

impl<F: Filter<M, A>, const M: usize, const A: usize> WithSimd for TransformWeights<'_, F, M, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let inputs = self.winograd.source_channels;
        let width = self.transformed.len() / (A * A * inputs);
        let valid = width.min(self.winograd.out_channels - self.first);
        let (out_stride, source_stride) = self.weights.strides();
        let mut taps = [[0.0f32; 64]; 9];
        for input in 0..inputs {
            for o in 0..valid {
                let first = (self.first + o) * out_stride + input * source_stride;
                let w = &self.weights.values[first..][..9];
                for k in 0..9 {
                    taps[k][o] = w[if self.weights.transposed { 8 - k } else { k }];
                }
            }
            for at in (0..width).step_by(S::F32_LANES) {
                let mut rows = [[simd.splat_f32s(0.0); A]; 3];
                for r in 0..3 {
                    let mut g = [simd.splat_f32s(0.0); 3];
                    for c in 0..3 {
                        g[c] = load(simd, &taps[3 * r + c][at..at + S::F32_LANES]);
                    }
                    rows[r] = F::kernel(simd, g);
                }
                for c in 0..A {
                    let column = F::kernel(simd, [rows[0][c], rows[1][c], rows[2][c]]);
                    for r in 0..A {
                        let to = ((r * A + c) * inputs + input) * width + at;
                        store(simd, &mut self.transformed[to..to + S::F32_LANES], column[r]);
                    }
                }
            }
        }
    }
}

/// A task: some bands of output rows (image, first row, the band's part of the output).
struct ForwardTask<'a, 'b, F, const M: usize, const A: usize> {
    filter: PhantomData<F>,
    winograd: &'a Winograd,
    operands: &'a Operands<'a>,
    /// The transformed ones.
    weights: &'a [f32],
    bands: &'a mut [(usize, usize, &'b mut [f32])],
}

impl<F: Filter<M, A>, const M: usize, const A: usize> WithSimd for ForwardTask<'_, '_, F, M, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { winograd: w, operands, weights, bands, .. } = self;
        let Operands { source, bias, residual, .. } = *operands;
        let (inputs, channels, lanes) = (w.source_channels, w.out_channels, S::F32_LANES);
        let cols = w.width.div_ceil(M);
        let out_row = w.width * channels;
        // The tiles of the whole task, and the band that each belongs to.
        let (mut tiles, mut band_of) = (Vec::new(), Vec::new());
        for (band, (image, first_row, out)) in bands.iter().enumerate() {
            let rows = (out.len() / out_row).div_ceil(M);
            let tile =
                |i: usize| Tile { image: *image, row: first_row + i / cols * M, col: i % cols * M };
            tiles.extend((0..rows * cols).map(tile));
            band_of.resize(tiles.len(), band);
        }
        let group = tiles.len();
        let v_step = position_step(group * inputs);
        let mut v = Buffer::new(A * A * v_step);
        transform_input::<S, F, M, A>(simd, w, source, &tiles, (inputs, 0, inputs), &mut v);

        // Not in the loop, which would fill it with zeros for every tile.
        let zero = simd.splat_f32s(0.0);
        let (mut columns, mut y) = ([[zero; M]; A], [[zero; M]; M]);
        let mut products = Buffer::new(A * A * position_step(group * BLOCK * lanes));
        for first in (0..channels).step_by(BLOCK * lanes) {
            let width = (channels - first).next_multiple_of(lanes).min(BLOCK * lanes);
            let step = position_step(group * width);
            for position in 0..A * A {
                let weights =
                    &weights[(A * A * first + position * width) * inputs..][..inputs * width];
                product(
                    simd,
                    &v[position * v_step..][..group * inputs],
                    weights,
                    &mut products[position * step..][..group * width],
                    width,
                );
            }
            let valid = width.min(channels - first);
            for (t, (tile, band)) in tiles.iter().zip(&band_of).enumerate() {
                let (image, first_row, out) = &mut bands[*band];
                let products = &products[t * width..][..(A * A - 1) * step + width];
                let bias = bias.map(|bias| &bias[first..]);
                for at in (0..valid).step_by(lanes) {
                    let products = &products[at..];
                    transform_output::<S, F, M, A>(simd, products, step, &mut columns, &mut y);
                    let len = lanes.min(valid - at);
                    let mut constant = simd.splat_f32s(0.0);
                    if let Some(bias) = bias {
                        constant = load(simd, &bias[at..][..len]);
                    }
                    let (rows, cols) = (w.height - tile.row, w.width - tile.col);
                    for r in 0..M {
                        if r >= rows {
                            break;
                        }
                        let row = (tile.row + r - *first_row) * out_row;
                        let row = &mut out[row..][..out_row];
                        let from = (*image * w.height + tile.row + r) * out_row;
                        for c in 0..M {
                            if c >= cols {
                                break;
                            }
                            let within = (tile.col + c) * channels + first + at;
                            let mut value = simd.add_f32s(y[r][c], constant);
                            if let Some(residual) = residual {
                                let part = &residual[from + within..][..len];
                                value = simd.add_f32s(value, load(simd, part));
                            }
                            store(simd, &mut row[within..][..len], value);
                        }
                    }
                }
            }
        }
    }
}

/// Writes A^T m A of one vector of channels to `y`: `products` begins with the first position's; the
/// others follow every `step` elements. `columns` holds A^T m.
#[inline(always)]
fn transform_output<S: Simd, F: Filter<M, A>, const M: usize, const A: usize>(
    simd: S,
    products: &[f32],
    step: usize,
    columns: &mut [[S::f32s; M]; A],
    y: &mut [[S::f32s; M]; M],
) {
    assert!((A * A - 1) * step + S::F32_LANES <= products.len(), "a tile beyond its products");
    for c in 0..A {
        let mut m = [simd.splat_f32s(0.0); A];
        for r in 0..A {
            let at = (r * A + c) * step;
            m[r] = load(simd, &products[at..at + S::F32_LANES]);
        }
        columns[c] = F::output(simd, m);
    }
    for r in 0..M {
        let mut m = [simd.splat_f32s(0.0); A];
        for c in 0..A {
            m[c] = columns[c][r];
        }
        y[r] = F::output(simd, m);
    }
}
