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

use super::tiles::{BLOCK, product};
use crate::kernels::buffers::Buffer;
use crate::kernels::simd::Path;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Positions of a transformed tile.
pub(super) const POSITIONS: usize = 16;

/// Returns the number of elements from one position to the next, for positions of `len` elements:
/// one cache line more, or the 16 stores of a tile would compete for the same few lines of the
/// first-level cache.
pub(super) fn position_step(len: usize) -> usize {
    len.next_multiple_of(16) + 16
}

/// A convolution with 3x3 kernels, stride 1 and padding 1.
pub(super) struct Winograd {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    /// Channels of what is read (x, or dy for the gradient of the input).
    pub source_channels: usize,
    /// Channels of what is written.
    pub out_channels: usize,
}

/// A 2x2 tile of the output: its image and first pixel.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub image: usize,
    pub row: usize,
    pub col: usize,
}

impl Winograd {
    /// Checks whether it pays: enough tiles to make up for transforming the weights, and enough
    /// channels for transforming the tiles.
    pub fn pays(&self) -> bool {
        self.height >= 4
            && self.width >= 4
            && self.source_channels >= 12
            && self.out_channels >= 12
            && self.tiles() >= 32
    }

    /// Checks the same for the gradient of the weights, where each task transforms its part of dy
    /// again.
    pub fn pays_for_weights(&self) -> bool {
        self.pays() && self.tiles() >= 64 && (self.out_channels >= 48 || self.source_channels <= 64)
    }

    pub fn tiles(&self) -> usize {
        self.batch * self.height.div_ceil(2) * self.width.div_ceil(2)
    }

    pub fn tile(&self, index: usize) -> Tile {
        let (rows, cols) = (self.height.div_ceil(2), self.width.div_ceil(2));
        Tile { image: index / (rows * cols), row: index / cols % rows * 2, col: index % cols * 2 }
    }

    /// Returns the number of tiles in a group, whose transform of `channels` channels takes part of
    /// the second-level cache.
    pub fn group(channels: usize) -> usize {
        (4096 / channels).next_multiple_of(8).clamp(16, 64)
    }

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

/// Returns B^T x of four rows: (x0 - x2, x1 + x2, x2 - x1, x1 - x3).
#[inline(always)]
fn input4<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s, d: S::f32s) -> [S::f32s; 4] {
    [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
}

#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    match S::as_simd_f32s(from).0 {
        [whole] => *whole,
        _ => simd.partial_load_f32s(from),
    }
}

#[inline(always)]
pub(super) fn store<S: Simd>(simd: S, to: &mut [f32], value: S::f32s) {
    match S::as_mut_simd_f32s(to).0 {
        [whole] => *whole = value,
        _ => simd.partial_store_f32s(to, value),
    }
}

/// Writes B^T d B of `count` channels from `first` on to `v` [position][tile of the
/// group][channel].
#[inline(always)]
pub(super) fn transform_input<S: Simd>(
    simd: S,
    winograd: &Winograd,
    source: &[f32],
    tiles: &[Tile],
    (channels, first, count): (usize, usize, usize),
    v: &mut [f32],
) {
    let step = position_step(tiles.len() * count);
    let whole = count / S::F32_LANES * S::F32_LANES;
    let row = winograd.width * channels;
    for (t, tile) in tiles.iter().enumerate() {
        let v = &mut v[t * count..][..15 * step + count];
        let mut from = 0;
        if tile.row > 0
            && tile.col > 0
            && tile.row + 2 < winograd.height
            && tile.col + 2 < winograd.width
        {
            let at = ((tile.image * winograd.height + tile.row - 1) * winograd.width + tile.col
                - 1)
                * channels
                + first;
            let pixels = &source[at..][..3 * (row + channels) + count];
            while from < whole {
                transform_inner(simd, (&pixels[from..], row, channels), &mut v[from..], step);
                from += S::F32_LANES;
            }
        }
        if from < count {
            transform_border(simd, winograd, source, tile, (channels, first), from..count, v, step);
        }
    }
}

/// Transforms one whole vector of channels for [`transform_input`], for a tile without pixels
/// outside the image: `pixels` begins with its first value; its rows and columns are `row` and
/// `col` elements apart.
#[inline(always)]
fn transform_inner<S: Simd>(
    simd: S,
    (pixels, row, col): (&[f32], usize, usize),
    v: &mut [f32],
    step: usize,
) {
    assert!(
        3 * (row + col) + S::F32_LANES <= pixels.len() && 15 * step + S::F32_LANES <= v.len(),
        "a tile beyond its image"
    );
    let mut rows = [[simd.splat_f32s(0.0); 4]; 4];
    for r in 0..4 {
        let mut d = [simd.splat_f32s(0.0); 4];
        for c in 0..4 {
            let at = r * row + c * col;
            d[c] = load(simd, &pixels[at..at + S::F32_LANES]);
        }
        rows[r] = input4(simd, d[0], d[1], d[2], d[3]);
    }
    for c in 0..4 {
        let column = input4(simd, rows[0][c], rows[1][c], rows[2][c], rows[3][c]);
        for r in 0..4 {
            let at = (r * 4 + c) * step;
            store(simd, &mut v[at..at + S::F32_LANES], column[r]);
        }
    }
}

/// Transforms the vectors of `range` for [`transform_input`], for any tile: pixels outside the
/// image count as zeros.
#[allow(clippy::too_many_arguments)] // as `transform_input`, of which it is a part
#[inline(always)]
fn transform_border<S: Simd>(
    simd: S,
    winograd: &Winograd,
    source: &[f32],
    tile: &Tile,
    (channels, first): (usize, usize),
    range: Range<usize>,
    v: &mut [f32],
    step: usize,
) {
    // Where the tile's pixels are; those outside the image are never read.
    let mut at = [0usize; 16];
    let mut inside = [true; 16];
    for r in 0..4 {
        for c in 0..4 {
            let (y, x) = ((tile.row + r).wrapping_sub(1), (tile.col + c).wrapping_sub(1));
            inside[r * 4 + c] = y < winograd.height && x < winograd.width;
            if inside[r * 4 + c] {
                at[r * 4 + c] =
                    ((tile.image * winograd.height + y) * winograd.width + x) * channels + first;
            }
        }
    }
    for channel in range.clone().step_by(S::F32_LANES) {
        let len = S::F32_LANES.min(range.end - channel);
        if len == S::F32_LANES {
            transform_vector::<S, true>(
                simd,
                source,
                (&at, &inside),
                channel,
                len,
                &mut v[channel..],
                step,
            );
        } else {
            transform_vector::<S, false>(
                simd,
                source,
                (&at, &inside),
                channel,
                len,
                &mut v[channel..],
                step,
            );
        }
    }
}

/// Transforms one vector of channels for [`transform_border`], `WHOLE` or of `len` channels.
#[inline(always)]
fn transform_vector<S: Simd, const WHOLE: bool>(
    simd: S,
    source: &[f32],
    (at, inside): (&[usize; 16], &[bool; 16]),
    channel: usize,
    len: usize,
    v: &mut [f32],
    step: usize,
) {
    let len = if WHOLE { S::F32_LANES } else { len };
    let mut rows = [[simd.splat_f32s(0.0); 4]; 4];
    for r in 0..4 {
        let mut d = [simd.splat_f32s(0.0); 4];
        for c in 0..4 {
            if inside[r * 4 + c] {
                d[c] = load(simd, &source[at[r * 4 + c] + channel..][..len]);
            }
        }
        rows[r] = input4(simd, d[0], d[1], d[2], d[3]);
    }
    let v = &mut v[..15 * step + len];
    for c in 0..4 {
        let column = input4(simd, rows[0][c], rows[1][c], rows[2][c], rows[3][c]);
        for r in 0..4 {
            store(simd, &mut v[(r * 4 + c) * step..][..len], column[r]);
        }
    }
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
