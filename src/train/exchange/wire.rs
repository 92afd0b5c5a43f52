//! How numbers travel: as they are, or as half-precision floats with a scale for each piece.

use half::f16;

/// What numbers travel as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// 32 bits: as one process computes, bit for bit.
    #[default]
    F32,
    /// 16 bits, half the bytes: gradients and changes of weights are rounded, and results are others.
    F16,
}

/// The largest number of a piece becomes at most that: below f16's 65,504.
const LARGEST: f32 = 16384.0;
/// Bytes of the scale that leads a piece.
const SCALE: usize = 4;

impl Wire {
    /// Bytes of a piece of `n` numbers.
    pub(super) fn bytes(self, n: usize) -> usize {
        match self {
            Self::F32 => 4 * n,
            Self::F16 => SCALE + 2 * n,
        }
    }

    /// The numbers of `pieces` as bytes, one piece after the other.
    pub(super) fn encode(self, pieces: &[&[f32]]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(pieces.iter().map(|piece| self.bytes(piece.len())).sum());
        for piece in pieces {
            match self {
                Self::F32 => bytes.extend_from_slice(bytemuck::cast_slice(piece)),
                Self::F16 => {
                    let scale = scale_of(piece);
                    bytes.extend_from_slice(&scale.to_le_bytes());
                    piece.iter().for_each(|x| bytes.extend_from_slice(&f16::from_f32(x * scale).to_le_bytes()));
                }
            }
        }
        bytes
    }

    /// The numbers of a piece.
    pub(super) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytemuck::pod_collect_to_vec(bytes),
            Self::F16 => {
                let (scale, halves) = bytes.split_first_chunk::<SCALE>().expect("a scale");
                let factor = f32::from_le_bytes(*scale).recip();
                halves.as_chunks().0.iter().map(|half| f16::from_le_bytes(*half).to_f32() * factor).collect()
            }
        }
    }
}

/// The power of two that brings the largest number of `piece` to [`LARGEST`] or half of it. What isn't finite stays so.
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

    #[test]
    fn halves_keep_three_digits_of_the_largest_numbers_whatever_their_size() {
        for size in [1e-30f32, 1e-7, 1.0, 1e20] {
            let numbers: Vec<f32> = (0..100).map(|i| size * (i as f32 - 50.0) / 50.0).collect();
            let bytes = Wire::F16.encode(&[&numbers, &[]]);
            assert_eq!(bytes.len(), Wire::F16.bytes(100) + Wire::F16.bytes(0));
            let back = Wire::F16.decode(&bytes[..Wire::F16.bytes(100)]);
            assert!(numbers.iter().zip(&back).all(|(a, b)| (a - b).abs() <= a.abs() / 1024.0), "{size}");
            assert!(back.iter().any(|x| *x != 0.0));
        }
        let odd = [f32::NAN, f32::INFINITY, 1.0];
        let back = Wire::F16.decode(&Wire::F16.encode(&[&odd]));
        assert!(back[0].is_nan() && back[1] == f32::INFINITY && back[2] == 1.0);
    }

    #[test]
    fn the_plain_wire_changes_nothing() {
        let numbers = [0.1, f32::MIN_POSITIVE / 2.0, -0.0, f32::NEG_INFINITY];
        let back = Wire::F32.decode(&Wire::F32.encode(&[&numbers[..2], &numbers[2..]]));
        assert_eq!(back.into_iter().map(f32::to_bits).collect::<Vec<_>>(), numbers.map(f32::to_bits));
    }
}
