//! The innermost loops of the CPU convolutions: blocks of sums that stay in vector registers.
//!
//! A tile is MR rows (pixels or channels) by NR vectors of channels. Each step loads NR vectors,
//! broadcasts MR scalars and does MR * NR fused multiply-adds. All tiles are generic over the
//! instruction set; [`Path::run`](crate::kernels::simd::Path::run) compiles them once for each and
//! picks one at run time.

use crate::kernels::simd::mul_add;
use pulp::Simd;

/// Channel vectors in a full block; the last block of a tensor may hold one.
pub(super) const BLOCK: usize = 2;

/// The number of products summed from zero before they are added to a total. Summing in blocks
/// keeps rounding errors small.
const SUM: usize = 384;

/// Stores the first `valid` channels of the block in `out`.
#[inline(always)]
fn store<S: Simd, const NR: usize>(simd: S, out: &mut [f32], valid: usize, sums: &[S::f32s; NR]) {
    for (part, sum) in out[..valid].chunks_mut(S::F32_LANES).zip(sums) {
        match S::as_mut_simd_f32s(part).0 {
            [whole] => *whole = *sum,
            _ => simd.partial_store_f32s(part, *sum),
        }
    }
}

#[inline(always)]
fn add<S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    totals: &mut [[S::f32s; NR]; MR],
    sums: &[[S::f32s; NR]; MR],
) {
    for i in 0..MR {
        for j in 0..NR {
            totals[i][j] = simd.add_f32s(totals[i][j], sums[i][j]);
        }
    }
}

/// The pixels and taps of one class of outputs, which use the same taps.
pub(super) struct Pixels<'a> {
    /// The source index at which the taps of each output begin.
    pub source: &'a [usize],
    /// The output index at which the channels of each output begin.
    pub out: &'a [usize],
    /// Rows of taps.
    pub tap_rows: usize,
    /// Source elements from one row of taps to the next.
    pub row_step: usize,
    /// Contiguous elements of each row of taps.
    pub row_len: usize,
}

/// Computes sums[i]`[NR vectors]` += sum over c of values[i][c] * weights[c]`[NR vectors]`. Each of
/// `values` is as long as `weights`.
#[inline(always)]
fn accumulate<S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    values: &[&[f32]; MR],
    weights: &[[S::f32s; NR]],
    sums: &mut [[S::f32s; NR]; MR],
) {
    // Four steps share the bounds checks, which would otherwise cost as much as half of the
    // products.
    let (fours, rest) = weights.as_chunks::<4>();
    let mut value_fours: [&[[f32; 4]]; MR] = [&[]; MR];
    let mut value_rests: [&[f32]; MR] = [&[]; MR];
    for i in 0..MR {
        (value_fours[i], value_rests[i]) = values[i].as_chunks::<4>();
        value_fours[i] = &value_fours[i][..fours.len()];
        value_rests[i] = &value_rests[i][..rest.len()];
    }
    for (four, vectors) in fours.iter().enumerate() {
        for step in 0..4 {
            for i in 0..MR {
                let value = simd.splat_f32s(value_fours[i][four][step]);
                for j in 0..NR {
                    sums[i][j] = mul_add(simd, value, vectors[step][j], sums[i][j]);
                }
            }
        }
    }
    for (step, vectors) in rest.iter().enumerate() {
        for i in 0..MR {
            let value = simd.splat_f32s(value_rests[i][step]);
            for j in 0..NR {
                sums[i][j] = mul_add(simd, value, vectors[j], sums[i][j]);
            }
        }
    }
}

/// Computes out[pixel][0..valid] = bias + residual + sum over taps and source channels of source *
/// weights, for all `pixels`. `weights` is [tap row][element]`[NR vectors]`, `bias` NR vectors.
#[inline(always)]
fn gather_block<S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    pixels: &Pixels,
    source: &[f32],
    weights: &[f32],
    bias: &[f32],
    residual: Option<&[f32]>,
    (out, valid): (&mut [f32], usize),
) {
    let weights = pulp::bytemuck::cast_slice::<f32, S::f32s>(weights).as_chunks::<NR>().0;
    let bias = pulp::bytemuck::cast_slice::<f32, S::f32s>(bias).as_chunks::<NR>().0[0];
    let count = pixels.source.len();
    for first in (0..count).step_by(MR) {
        // The last tile repeats the last pixel, which is then written again with the same value.
        let at: [usize; MR] = std::array::from_fn(|i| (first + i).min(count - 1));
        let mut totals = [bias; MR];
        let mut sums = [[simd.splat_f32s(0.0); NR]; MR];
        let mut summed = 0;
        for row in 0..pixels.tap_rows {
            let from = row * pixels.row_len;
            for start in (0..pixels.row_len).step_by(SUM) {
                let weights = &weights[from + start..from + pixels.row_len.min(start + SUM)];
                let mut values: [&[f32]; MR] = [&[]; MR];
                for i in 0..MR {
                    values[i] = &source[pixels.source[at[i]] + row * pixels.row_step + start..]
                        [..weights.len()];
                }
                accumulate(simd, &values, weights, &mut sums);
                summed += weights.len();
                if summed >= SUM {
                    add(simd, &mut totals, &sums);
                    sums = [[simd.splat_f32s(0.0); NR]; MR];
                    summed = 0;
                }
            }
        }
        add(simd, &mut totals, &sums);
        for i in 0..MR {
            if let Some(residual) = residual {
                for (part, total) in
                    residual[pixels.out[at[i]]..][..valid].chunks(S::F32_LANES).zip(&mut totals[i])
                {
                    *total = simd.add_f32s(*total, simd.partial_load_f32s(part));
                }
            }
            store::<S, NR>(simd, &mut out[pixels.out[at[i]]..], valid, &totals[i]);
        }
    }
}

/// Computes out[row]`[NR vectors]` = sum over c of source[row][c] * weights[c]`[NR vectors]`:
/// `source` is [row][weights.len()], `out` [row]`[NR vectors]`.
#[inline(always)]
fn product_block<S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    source: &[f32],
    weights: &[f32],
    out: &mut [f32],
) {
    let weights = pulp::bytemuck::cast_slice::<f32, S::f32s>(weights).as_chunks::<NR>().0;
    let out = pulp::bytemuck::cast_slice_mut::<f32, S::f32s>(out).as_chunks_mut::<NR>().0;
    let len = weights.len();
    let rows = source.len() / len;
    for first in (0..rows).step_by(MR) {
        let at: [usize; MR] = std::array::from_fn(|i| (first + i).min(rows - 1));
        let mut totals = [[simd.splat_f32s(0.0); NR]; MR];
        for start in (0..len).step_by(SUM) {
            let weights = &weights[start..len.min(start + SUM)];
            let mut values: [&[f32]; MR] = [&[]; MR];
            for i in 0..MR {
                values[i] = &source[at[i] * len + start..][..weights.len()];
            }
            let mut sums = [[simd.splat_f32s(0.0); NR]; MR];
            accumulate(simd, &values, weights, &mut sums);
            if start == 0 {
                totals = sums;
            } else {
                add(simd, &mut totals, &sums);
            }
        }
        for i in 0..MR {
            out[at[i]] = totals[i];
        }
    }
}

/// Computes the matrix product `out` = `source` * `weights` with the tile that suits this
/// instruction set: `source` is [row][channel], `weights` [channel]`[width]` and `out`
/// [row]`[width]`, where `width` is one vector or two.
#[inline(always)]
pub(super) fn product<S: Simd>(
    simd: S,
    source: &[f32],
    weights: &[f32],
    out: &mut [f32],
    width: usize,
) {
    match (width == S::F32_LANES, S::REGISTER_COUNT >= 32) {
        (false, true) => product_block::<S, 8, 2>(simd, source, weights, out),
        (true, true) => product_block::<S, 12, 1>(simd, source, weights, out),
        (false, false) => product_block::<S, 6, 2>(simd, source, weights, out),
        (true, false) => product_block::<S, 8, 1>(simd, source, weights, out),
    }
}

/// Runs [`gather_block`] with the tile that suits this instruction set and `bias.len()`, one vector
/// or two.
#[inline(always)]
pub(super) fn gather_any<S: Simd>(
    simd: S,
    pixels: &Pixels,
    source: &[f32],
    weights: &[f32],
    bias: &[f32],
    residual: Option<&[f32]>,
    out: (&mut [f32], usize),
) {
    match (bias.len() == S::F32_LANES, S::REGISTER_COUNT >= 32) {
        (false, true) => {
            gather_block::<S, 8, 2>(simd, pixels, source, weights, bias, residual, out)
        }
        (true, true) => {
            gather_block::<S, 12, 1>(simd, pixels, source, weights, bias, residual, out)
        }
        (false, false) => {
            gather_block::<S, 6, 2>(simd, pixels, source, weights, bias, residual, out)
        }
        (true, false) => {
            gather_block::<S, 8, 1>(simd, pixels, source, weights, bias, residual, out)
        }
    }
}

/// Computes out[pixel][0..OC] = bias + residual + sum over taps and source channels, for few output
/// channels `OC`: vectors run along taps and source channels instead, and are summed at the end.
/// `weights` is [tap row][output channel][element].
#[inline(always)]
pub(super) fn gather_dots<S: Simd, const MR: usize, const OC: usize>(
    simd: S,
    pixels: &Pixels,
    source: &[f32],
    weights: &[f32],
    bias: &[f32],
    residual: Option<&[f32]>,
    out: &mut [f32],
) {
    let count = pixels.source.len();
    for first in (0..count).step_by(MR) {
        let at: [usize; MR] = std::array::from_fn(|i| (first + i).min(count - 1));
        let mut sums = [[simd.splat_f32s(0.0); OC]; MR];
        for row in 0..pixels.tap_rows {
            let weights = &weights[row * OC * pixels.row_len..][..OC * pixels.row_len];
            let weights: [_; OC] = std::array::from_fn(|o| {
                S::as_simd_f32s(&weights[o * pixels.row_len..][..pixels.row_len])
            });
            let values: [_; MR] = std::array::from_fn(|i| {
                S::as_simd_f32s(
                    &source[pixels.source[at[i]] + row * pixels.row_step..][..pixels.row_len],
                )
            });
            let whole = pixels.row_len / S::F32_LANES;
            let (weights, weight_ends) = (weights.map(|w| &w.0[..whole]), weights.map(|w| w.1));
            let (values, value_ends) = (values.map(|v| &v.0[..whole]), values.map(|v| v.1));
            for step in 0..whole {
                for i in 0..MR {
                    let value = values[i][step];
                    for o in 0..OC {
                        sums[i][o] = mul_add(simd, value, weights[o][step], sums[i][o]);
                    }
                }
            }
            if !weight_ends[0].is_empty() {
                let mut ends = [simd.splat_f32s(0.0); OC];
                for o in 0..OC {
                    ends[o] = simd.partial_load_f32s(weight_ends[o]);
                }
                for i in 0..MR {
                    let value = simd.partial_load_f32s(value_ends[i]);
                    for o in 0..OC {
                        sums[i][o] = mul_add(simd, value, ends[o], sums[i][o]);
                    }
                }
            }
        }
        for i in 0..MR {
            let residual = residual.map(|r| &r[pixels.out[at[i]]..][..OC]);
            let out = &mut out[pixels.out[at[i]]..][..OC];
            for o in 0..OC {
                out[o] =
                    bias[o] + residual.map_or(0.0, |r| r[o]) + simd.reduce_sum_f32s(sums[i][o]);
            }
        }
    }
}
