//! The energy of images by spatial frequency, with the discrete cosine transform (DCT-II,
//! orthonormal). It distinguishes sharp images from blurred ones, which PSNR hardly does.

use crate::data::bytes_of;
use crate::kernels::gemm::{Matrix, product};
use rayon::prelude::*;

/// The transform for square images of one side. Column and row `u` of a transformed plane stand for
/// u / 2 cycles per image. Unlike the Fourier transform, it sees no edge between the right and left
/// borders.
pub struct Cosines {
    side: usize,
    /// `[side, side]`: row u is sqrt(2 / side) cos(pi (2 i + 1) u / (2 side)); the first row is
    /// sqrt(1 / side).
    rows: Vec<f32>,
}

impl Cosines {
    /// Creates the transform for images of `side` pixels a side.
    pub fn new(side: usize) -> Self {
        let (n, quarter) = (side as f64, std::f64::consts::FRAC_PI_2);
        let row = |u: usize| {
            let scale = if u == 0 { 1.0 / n } else { 2.0 / n }.sqrt();
            (0..side).map(move |i| (scale * (quarter * ((2 * i + 1) * u) as f64 / n).cos()) as f32)
        };
        Self { side, rows: (0..side).flat_map(row).collect() }
    }

    /// Returns the coefficients `[planes, side, side]` of `planes` of that shape.
    pub fn forward(&self, planes: &[f32]) -> Vec<f32> {
        self.sandwich(planes, Matrix::new(&self.rows, self.side))
    }

    /// Returns the planes with these `coefficients`, the inverse of [`Cosines::forward`].
    pub fn back(&self, coefficients: &[f32]) -> Vec<f32> {
        self.sandwich(coefficients, Matrix::new(&self.rows, self.side).t())
    }

    /// Computes m x m^T for each plane x.
    fn sandwich(&self, planes: &[f32], m: Matrix) -> Vec<f32> {
        let (n, area) = (self.side, self.side * self.side);
        let mut out = vec![0.0; planes.len()];
        out.par_chunks_exact_mut(area).zip(planes.par_chunks_exact(area)).for_each(
            |(out, plane)| {
                let mut half = vec![0.0; area];
                product((n, n, n), 1.0, m, Matrix::new(plane, n), &mut half, n);
                product((n, n, n), 1.0, Matrix::new(&half, n), m.t(), out, n);
            },
        );
        out
    }

    /// Returns the cycles per image of coefficient `at` of a plane, in any direction: hypot(row,
    /// column) / 2.
    pub fn cycles(&self, at: usize) -> f64 {
        ((at / self.side) as f64).hypot((at % self.side) as f64) / 2.0
    }

    /// Returns the band of [`Cosines::power`] that coefficient `at` belongs to: its cycles,
    /// rounded.
    pub fn band(&self, at: usize) -> usize {
        self.cycles(at).round() as usize
    }

    /// Returns the number of bands of [`Cosines::power`].
    pub fn bands(&self) -> usize {
        self.band(self.side * self.side - 1) + 1
    }

    /// Returns the mean square of a coefficient by band, over all planes of `images` `[N, 3, side,
    /// side]`; zeros for no images.
    pub fn power(&self, images: &[f32]) -> Vec<f64> {
        let area = self.side * self.side;
        let (mut sums, mut counts) = (vec![0.0; self.bands()], vec![0usize; self.bands()]);
        for some in images.chunks(64 * bytes_of(self.side)) {
            for plane in self.forward(some).chunks_exact(area) {
                for (at, v) in plane.iter().enumerate() {
                    let band = self.band(at);
                    sums[band] += f64::from(*v).powi(2);
                    counts[band] += 1;
                }
            }
        }
        sums.iter().zip(counts).map(|(sum, count)| sum / count.max(1) as f64).collect()
    }
}

/// Returns the energy of `images` `[N, 3, side, side]` in [-1, 1] above `cycles` cycles per image,
/// as a mean over all values: the part of their variance that is finer detail.
///
/// # Panics
/// If there are no images.
pub fn energy_above(cycles: f64, images: &[f32], side: usize) -> f64 {
    assert!(!images.is_empty(), "energy of no images");
    let (cosines, area) = (Cosines::new(side), side * side);
    let fine: Vec<bool> = (0..area).map(|at| cosines.cycles(at) > cycles).collect();
    let of_some = |some: &[f32]| {
        let coefficients = cosines.forward(some);
        let squares = coefficients
            .iter()
            .enumerate()
            .filter(|(at, _)| fine[at % area])
            .map(|(_, v)| f64::from(*v).powi(2));
        squares.sum::<f64>()
    };
    images.chunks(64 * bytes_of(side)).map(of_some).sum::<f64>() / images.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{self, Purpose};

    fn noise(side: usize, n: usize) -> Vec<f32> {
        rng::normal(&mut rng::stream(5, Purpose::Test, side as u64), n * bytes_of(side))
    }

    #[test]
    fn the_transform_preserves_energy_and_inverts() {
        for side in [16, 33] {
            let (cosines, images) = (Cosines::new(side), noise(side, 3));
            let coefficients = cosines.forward(&images);
            let energy = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            // f32 sums of up to 33 products, twice.
            assert!((energy(&coefficients) / energy(&images) - 1.0).abs() < 1e-5);
            let back = cosines.back(&coefficients);
            assert!(back.len() == images.len() && back.iter().all(|v| v.is_finite()));
            let worst = back.iter().zip(&images).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{worst}");
            assert!(
                coefficients.iter().zip(&images).any(|(a, b)| (a - b).abs() > 0.1),
                "it changes something"
            );
        }
    }

    #[test]
    fn a_wave_lies_in_the_band_of_its_cycles() {
        let (side, cosines) = (32, Cosines::new(32));
        for cycles in [2usize, 9, 15] {
            let wave = |i: usize| {
                (std::f64::consts::TAU * cycles as f64 * ((i % side) as f64 + 0.5) / side as f64)
                    .cos() as f32
            };
            let image: Vec<f32> = (0..bytes_of(side)).map(wave).collect();
            let power = cosines.power(&image);
            assert_eq!(power.len(), 23, "up to hypot(31, 31) / 2 cycles");
            let largest = (0..power.len()).max_by(|&a, &b| power[a].total_cmp(&power[b]));
            assert_eq!(largest, Some(cycles));
            let fine = energy_above(8.0, &image, side);
            assert!(
                (fine - if cycles > 8 { 0.5 } else { 0.0 }).abs() < 1e-5,
                "{fine} at {cycles} cycles"
            );
        }
    }

    #[test]
    fn blur_removes_the_energy_of_fine_detail() {
        let (side, images) = (32, noise(32, 4));
        let blurred: Vec<f32> =
            (0..images.len()).map(|i| (images[i] + images[(i + 1) % images.len()]) / 2.0).collect();
        assert!(energy_above(8.0, &blurred, side) < 0.6 * energy_above(8.0, &images, side));
        // White noise: every coefficient has the same energy, and 1 - pi 16^2 / (4 * 32^2) of them
        // are above 8 cycles.
        let all = energy_above(-1.0, &images, side);
        assert!((energy_above(8.0, &images, side) / all - 0.804).abs() < 0.03);
    }
}
