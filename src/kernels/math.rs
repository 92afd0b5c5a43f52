//! Scalar functions that the CPU kernels and the shaders share.

/// Returns a * b + c, rounded once if `FMA` says that the processor has an instruction for it.
#[inline(always)]
pub fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Returns e^x in f32 by Cody-Waite reduction and a degree-6 polynomial: within 2 ulp for x in
/// [-87, 88]; outside, the value at the nearer end; NaN for NaN. Free of branches and calls, so
/// that loops over it vectorise.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to the nearest integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // Comparisons with NaN are false, so NaN passes both clamps.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let rounded = mul_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = mul_add::<FMA>(n, -LN2_LOW, mul_add::<FMA>(n, -LN2_HIGH, x));
    let p = mul_add::<FMA>(1.987_569_1e-4, r, 1.398_199_9e-3);
    let p = mul_add::<FMA>(p, r, 8.333_452e-3);
    let p = mul_add::<FMA>(p, r, 4.166_579_6e-2);
    let p = mul_add::<FMA>(p, r, 1.666_666_5e-1);
    let p = mul_add::<FMA>(p, r, 0.5);
    let y = mul_add::<FMA>(p * r, r, r) + 1.0;
    // 2^n by its exponent bits; n lies within -126 and 127.
    y * f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23))
}

/// Returns 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Returns 32 pseudo-random bits for (`key`, `index`): two rounds of PCG's output permutation
/// (Jarzynski and Olano, "Hash Functions for GPU Rendering", 2020). The shaders contain the same
/// code; it uses integers only, so all backends agree.
#[inline(always)]
pub fn hash(key: [u32; 2], index: u32) -> u32 {
    pcg(pcg(index ^ key[0]) ^ key[1])
}

#[inline(always)]
fn pcg(x: u32) -> u32 {
    let state = x.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for i in -8_700..=8_800 {
            let x = i as f32 * 0.01;
            for (got, want) in [(exp::<false>(x), x.exp()), (exp::<true>(x), x.exp())] {
                // 2 ulp relative: the polynomial's own error plus one rounding.
                assert!((got - want).abs() <= 2.4e-7 * want, "exp({x}) = {got}, expected {want}");
            }
        }
        assert_eq!(exp::<true>(-1e9), exp::<true>(-87.0));
        assert_eq!(exp::<true>(f32::INFINITY), exp::<true>(88.0));
        assert_eq!(exp::<true>(0.0), 1.0);
        assert!(exp::<true>(f32::NAN).is_nan() && exp::<false>(f32::NAN).is_nan());
        assert!(sigmoid::<true>(-1e9) < 1e-37 && sigmoid::<true>(1e9) == 1.0);
    }

    #[test]
    fn hash_is_uniform_enough_for_dropout() {
        let n = 1 << 16;
        for key in [[0, 0], [1, 0], [0, 1], [0xdead_beef, 7]] {
            let kept =
                (0..n).filter(|&i| hash(key, i) >= u32::MAX / 10).count() as f64 / f64::from(n);
            // Five binomial standard deviations of sqrt(.09 / 65536) = 0.0012.
            assert!((kept - 0.9).abs() < 0.006, "{kept}");
        }
    }
}
