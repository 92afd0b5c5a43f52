//! Sheets of images in one PNG, in which the program and archives keep CIFAR's images.

use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder, Limits};
use std::io::Cursor;

/// Decodes the PNG `bytes`. Checks that its size is `(width, height)` before allocating memory.
pub(super) fn decode_sheet(
    bytes: &[u8],
    size: (u32, u32),
) -> std::result::Result<DynamicImage, String> {
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), sheet_limits(size))
        .map_err(|e| e.to_string())?;
    if decoder.dimensions() != size {
        return Err(format!("{:?} pixels instead of {size:?}", decoder.dimensions()));
    }
    DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())
}

/// Returns the decoder's limits. A PNG pixel has at most four channels of 16 bits; the rest of the
/// allowance is for the file's other contents.
fn sheet_limits((width, height): (u32, u32)) -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(8 * u64::from(width) * u64::from(height) + (1 << 20));
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageFormat;

    #[test]
    fn a_sheet_of_another_size_is_refused() {
        let mut png = Cursor::new(Vec::new());
        DynamicImage::new_luma8(4, 2).write_to(&mut png, ImageFormat::Png).unwrap();
        assert_eq!(decode_sheet(png.get_ref(), (4, 2)).unwrap().width(), 4);
        assert!(decode_sheet(png.get_ref(), (2, 4)).unwrap_err().contains("instead of (2, 4)"));
    }
}
