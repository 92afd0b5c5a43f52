//! The format in which values are sent: f32, or f16 with a scale for each piece.

use half::f16;

/// The format in which values are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// 32 bits: results are those of one process, bit for bit.
    #[default]
    F32,
    /// 16 bits, half the bytes: gradients and changes of weights are rounded, so results differ.
    F16,
}

/// The maximum of the scaled values of a piece, below the 65,504 of f16.
const LARGEST: f32 = 16384.0;
/// Bytes of the scale in front of a piece.
const SCALE: usize = 4;

impl Wire {
    /// Returns the bytes of pieces with `counts` values each. An empty piece takes no bytes.
    pub(super) fn bytes(self, counts: &[usize]) -> Vec<usize> {
        let of = |n: &usize| match self {
            Self::F32 => 4 * n,
            Self::F16 if *n == 0 => 0,
            Self::F16 => SCALE + 2 * n,
        };
        counts.iter().map(of).collect()
    }
}

/// Encodes `values` as pieces of these lengths, each behind its scale. An empty piece takes no
/// bytes.
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

/// Decodes pieces of these lengths into their values, concatenated.
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

/// Returns the power of two that scales the largest magnitude of `piece` to between half of
/// [`LARGEST`] and [`LARGEST`]; 1 if a value isn't finite, which stays so.
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

    /// Returns `values` as they arrive, sent as a piece of `n` values and the rest.
    fn sent(values: &[f32], n: usize) -> Vec<f32> {
        let pieces = [n, values.len() - n];
        let bytes = encode(values, &pieces);
        assert_eq!(bytes.len(), Wire::F16.bytes(&pieces).iter().sum::<usize>());
        decode(&bytes, &pieces)
    }

    #[test]
    fn f16_keeps_three_digits_of_the_largest_values_at_any_scale() {
        for size in [1e-30f32, 1e-7, 1.0, 1e20] {
            let numbers: Vec<f32> =
                (0..100).map(|i| size * (i as f32 - 50.0) / 50.0).chain([1e-3 * size; 9]).collect();
            for n in [0, 100, 109] {
                let back = sent(&numbers, n);
                assert_eq!(back.len(), numbers.len());
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
