//! Scalar functions that the CPU kernels and the shaders share.

/// e^x in f32 by Cody-Waite reduction and a degree-6 polynomial: within 2 ulp over the normal range, 0 below -87.3 and
/// infinity above 88.7. Free of branches and calls, so that loops over it vectorise.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.3, 88.7);
    let n = (clamped * LOG2_E + ROUND) - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    // 2^n in two factors, since n = 128 itself is no f32 exponent.
    let half = (n * 0.5 + ROUND) - ROUND;
    let pow2 = |k: f32| f32::from_bits(((k as i32 + 127) as u32) << 23);
    let y = y * pow2(half) * pow2(n - half);
    if x < -87.3 {
        0.0
    } else if x > 88.7 {
        f32::INFINITY
    } else {
        y
    }
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// 32 pseudo-random bits of (`key`, `index`): two rounds of PCG's output permutation (Jarzynski and Olano, "Hash
/// Functions for GPU Rendering", 2020). The shaders hold the same lines; integers only, so every backend agrees.
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
            let (got, want) = (exp(x), x.exp());
            // 2 ulp relative: the polynomial's own error plus one rounding.
            assert!((got - want).abs() <= 2.4e-7 * want, "exp({x}) = {got}, expected {want}");
        }
        assert_eq!(exp(-1e9), 0.0);
        assert_eq!(exp(1e9), f32::INFINITY);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn hash_is_uniform_enough_for_dropout() {
        let n = 1 << 16;
        for key in [[0, 0], [1, 0], [0, 1], [0xdead_beef, 7]] {
            let kept = (0..n).filter(|&i| hash(key, i) >= u32::MAX / 10).count() as f64 / f64::from(n);
            // Binomial deviation sqrt(.09 / 65536) = 0.0012; five of them.
            assert!((kept - 0.9).abs() < 0.006, "{kept}");
        }
    }
}
