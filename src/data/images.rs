//! Images in memory: square, of three colour planes, a byte for each value.

use crate::error::{Error, Result};

/// Bytes of one image of `side` pixels a side: the planes R, G, B.
pub const fn bytes_of(side: usize) -> usize {
    3 * side * side
}

/// The side in pixels of the one image `[3, side, side]` that `image` is.
///
/// # Panics
/// If it isn't a square image of three planes.
pub fn side_of<T>(image: &[T]) -> usize {
    let side = (image.len() / 3).isqrt();
    assert_eq!(image.len(), bytes_of(side), "{} values are no square image of three planes", image.len());
    side
}

/// Room for `count` images of `side` pixels a side, filled with zeros.
///
/// # Errors
/// If the system doesn't give so much memory.
pub(super) fn allocate(count: usize, side: usize) -> Result<Vec<u8>> {
    let too_large = || {
        let gib = count as f64 * bytes_of(side) as f64 / f64::from(1 << 30);
        Error::failed(format!(
            "{count} images of {side} x {side} pixels take {gib:.1} GiB of memory, which this system doesn't give; choose a smaller \
             data.side or fewer images"
        ))
    };
    let bytes = count.checked_mul(bytes_of(side)).ok_or_else(too_large)?;
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(bytes).map_err(|_| too_large())?;
    pixels.resize(bytes, 0);
    Ok(pixels)
}

/// Labelled images in memory: pixels `[N, 3, side, side]` as bytes (R, G, B planes, row-major) and labels `[N]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    side: usize,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl Images {
    /// Images of `side` pixels a side out of `pixels` `[N, 3, side, side]` and `labels` `[N]`.
    ///
    /// # Panics
    /// When the two disagree on N.
    pub fn new(side: usize, pixels: Vec<u8>, labels: Vec<u8>) -> Self {
        let image = bytes_of(side);
        assert_eq!(pixels.len(), labels.len() * image, "one label for each image of {image} bytes");
        Self { side, pixels, labels }
    }

    /// Height and width of each image in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Number of images, N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Image `i`, `[3, side, side]`: planes R, G, B, row-major.
    pub fn image(&self, i: usize) -> &[u8] {
        let bytes = bytes_of(self.side);
        &self.pixels[i * bytes..][..bytes]
    }

    /// Label of image `i`, an index into the data set's classes.
    pub fn label(&self, i: usize) -> u8 {
        self.labels[i]
    }

    /// All labels, `[N]`.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// All pixels, `[N, 3, side, side]`.
    pub(super) fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// A copy of the images `indices`, in that order.
    pub fn select(&self, indices: &[usize]) -> Images {
        let mut pixels = Vec::with_capacity(indices.len() * bytes_of(self.side));
        indices.iter().for_each(|&i| pixels.extend_from_slice(self.image(i)));
        Images { side: self.side, pixels, labels: indices.iter().map(|&i| self.label(i)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn select_keeps_the_order_asked_for() {
        for side in [16, 40] {
            let pixels = (0..3).flat_map(|i| vec![i; bytes_of(side)]).collect();
            let chosen = Images::new(side, pixels, vec![7, 8, 9]).select(&[2, 0]);
            assert_eq!((chosen.labels(), chosen.image(0)[5], chosen.image(1)[5], chosen.side()), (&[9, 7][..], 2, 0, side));
        }
    }

    #[test]
    fn the_side_follows_from_the_length() {
        assert_eq!([16, 40, 256].map(|side| side_of(&vec![0u8; bytes_of(side)])), [16, 40, 256]);
        assert!(std::panic::catch_unwind(|| side_of(&[0u8; 100])).is_err());
    }

    #[test]
    fn more_than_any_memory_is_refused_with_a_sentence() {
        for count in [usize::MAX / 8, usize::MAX] {
            let message = allocate(count, 256).unwrap_err().to_string();
            assert!(message.contains("256 x 256 pixels take") && message.contains("smaller data.side"), "{message}");
        }
        assert_eq!(allocate(2, 16).unwrap().len(), 2 * 768);
    }
}
