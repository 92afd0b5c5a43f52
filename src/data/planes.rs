//! The size of square images of three planes, and space for them.

use crate::error::{Error, Result};

/// Returns the bytes of one image of `side` pixels a side: the planes R, G, B.
pub const fn bytes_of(side: usize) -> usize {
    3 * side * side
}

/// Returns the side in pixels of the single image `image`, `[3, side, side]`.
///
/// # Panics
/// If it isn't a square image of three planes.
pub fn side_of<T>(image: &[T]) -> usize {
    let side = (image.len() / 3).isqrt();
    assert_eq!(
        image.len(),
        bytes_of(side),
        "{} values are not a square image of three planes",
        image.len()
    );
    side
}

/// Allocates space for `count` images of `side` pixels a side, filled with zeros.
///
/// # Errors
/// If the system doesn't provide that much memory.
pub(super) fn allocate(count: usize, side: usize) -> Result<Vec<u8>> {
    let too_large = || {
        let gib = count as f64 * bytes_of(side) as f64 / f64::from(1 << 30);
        Error::failed(format!(
            "{count} images of {side} x {side} pixels take {gib:.1} GiB of memory, more than this \
             system provides; choose a smaller data.side or fewer images, or pack them \
             into a file that is read by position (docs/data.md)"
        ))
    };
    let bytes = count.checked_mul(bytes_of(side)).ok_or_else(too_large)?;
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(bytes).map_err(|_| too_large())?;
    pixels.resize(bytes, 0);
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_side_follows_from_the_length() {
        assert_eq!([16, 40, 256].map(|side| side_of(&vec![0u8; bytes_of(side)])), [16, 40, 256]);
        assert!(std::panic::catch_unwind(|| side_of(&[0u8; 100])).is_err());
    }

    #[test]
    fn more_images_than_memory_holds_are_refused_with_a_clear_message() {
        for count in [usize::MAX / 8, usize::MAX] {
            let message = allocate(count, 256).unwrap_err().to_string();
            assert!(
                message.contains("256 x 256 pixels take") && message.contains("smaller data.side"),
                "{message}"
            );
        }
        assert_eq!(allocate(2, 16).unwrap().len(), 2 * 768);
    }
}
