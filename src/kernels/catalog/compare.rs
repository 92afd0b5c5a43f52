//! Tolerances between two computations of the same values.

use serde::Serialize;

/// The tolerance |got - want| <= relative * max|want| + absolute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerance {
    /// The part relative to the largest expected magnitude.
    pub relative: f32,
    /// The absolute part, which is added.
    pub absolute: f32,
}

impl Tolerance {
    /// Makes a tolerance from both parts.
    pub const fn new(relative: f32, absolute: f32) -> Self {
        Self { relative, absolute }
    }

    /// Returns the largest error of `got` as a multiple of the tolerance: values up to 1 pass. It
    /// is infinite if a value on either side isn't finite, if the lengths differ, or if there is
    /// nothing to compare.
    pub fn error(self, got: &[f32], want: &[f32]) -> f32 {
        if got.len() != want.len()
            || want.is_empty()
            || !got.iter().chain(want).all(|v| v.is_finite())
        {
            return f32::INFINITY;
        }
        let tolerated =
            self.relative * want.iter().fold(0.0f32, |m, v| m.max(v.abs())) + self.absolute;
        got.iter().zip(want).fold(0.0f32, |m, (g, w)| m.max((g - w).abs())) / tolerated
    }

    /// Returns what negative controls add to one value: three times the tolerance, which is
    /// detected even if that value was already off by the whole tolerance.
    pub fn wrong(self, want: &[f32]) -> f32 {
        want.iter().fold(0.0f32, |m, v| m.max(v.abs())) * 3.0 * self.relative + 3.0 * self.absolute
    }
}

/// The tolerances of each kind of kernel, compared with the reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerances {
    /// For the kernels of the CPU backend.
    pub cpu: Tolerance,
    /// For kernels in WGSL, whose exponentials, divisions and roots depend on the driver.
    pub wgsl: Tolerance,
}

impl Tolerances {
    /// Makes the same tolerance for both.
    pub const fn both(relative: f32, absolute: f32) -> Self {
        let both = Tolerance::new(relative, absolute);
        Self { cpu: both, wgsl: both }
    }

    /// The tolerances of the self test, which compares adapters with the CPU backend. Errors from
    /// sums of up to 2,304 products in another order and from the drivers' own exponentials stay
    /// below a tenth of it; those of an indexing error or a missing barrier are far above.
    pub const SELF_TEST: Self = Self::both(1e-4, 1e-5);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance::new(1e-3, 1e-6);

    #[test]
    fn errors_are_multiples_of_the_tolerance() {
        let want = [0.0, -2.0, 1.0];
        assert_eq!(TOLERANCE.error(&want, &want), 0.0);
        let off = TOLERANCE.error(&[0.004002, -2.0, 1.0], &want);
        assert!((off - 2.0).abs() < 1e-3, "{off}");
        let mut wrong = want;
        wrong[2] += TOLERANCE.wrong(&want);
        assert!(TOLERANCE.error(&wrong, &want) > 1.0);
    }

    #[test]
    fn values_that_cannot_be_compared_never_pass() {
        for (got, want) in [
            (&[f32::NAN][..], &[1.0][..]),
            (&[1.0], &[f32::INFINITY]),
            (&[1.0], &[1.0, 2.0]),
            (&[], &[]),
        ] {
            assert_eq!(TOLERANCE.error(got, want), f32::INFINITY);
        }
    }
}
