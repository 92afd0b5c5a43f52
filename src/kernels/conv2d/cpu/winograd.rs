//! 3x3 convolutions of stride 1 by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks", arXiv 1509.09308): 16 multiplications instead of
//! 36, in f32 with an error of the same size.
//!
//! y = A^T [(G g G^T) * (B^T d B)] A for each 2x2 tile of the output, where d is the 4x4 tile of
//! the input under it and g the kernel
//!
//! The gradient of the input is the same with flipped kernels; that of the weights is in
//! `winograd_weights`. The products, a matrix product over channels for each of the 16 positions,
//! are those of `tiles`. Tiles are processed in groups that stay in cache, in an order that doesn't
//! depend on the number of threads.

// Loops over positions index several arrays of vectors. Iterators over such arrays aren't always
// inlined, and are then compiled without vector instructions.
#![allow(clippy::needless_range_loop)]

mod input;
mod tile;

pub(super) use input::{load, store, transform_input};
pub(super) use tile::{POSITIONS, Tile, Winograd, position_step};

use super::tiles::{BLOCK, product};
use crate::kernels::buffers::Buffer;
use crate::kernels::simd::Path;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

impl Winograd {
    /// Computes out `[batch, height, width, out_channels]` = bias + residual + the convolution of
    /// `source` `[batch, height, width, source_channels]`. The weight of (output channel o, source
    /// channel i, tap k) is w[o * out_stride + i * source_stride + k], or that of tap 8 - k if
    /// `flipped`.
    #[allow(clippy::too_many_arguments)] // as `Gather::run`
    pub fn run(
        &self,
        path: Path,
        source: &[f32],
        w: &[f32],
        strides: (usize, usize),
        flipped: bool,
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let lanes = path.lanes();
        let padded = self.out_channels.next_multiple_of(lanes);
        let mut weights = Buffer::new(POSITIONS * self.source_channels * padded);
        weights
            .par_chunks_mut(POSITIONS * self.source_channels * BLOCK * lanes)
            .enumerate()
            .for_each(|(block, weights)| {
                path.run(TransformWeights {
                    winograd: self,
                    w,
                    strides,
                    flipped,
                    first: block * BLOCK * lanes,
                    weights,
                });
            });
        // A task owns whole rows of tiles, so that its part of `out` is one slice.
        let cols = self.width.div_ceil(2);
        let rows_each = (Self::group(self.source_channels) / cols).max(1);
        let out_row = self.width * self.out_channels;
        let image = self.height * out_row;
        let mut bands: Vec<_> = out
            .chunks_mut(image)
            .enumerate()
            .flat_map(|(image, out)| {
                out.chunks_mut(2 * rows_each * out_row)
                    .enumerate()
                    .map(move |(band, out)| (image, 2 * rows_each * band, out))
            })
            .collect();
        // Small images: several bands per task, so that a group is full.
        let bands_each = (Self::group(self.source_channels)
            / (rows_each.min(self.height.div_ceil(2)) * cols))
            .max(1);
        bands.par_chunks_mut(bands_each).for_each(|bands| {
            path.run(ForwardTask {
                winograd: self,
                source,
                weights: &weights,
                bias,
                residual,
                bands,
            });
        });
    }
}

/// The transform of the weights of a block of output channels, to [position][source channel][output
/// channel of the block].
struct TransformWeights<'a> {
    winograd: &'a Winograd,
    w: &'a [f32],
    strides: (usize, usize),
    flipped: bool,
    first: usize,
    weights: &'a mut [f32],
}

impl WithSimd for TransformWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let inputs = self.winograd.source_channels;
        let width = self.weights.len() / (POSITIONS * inputs);
        let valid = width.min(self.winograd.out_channels - self.first);
        let (out_stride, source_stride) = self.strides;
        let mut taps = [[0.0f32; 64]; 9];
        for input in 0..inputs {
            for o in 0..valid {
                let w = &self.w[(self.first + o) * out_stride + input * source_stride..][..9];
                for k in 0..9 {
                    taps[k][o] = w[if self.flipped { 8 - k } else { k }];
                }
            }
            for at in (0..width).step_by(S::F32_LANES) {
                let mut rows = [[simd.splat_f32s(0.0); 4]; 3];
                for r in 0..3 {
                    let [a, b, c] =
                        [3 * r, 3 * r + 1, 3 * r + 2].map(|k| &taps[k][at..at + S::F32_LANES]);
                    rows[r] = kernel3(simd, load(simd, a), load(simd, b), load(simd, c));
                }
                for c in 0..4 {
                    let column = kernel3(simd, rows[0][c], rows[1][c], rows[2][c]);
                    for r in 0..4 {
                        let to = ((r * 4 + c) * inputs + input) * width + at;
                        store(simd, &mut self.weights[to..to + S::F32_LANES], column[r]);
                    }
                }
            }
        }
    }
}

/// Returns G x of three values: (x0, (x0 + x1 + x2) / 2, (x0 - x1 + x2) / 2, x2).
#[inline(always)]
fn kernel3<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> [S::f32s; 4] {
    let half = simd.splat_f32s(0.5);
    let (ends, middle) = (simd.mul_f32s(half, simd.add_f32s(a, c)), simd.mul_f32s(half, b));
    [a, simd.add_f32s(ends, middle), simd.sub_f32s(ends, middle), c]
}

/// A task: some bands of output rows (image, first row, the band's part of the output).
struct ForwardTask<'a, 'b> {
    winograd: &'a Winograd,
    source: &'a [f32],
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
    bands: &'a mut [(usize, usize, &'b mut [f32])],
}

impl WithSimd for ForwardTask<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { winograd: w, source, weights, bias, residual, bands } = self;
        let (inputs, channels, lanes) = (w.source_channels, w.out_channels, S::F32_LANES);
        let cols = w.width.div_ceil(2);
        let out_row = w.width * channels;
        // The tiles of the whole task, and the band that each belongs to.
        let (mut tiles, mut band_of) = (Vec::new(), Vec::new());
        for (band, (image, first_row, out)) in bands.iter().enumerate() {
            let rows = (out.len() / out_row).div_ceil(2);
            let tile =
                |i: usize| Tile { image: *image, row: first_row + i / cols * 2, col: i % cols * 2 };
            tiles.extend((0..rows * cols).map(tile));
            band_of.resize(tiles.len(), band);
        }
        let group = tiles.len();
        let v_step = position_step(group * inputs);
        let mut v = Buffer::new(POSITIONS * v_step);
        transform_input(simd, w, source, &tiles, (inputs, 0, inputs), &mut v);

        let mut products = Buffer::new(POSITIONS * position_step(group * BLOCK * lanes));
        for first in (0..channels).step_by(BLOCK * lanes) {
            let width = (channels - first).next_multiple_of(lanes).min(BLOCK * lanes);
            let step = position_step(group * width);
            for position in 0..POSITIONS {
                let weights =
                    &weights[(POSITIONS * first + position * width) * inputs..][..inputs * width];
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
                let products = &products[t * width..][..15 * step + width];
                let bias = bias.map(|bias| &bias[first..]);
                for at in (0..valid).step_by(lanes) {
                    let y = transform_output(simd, &products[at..], step);
                    let len = lanes.min(valid - at);
                    for r in 0..2 {
                        for c in 0..2 {
                            let (row, col) = (tile.row + r, tile.col + c);
                            if row >= w.height || col >= w.width {
                                continue;
                            }
                            let mut value = y[r][c];
                            if let Some(bias) = bias {
                                value = simd.add_f32s(value, load(simd, &bias[at..][..len]));
                            }
                            let within = col * channels + first + at;
                            if let Some(residual) = residual {
                                let from = (*image * w.height + row) * out_row + within;
                                value = simd.add_f32s(value, load(simd, &residual[from..][..len]));
                            }
                            store(
                                simd,
                                &mut out[(row - *first_row) * out_row + within..][..len],
                                value,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Returns A^T m A of one vector of channels: `products` begins with the first position's; the
/// others follow every `step` elements.
#[inline(always)]
fn transform_output<S: Simd>(simd: S, products: &[f32], step: usize) -> [[S::f32s; 2]; 2] {
    assert!(15 * step + S::F32_LANES <= products.len(), "a tile beyond its products");
    let mut columns = [[simd.splat_f32s(0.0); 2]; 4];
    for c in 0..4 {
        let mut m = [simd.splat_f32s(0.0); 4];
        for r in 0..4 {
            let at = (r * 4 + c) * step;
            m[r] = load(simd, &products[at..at + S::F32_LANES]);
        }
        columns[c] = output4(simd, m[0], m[1], m[2], m[3]);
    }
    let mut y = [[simd.splat_f32s(0.0); 2]; 2];
    for r in 0..2 {
        y[r] = output4(simd, columns[0][r], columns[1][r], columns[2][r], columns[3][r]);
    }
    y
}

/// Returns A^T m of F(2, 3): (m0 + m1 + m2, m1 - m2 - m3).
#[inline(always)]
fn output4<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s, d: S::f32s) -> [S::f32s; 2] {
    [simd.add_f32s(simd.add_f32s(a, b), c), simd.sub_f32s(simd.sub_f32s(b, c), d)]
}
