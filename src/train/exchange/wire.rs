//! How numbers travel: as they are, or as half-precision floats with a scale for each piece.

use half::f16;

/// What numbers travel as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// 32 bits: as one process computes, bit for bit.
    #[default]
    F32,
    /// 16 bits, half the bytes: gradients and changes of weights are rounded, and results are
    /// others.
    F16,
}

/// The largest number of a piece becomes at most that: below f16's 65,504.
const LARGEST: f32 = 16384.0;
/// Bytes of the scale that leads a piece.
const SCALE: usize = 4;

impl Wire {
    /// Bytes of pieces of so many numbers; of none there is nothing.
    pub(super) fn bytes(self, numbers: &[usize]) -> Vec<usize> {
        let of = |n: &usize| match self {
            Self::F32 => 4 * n,
            Self::F16 if *n == 0 => 0,
            Self::F16 => SCALE + 2 * n,
        };
        numbers.iter().map(of).collect()
    }
}

/// The numbers of each piece, led by their scale; of none there is nothing.
pub(super) fn encode(values: &[f32], pieces: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(Wire::F16.bytes(pieces).iter().sum());
    let mut rest = values;
    for n in pieces.iter().filter(|n| **n > 0) {
        let piece = rest.split_off(..*n).expect("all of them");
        let scale = scale_of(piece);
        bytes.extend_from_slice(&scale.to_le_bytes());
        piece.iter().for_each(|x| bytes.extend_from_slice(&f16::from_f32(x * scale).to_le_bytes()));
    }
    bytes
}

/// The numbers of pieces of so many, one after the other.
pub(super) fn decode(bytes: &[u8], pieces: &[usize]) -> Vec<f32> {
    let mut values = Vec::with_capacity(pieces.iter().sum());
    let mut rest = bytes;
    for n in pieces.iter().filter(|n| **n > 0) {
        let piece = rest.split_off(..SCALE + 2 * n).expect("all of them");
        let (scale, halves) = piece.split_first_chunk::<SCALE>().expect("a scale");
        let factor = f32::from_le_bytes(*scale).recip();
        values.extend(
            halves.as_chunks().0.iter().map(|half| f16::from_le_bytes(*half).to_f32() * factor),
        );
    }
    values
}

/// The power of two that brings the largest number of `piece` to [`LARGEST`] or half of it. What
/// isn't finite stays so.
fn scale_of(piece: &[f32]) -> f32 {
    let largest = piece.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    if !largest.is_finite() || largest == 0.0 {
        return 1.0;
    }
    (LARGEST / largest).log2().floor().clamp(-100.0, 100.0).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What arrives of `values`, sent as one piece of `n` and the rest.
    fn sent(values: &[f32], n: usize) -> Vec<f32> {
        let pieces = [n, values.len() - n];
        let bytes = encode(values, &pieces);
        assert_eq!(bytes.len(), Wire::F16.bytes(&pieces).iter().sum::<usize>());
        decode(&bytes, &pieces)
    }

    #[test]
    fn halves_keep_three_digits_of_the_largest_numbers_whatever_their_size() {
        for size in [1e-30f32, 1e-7, 1.0, 1e20] {
            let numbers: Vec<f32> =
                (0..100).map(|i| size * (i as f32 - 50.0) / 50.0).chain([1e-3 * size; 9]).collect();
            for n in [0, 100, 109] {
                let back = sent(&numbers, n);
                assert!(
                    numbers.iter().zip(&back).all(|(a, b)| (a - b).abs() <= a.abs() / 1024.0),
                    "{size} {n}"
                );
                assert!(back != numbers, "{size}: they are rounded");
            }
        }
        let back = sent(&[f32::NAN, f32::INFINITY, 1.0], 3);
        assert!(back[0].is_nan() && back[1] == f32::INFINITY && back[2] == 1.0);
    }
}
