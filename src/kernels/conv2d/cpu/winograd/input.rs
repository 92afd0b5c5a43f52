//! The transform of the input, B^T d B.

use super::tile::{Tile, Winograd, position_step};
use pulp::Simd;
use std::ops::Range;

/// Returns B^T x of four rows: (x0 - x2, x1 + x2, x2 - x1, x1 - x3).
#[inline(always)]
fn input4<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s, d: S::f32s) -> [S::f32s; 4] {
    [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
}

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
pub(in crate::kernels::conv2d::cpu) fn transform_input<S: Simd>(
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
