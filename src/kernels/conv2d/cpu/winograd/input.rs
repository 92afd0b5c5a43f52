//! The transform of the input, B^T d B.

use super::filter::Filter;
use super::tile::{Tile, Winograd, position_step};
use pulp::Simd;
use std::ops::Range;

#[inline(always)]
pub(in crate::kernels::conv2d::cpu) fn load<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    match S::as_simd_f32s(from).0 {
        [whole] => *whole,
        _ => simd.partial_load_f32s(from),
    }
}

#[inline(always)]
pub(in crate::kernels::conv2d::cpu) fn store<S: Simd>(simd: S, to: &mut [f32], value: S::f32s) {
    match S::as_mut_simd_f32s(to).0 {
        [whole] => *whole = value,
        _ => simd.partial_store_f32s(to, value),
    }
}

/// Writes B^T d B of `count` channels from `first` on to `v` [position][tile of the
/// group][channel].
#[inline(always)]
pub(in crate::kernels::conv2d::cpu) fn transform_input<
    S: Simd,
    F: Filter<M, A>,
    const M: usize,
    const A: usize,
>(
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
    // Not in the loop, which would fill it with zeros for every tile.
    let mut rows = [[simd.splat_f32s(0.0); A]; A];
    for (t, tile) in tiles.iter().enumerate() {
        let v = &mut v[t * count..][..(A * A - 1) * step + count];
        let mut from = 0;
        if tile.row > 0
            && tile.col > 0
            && tile.row + M < winograd.height
            && tile.col + M < winograd.width
        {
            let at = ((tile.image * winograd.height + tile.row - 1) * winograd.width + tile.col
                - 1)
                * channels
                + first;
            let pixels = &source[at..][..(A - 1) * (row + channels) + count];
            while from < whole {
                let pixels = (&pixels[from..], row, channels);
                transform_inner::<S, F, M, A>(simd, pixels, &mut v[from..], step, &mut rows);
                from += S::F32_LANES;
            }
        }
        if from < count {
            let border = Border::<A>::new(winograd, tile, channels, first);
            border.transform::<S, F, M>(simd, source, from..count, v, step, &mut rows);
        }
    }
}

/// Transforms one whole vector of channels for [`transform_input`], for a tile without pixels
/// outside the image: `pixels` begins with its first value; its rows and columns are `row` and
/// `col` elements apart.
#[inline(always)]
fn transform_inner<S: Simd, F: Filter<M, A>, const M: usize, const A: usize>(
    simd: S,
    (pixels, row, col): (&[f32], usize, usize),
    v: &mut [f32],
    step: usize,
    rows: &mut [[S::f32s; A]; A],
) {
    assert!(
        (A - 1) * (row + col) + S::F32_LANES <= pixels.len()
            && (A * A - 1) * step + S::F32_LANES <= v.len(),
        "a tile beyond its image"
    );
    for r in 0..A {
        let mut d = [simd.splat_f32s(0.0); A];
        for c in 0..A {
            let at = r * row + c * col;
            d[c] = load(simd, &pixels[at..at + S::F32_LANES]);
        }
        rows[r] = F::input(simd, d);
    }
    transform_columns::<S, F, M, A>(simd, rows, v, S::F32_LANES, step);
}

/// Transforms the columns of a tile, whose rows are transformed already, and writes them to the
/// first `len` elements of each position in `v`.
#[inline(always)]
fn transform_columns<S: Simd, F: Filter<M, A>, const M: usize, const A: usize>(
    simd: S,
    rows: &[[S::f32s; A]; A],
    v: &mut [f32],
    len: usize,
    step: usize,
) {
    for c in 0..A {
        let mut d = [simd.splat_f32s(0.0); A];
        for r in 0..A {
            d[r] = rows[r][c];
        }
        let column = F::input(simd, d);
        for r in 0..A {
            store(simd, &mut v[(r * A + c) * step..][..len], column[r]);
        }
    }
}

/// Where the pixels of a tile are; those outside the image are never read.
struct Border<const A: usize> {
    at: [[usize; A]; A],
    inside: [[bool; A]; A],
}

impl<const A: usize> Border<A> {
    #[inline(always)]
    fn new(winograd: &Winograd, tile: &Tile, channels: usize, first: usize) -> Self {
        let mut border = Self { at: [[0; A]; A], inside: [[true; A]; A] };
        for r in 0..A {
            for c in 0..A {
                let (y, x) = ((tile.row + r).wrapping_sub(1), (tile.col + c).wrapping_sub(1));
                border.inside[r][c] = y < winograd.height && x < winograd.width;
                if border.inside[r][c] {
                    let pixel = (tile.image * winograd.height + y) * winograd.width + x;
                    border.at[r][c] = pixel * channels + first;
                }
            }
        }
        border
    }

    /// Transforms the vectors of `range` for [`transform_input`]: pixels outside the image count
    /// as zeros.
    #[inline(always)]
    fn transform<S: Simd, F: Filter<M, A>, const M: usize>(
        &self,
        simd: S,
        source: &[f32],
        range: Range<usize>,
        v: &mut [f32],
        step: usize,
        rows: &mut [[S::f32s; A]; A],
    ) {
        for channel in range.clone().step_by(S::F32_LANES) {
            let len = S::F32_LANES.min(range.end - channel);
            let v = &mut v[channel..];
            if len == S::F32_LANES {
                self.vector::<S, F, M, true>(simd, source, (channel, len), v, step, rows);
            } else {
                self.vector::<S, F, M, false>(simd, source, (channel, len), v, step, rows);
            }
        }
    }

    /// Transforms one vector of channels, `WHOLE` or of `len` channels.
    #[inline(always)]
    fn vector<S: Simd, F: Filter<M, A>, const M: usize, const WHOLE: bool>(
        &self,
        simd: S,
        source: &[f32],
        (channel, len): (usize, usize),
        v: &mut [f32],
        step: usize,
        rows: &mut [[S::f32s; A]; A],
    ) {
        let len = if WHOLE { S::F32_LANES } else { len };
        for r in 0..A {
            let mut d = [simd.splat_f32s(0.0); A];
            for c in 0..A {
                if self.inside[r][c] {
                    d[c] = load(simd, &source[self.at[r][c] + channel..][..len]);
                }
            }
            rows[r] = F::input(simd, d);
        }
        let v = &mut v[..(A * A - 1) * step + len];
        transform_columns::<S, F, M, A>(simd, rows, v, len, step);
    }
}
