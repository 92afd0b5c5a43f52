//! The innermost loops of the gradients of the weights: sums over pixels of outer products, in
//! blocks that stay in vector registers as those of `tiles`.

use crate::kernels::simd::mul_add;
use pulp::Simd;

/// Runs of pixels: (first element in the scalar source, first in the vector source, pixels).
pub(super) type Run = (usize, usize, usize);

/// A tensor as pixels: its values, and the number of elements from one pixel of a run to the next.
pub(super) type Strided<'a> = (&'a [f32], usize);

/// Computes sums[i]`[NR vectors]` += sum over the pixels of `runs` of scalars[i] *
/// vectors`[NR vectors]`; `sums` is [MR]`[NR vectors]`. Lanes beyond the last channel add what
/// follows in memory, or nothing: their sums are meaningless.
#[inline(always)]
fn outer_block<S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    runs: &[Run],
    (scalars, scalar_step): Strided,
    (vectors, vector_step): Strided,
    sums: &mut [f32],
) {
    let width = NR * S::F32_LANES;
    let sums = &mut sums[..MR * width];
    let mut block = [[simd.splat_f32s(0.0); NR]; MR];
    for &(scalar, vector, count) in runs {
        let (scalars, vectors) = (&scalars[scalar..], &vectors[vector..]);
        let whole = whole_blocks(vectors.len(), vector_step, count, width);
        for pixel in 0..whole {
            let values = &scalars[pixel * scalar_step..][..MR];
            let channels = &vectors[pixel * vector_step..][..width];
            let channels = S::as_simd_f32s(channels).0;
            let mut b = [simd.splat_f32s(0.0); NR];
            b.copy_from_slice(&channels[..NR]);
            for i in 0..MR {
                let value = simd.splat_f32s(values[i]);
                for j in 0..NR {
                    block[i][j] = mul_add(simd, value, b[j], block[i][j]);
                }
            }
        }
    }
    let totals = S::as_mut_simd_f32s(sums).0.as_chunks_mut::<NR>().0;
    for i in 0..MR {
        for j in 0..NR {
            totals[i][j] = simd.add_f32s(totals[i][j], block[i][j]);
        }
    }
    // The last pixels of the tensor, where a whole block would reach beyond its end.
    for &(scalar, vector, count) in runs {
        let (scalars, vectors) = (&scalars[scalar..], &vectors[vector..]);
        for pixel in whole_blocks(vectors.len(), vector_step, count, width)..count {
            for (value, sums) in
                scalars[pixel * scalar_step..].iter().zip(sums.chunks_exact_mut(width))
            {
                for (sum, channel) in sums.iter_mut().zip(&vectors[pixel * vector_step..]) {
                    *sum += value * channel;
                }
            }
        }
    }
}

/// Returns the number of rows of the next tile, out of `left` rows.
pub(super) fn tile_rows(left: usize, registers: usize) -> usize {
    match left {
        8.. if registers >= 32 => 8,
        // 4 and 4 instead of 6 and 2.
        8 => 4,
        6.. if registers < 32 => 6,
        4.. => 4,
        few => few,
    }
}

/// Runs [`outer_block`] for `rows` rows (as [`tile_rows`] returns) and one vector if `one`, else
/// two.
#[inline(always)]
pub(super) fn outer_tile<S: Simd>(
    simd: S,
    (rows, one): (usize, bool),
    runs: &[Run],
    scalars: Strided,
    vectors: Strided,
    sums: &mut [f32],
) {
    macro_rules! tile {
        ($rows:literal) => {
            if one {
                outer_block::<S, $rows, 1>(simd, runs, scalars, vectors, sums)
            } else {
                outer_block::<S, $rows, 2>(simd, runs, scalars, vectors, sums)
            }
        };
    }
    match rows {
        8 => tile!(8),
        6 => tile!(6),
        4 => tile!(4),
        3 => tile!(3),
        2 => tile!(2),
        _ => tile!(1),
    }
}

/// Returns how many of `count` pixels, `step` elements apart, begin at least `width` elements
/// before the end.
#[inline(always)]
fn whole_blocks(len: usize, step: usize, count: usize, width: usize) -> usize {
    if (count - 1) * step + width <= len {
        count
    } else if len < width {
        0
    } else {
        (len - width) / step + 1
    }
}
