//! Interpolation between two images.

use crate::eval::psnr_ssim::mean_change;

/// The path from one z to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// A straight line.
    Linear,
    /// The great circle through the two directions, with the length interpolated (Shoemake 1985).
    /// If the directions are the same or opposite, or one vector is 0, no single great circle
    /// exists and the path is the straight line.
    Spherical,
}

/// The mean absolute difference of pixels in [0, 1] from which images can be told apart side by
/// side: 10 of 255 levels, 4 %.
pub const VISIBLE: f64 = 10.0 / 255.0;

/// The sine of the angle below which two directions count as the same or opposite.
const MIN_SINE: f64 = 1e-6;

/// Returns `n` evenly spaced points from `a` to `b`, both included: `[n, len]`.
///
/// # Panics
/// If `a` and `b` differ in length or `n` is below 2.
pub fn interpolate(a: &[f32], b: &[f32], n: usize, path: Path) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "interpolating between vectors of different lengths");
    assert!(n >= 2, "interpolating needs at least 2 points, not {n}");
    let mut out = a.to_vec();
    for i in 1..n - 1 {
        let t = i as f64 / (n - 1) as f64;
        let (of_a, of_b) = match path {
            Path::Linear => (1.0 - t, t),
            Path::Spherical => spherical(a, b, t),
        };
        out.extend(
            a.iter().zip(b).map(|(&a, &b)| (of_a * f64::from(a) + of_b * f64::from(b)) as f32),
        );
    }
    out.extend_from_slice(b);
    out
}

/// Returns the weights of `a` and `b` at `t`.
fn spherical(a: &[f32], b: &[f32], t: f64) -> (f64, f64) {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
    };
    let (length_a, length_b) = (dot(a, a).sqrt(), dot(b, b).sqrt());
    let angle = (dot(a, b) / (length_a * length_b)).clamp(-1.0, 1.0).acos();
    // NaN where a length is 0.
    if angle.sin().is_nan() || angle.sin() < MIN_SINE {
        return (1.0 - t, t);
    }
    let length = (1.0 - t) * length_a + t * length_b;
    let share = |t: f64, own: f64| length * (t * angle).sin() / angle.sin() / own;
    (share(1.0 - t, length_a), share(t, length_b))
}

/// Returns the mean absolute difference of pixels in [0, 1] between each of `images` `[n, image]`
/// in [-1, 1] and the next: `[n - 1]`.
pub fn changes(images: &[f32], image: usize) -> Vec<f64> {
    let each: Vec<&[f32]> = images.chunks_exact(image).collect();
    each.windows(2).map(|pair| mean_change(pair[0], pair[1])).collect()
}

/// Checks whether two rows of images `[n, image]` in [-1, 1] look the same: no pair of images
/// differs by [`VISIBLE`] or more per pixel on average.
///
/// # Panics
/// If the rows differ in length.
pub fn look_alike(a: &[f32], b: &[f32], image: usize) -> bool {
    assert_eq!(a.len(), b.len(), "rows of different lengths");
    let mut pairs = a.chunks_exact(image).zip(b.chunks_exact(image));
    pairs.all(|(a, b)| mean_change(a, b) < VISIBLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{self, Purpose};

    fn lengths(points: &[f32], dim: usize) -> Vec<f64> {
        points
            .chunks_exact(dim)
            .map(|p| p.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt())
            .collect()
    }

    #[test]
    fn both_paths_hit_their_ends_and_the_straight_one_its_midpoint() {
        let draws = rng::normal(&mut rng::stream(6, Purpose::Test, 0), 32);
        let (a, b) = draws.split_at(16);
        for path in [Path::Linear, Path::Spherical] {
            let points = interpolate(a, b, 5, path);
            assert_eq!((points.len(), &points[..16], &points[64..]), (80, a, b));
            assert_eq!(interpolate(a, b, 2, path), draws);
        }
        let middle = interpolate(&[1.0, 2.0], &[3.0, -2.0], 3, Path::Linear);
        assert_eq!(middle[2..4], [2.0, 0.0]);
    }

    #[test]
    fn the_spherical_path_keeps_the_length_and_turns_evenly() {
        let mut draws = rng::normal(&mut rng::stream(6, Purpose::Test, 1), 128);
        let (a, b) = draws.split_at_mut(64);
        for (half, length) in [(&mut *a, 2.0), (&mut *b, 4.0)] {
            let now = lengths(half, 64)[0];
            half.iter_mut().for_each(|v| *v *= (length / now) as f32);
        }
        let points = interpolate(a, b, 5, Path::Spherical);
        for (i, got) in lengths(&points, 64).into_iter().enumerate() {
            assert!((got - (2.0 + 0.5 * i as f64)).abs() < 1e-5, "length {got} at {i}");
        }
        let norms = lengths(&points, 64);
        let angle = |i: usize, j: usize| {
            let dot: f64 = (0..64)
                .map(|k| f64::from(points[i * 64 + k]) * f64::from(points[j * 64 + k]))
                .sum();
            (dot / norms[i] / norms[j]).acos()
        };
        for i in 0..4 {
            assert!((angle(i, i + 1) - angle(0, 4) / 4.0).abs() < 1e-4);
        }
        // Negative control: the straight line cuts through the sphere.
        assert!(lengths(&interpolate(a, b, 5, Path::Linear), 64)[2] < 2.9);
    }

    #[test]
    fn without_a_great_circle_the_path_is_straight() {
        for (a, b) in
            [([1.0f32, 1.0], [2.0f32, 2.0]), ([1.0, 0.0], [-1.0, 0.0]), ([0.0, 0.0], [1.0, 3.0])]
        {
            assert_eq!(
                interpolate(&a, &b, 4, Path::Spherical),
                interpolate(&a, &b, 4, Path::Linear)
            );
        }
    }

    #[test]
    fn rows_look_alike_until_one_image_differs_visibly() {
        let row = vec![0.0; 12];
        let with = |at: usize, levels: f32| {
            let mut other = row.clone();
            // [-1, 1] is 255 levels wide.
            other[at..at + 4].iter_mut().for_each(|v| *v += levels * 2.0 / 255.0);
            other
        };
        assert!(look_alike(&row, &row, 4));
        for at in [0, 8] {
            assert!(look_alike(&row, &with(at, 9.9), 4));
            assert!(!look_alike(&row, &with(at, 10.1), 4) && !look_alike(&with(at, 10.1), &row, 4));
        }
        assert!(!look_alike(&row, &with(0, f32::NAN), 4), "NaN looks like nothing else");
    }

    #[test]
    fn changes_are_those_of_pixels_between_0_and_1() {
        let got = changes(&[0.0, 0.0, 0.5, -0.5, 0.5, -0.5], 2);
        assert_eq!(got, [0.25, 0.0]);
        assert!(changes(&[0.0, 0.0], 2).is_empty());
    }
}
