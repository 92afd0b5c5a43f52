//! The transforms of Winograd's minimal filtering in one dimension, on vectors of channels.
//!
//! For M outputs of a kernel of 3 taps and their A = M + 2 inputs: y = A^T [(G g) * (B^T d)]. For
//! the gradient of the weights, M gradients of outputs act as the kernel and the taps are the
//! outputs, with the same B.

use crate::kernels::simd::mul_add;
use pulp::Simd;

/// A minimal filtering algorithm for tiles of M outputs, and A = M + 2 inputs, in each dimension.
pub(in crate::kernels::conv2d::cpu) trait Filter<const M: usize, const A: usize> {
    /// Returns B^T d.
    fn input<S: Simd>(simd: S, d: [S::f32s; A]) -> [S::f32s; A];

    /// Returns G g of the 3 taps of a kernel.
    fn kernel<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; A];

    /// Returns A^T m, the outputs.
    fn output<S: Simd>(simd: S, m: [S::f32s; A]) -> [S::f32s; M];

    /// Returns G g of the gradients of M outputs.
    fn gradient<S: Simd>(simd: S, g: [S::f32s; M]) -> [S::f32s; A];

    /// Returns A^T m, the gradients of 3 taps.
    fn weight<S: Simd>(simd: S, m: [S::f32s; A]) -> [S::f32s; 3];
}

/// F(2, 3) and F(3, 2) over the points 0, 1, -1 and infinity (Lavin and Gray, arXiv 1509.09308).
pub(in crate::kernels::conv2d::cpu) struct F2;

impl Filter<2, 4> for F2 {
    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
        [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
    }

    #[inline(always)]
    fn kernel<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 4] {
        let half = simd.splat_f32s(0.5);
        let (ends, middle) = (simd.mul_f32s(half, simd.add_f32s(a, c)), simd.mul_f32s(half, b));
        [a, simd.add_f32s(ends, middle), simd.sub_f32s(ends, middle), c]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
        [simd.add_f32s(simd.add_f32s(a, b), c), simd.sub_f32s(simd.sub_f32s(b, c), d)]
    }

    #[inline(always)]
    fn gradient<S: Simd>(simd: S, [a, b]: [S::f32s; 2]) -> [S::f32s; 4] {
        let half = simd.splat_f32s(0.5);
        let (x, y) = (simd.mul_f32s(half, a), simd.mul_f32s(half, b));
        [a, simd.add_f32s(x, y), simd.sub_f32s(x, y), b]
    }

    #[inline(always)]
    fn weight<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 3] {
        let both = simd.add_f32s(b, c);
        [simd.add_f32s(a, both), simd.sub_f32s(b, c), simd.sub_f32s(both, d)]
    }
}

/// F(4, 3) and F(3, 4) over the points 0, P, -P, Q = 1 / P, -Q and infinity. With P = 2/3 the
/// rounding error is a quarter of that with the usual 1 and 2, and four times that of [`F2`].
pub(in crate::kernels::conv2d::cpu) struct F4;

const P: f32 = 2.0 / 3.0;
const Q: f32 = 1.5;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;
/// The denominators of the points' rows of G.
const OF_P: f32 = 1.0 / (2.0 * P2 * (P2 - Q2));
const OF_Q: f32 = 1.0 / (2.0 * Q2 * (Q2 - P2));

/// Returns a + factor * b.
#[inline(always)]
fn plus<S: Simd>(simd: S, a: S::f32s, factor: f32, b: S::f32s) -> S::f32s {
    mul_add(simd, simd.splat_f32s(factor), b, a)
}

#[inline(always)]
fn times<S: Simd>(simd: S, factor: f32, a: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), a)
}

/// Returns even + odd and even - odd.
#[inline(always)]
fn both<S: Simd>(simd: S, even: S::f32s, odd: S::f32s) -> [S::f32s; 2] {
    [simd.add_f32s(even, odd), simd.sub_f32s(even, odd)]
}

impl Filter<4, 6> for F4 {
    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; 6]) -> [S::f32s; 6] {
        let first = plus(simd, simd.add_f32s(a, e), -(P2 + Q2), c);
        let last = plus(simd, simd.add_f32s(b, f), -(P2 + Q2), d);
        let (even, odd) = (plus(simd, e, -Q2, c), plus(simd, d, -Q2, b));
        let [p, minus_p] = [plus(simd, even, P, odd), plus(simd, even, -P, odd)];
        let (even, odd) = (plus(simd, e, -P2, c), plus(simd, d, -P2, b));
        let [q, minus_q] = [plus(simd, even, Q, odd), plus(simd, even, -Q, odd)];
        [first, p, minus_p, q, minus_q, last]
    }

    #[inline(always)]
    fn kernel<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 6] {
        let [p, minus_p] =
            both(simd, plus(simd, times(simd, OF_P, a), OF_P * P2, c), times(simd, OF_P * P, b));
        let [q, minus_q] =
            both(simd, plus(simd, times(simd, OF_Q, a), OF_Q * Q2, c), times(simd, OF_Q * Q, b));
        [a, p, minus_p, q, minus_q, c]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, p, minus_p, q, minus_q, f]: [S::f32s; 6]) -> [S::f32s; 4] {
        let ([p, dp], [q, dq]) = (both(simd, p, minus_p), both(simd, q, minus_q));
        [
            simd.add_f32s(a, simd.add_f32s(p, q)),
            plus(simd, times(simd, Q, dq), P, dp),
            plus(simd, times(simd, Q2, q), P2, p),
            plus(simd, plus(simd, f, Q2 * Q, dq), P2 * P, dp),
        ]
    }

    #[inline(always)]
    fn gradient<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 6] {
        let even = plus(simd, times(simd, OF_P, a), OF_P * P2, c);
        let odd = plus(simd, times(simd, OF_P * P, b), OF_P * P2 * P, d);
        let [p, minus_p] = both(simd, even, odd);
        let even = plus(simd, times(simd, OF_Q, a), OF_Q * Q2, c);
        let odd = plus(simd, times(simd, OF_Q * Q, b), OF_Q * Q2 * Q, d);
        let [q, minus_q] = both(simd, even, odd);
        [a, p, minus_p, q, minus_q, d]
    }

    #[inline(always)]
    fn weight<S: Simd>(simd: S, [a, p, minus_p, q, minus_q, f]: [S::f32s; 6]) -> [S::f32s; 3] {
        let ([p, dp], [q, dq]) = (both(simd, p, minus_p), both(simd, q, minus_q));
        [
            simd.add_f32s(a, simd.add_f32s(p, q)),
            plus(simd, times(simd, Q, dq), P, dp),
            plus(simd, plus(simd, f, Q2, q), P2, p),
        ]
    }
}
