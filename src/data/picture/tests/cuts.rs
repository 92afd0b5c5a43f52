//! Truncated files.

use super::super::whole::jpeg_has_its_end;
use super::super::{Trouble, decode};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage};
use std::io::Cursor;

const BASELINE_RESTARTS: &[u8] = include_bytes!("../fixtures/baseline_restarts.jpg");
const PROGRESSIVE_RESTARTS: &[u8] = include_bytes!("../fixtures/progressive_restarts.jpg");
const GREY_PROGRESSIVE: &[u8] = include_bytes!("../fixtures/grey_progressive.jpg");

fn picture() -> RgbImage {
    RgbImage::from_fn(45, 37, |x, y| Rgb([(x * 5) as u8, (y * 6) as u8, (x * y * 7) as u8]))
}

fn grey() -> GrayImage {
    DynamicImage::ImageRgb8(picture()).into_luma8()
}

fn jpeg(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 80)).unwrap();
    bytes
}

/// Inserts a segment of metadata after the start of the JPEG `bytes`.
pub(super) fn with_segment(bytes: &[u8], mark: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16 + 2).to_be_bytes();
    [&bytes[..2], &[0xff, mark], &length, content, &bytes[2..]].concat()
}

fn jpegs() -> Vec<Vec<u8>> {
    let own = [DynamicImage::ImageRgb8(picture()), DynamicImage::ImageLuma8(grey())]
        .map(|image| jpeg(&image));
    own.into_iter()
        .chain([BASELINE_RESTARTS, PROGRESSIVE_RESTARTS, GREY_PROGRESSIVE].map(Into::into))
        .collect()
}

#[test]
fn a_jpeg_cut_anywhere_in_its_scans_is_refused() {
    for (i, whole) in jpegs().into_iter().enumerate() {
        let decoded = decode(&whole, 32).unwrap();
        let thumbnail = with_segment(&whole, 0xe1, &[b"Exif\0\0", BASELINE_RESTARTS].concat());
        let scan = whole.windows(2).position(|two| two == [0xff, 0xda]).unwrap();
        for end in scan..whole.len() {
            let refused = decode(&whole[..end], 32);
            assert!(
                matches!(refused, Err(Trouble::Damaged(_))),
                "JPEG {i} cut at {end} of {}",
                whole.len()
            );
            // The end marker in the metadata isn't that of this image.
            let end = end + thumbnail.len() - whole.len();
            assert!(
                decode(&thumbnail[..end], 32).is_err(),
                "JPEG {i} with a thumbnail, cut at {end}"
            );
        }
        assert_eq!(decode(&thumbnail, 32).unwrap(), decoded);
        for junk in [&b"\0\0\0"[..], b"\r\n", &[0xff; 9], &whole] {
            assert_eq!(decode(&[&whole, junk].concat(), 32).unwrap(), decoded, "JPEG {i}");
        }
        // The decoder alone accepts an image that is half grey.
        let half = (scan + whole.len()) / 2;
        assert!(
            image::load_from_memory_with_format(&whole[..half], ImageFormat::Jpeg).is_ok(),
            "JPEG {i}"
        );
    }
    let message = decode(&BASELINE_RESTARTS[..1200], 32).unwrap_err().to_string();
    assert!(
        message.starts_with("is damaged or not an image (it is truncated: ")
            && message.ends_with(" file"),
        "{message}"
    );
}

#[test]
fn markers_are_distinguished_from_data_and_padding() {
    let header = [0xff, 0xd8, 0xff, 0xda, 0, 2];
    for (data, whole) in [
        (&[1, 2, 0xff, 0, 0xd9][..], false),
        (&[1, 0xff, 0xd0, 0xff, 0, 3, 0xff, 0xd9], true),
        (&[1, 0xff, 0xff, 0xff, 0xd9], true),
        (&[1, 0xff, 0xfe, 0, 4, 0xff, 0xd9], false),
        (&[1, 0xff, 0xfe, 0, 4, 0xff, 0xd9, 0xff, 0xd9], true),
        (&[1, 0xff, 0xfe, 0, 0, 0xff, 0xd9], true),
        (&[1, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xd9], false),
        (&[1, 0xff, 0xfe, 0], false),
        (&[1, 0xff], false),
        (&[], false),
    ] {
        assert_eq!(jpeg_has_its_end(&[&header, data].concat()), whole, "{data:x?}");
    }
    assert!(!jpeg_has_its_end(&[0xff, 0xd8, 0xff, 0xd9]) && !jpeg_has_its_end(&[]));
}

#[test]
fn files_of_other_formats_that_decode_have_all_their_pixels() {
    let encode = |image: DynamicImage, format| {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let rgb = |format| encode(DynamicImage::ImageRgb8(picture()), format);
    let files = [
        ("PNG", rgb(ImageFormat::Png)),
        (
            "16-bit PNG",
            encode(DynamicImage::ImageRgb8(picture()).into_luma16().into(), ImageFormat::Png),
        ),
        ("interlaced PNG", include_bytes!("../fixtures/interlaced.png").to_vec()),
        ("palette", include_bytes!("../fixtures/palette_transparent.png").to_vec()),
        ("GIF", rgb(ImageFormat::Gif)),
        ("interlaced GIF", include_bytes!("../fixtures/interlaced.gif").to_vec()),
        ("lossless WebP", rgb(ImageFormat::WebP)),
        ("lossy WebP", include_bytes!("../fixtures/lossy.webp").to_vec()),
        ("BMP", rgb(ImageFormat::Bmp)),
        ("packed BMP", include_bytes!("../fixtures/rle.bmp").to_vec()),
        ("PPM", rgb(ImageFormat::Pnm)),
        ("PGM as text", format!("P2 37 9\n255\n{}", "17 ".repeat(37 * 9)).into_bytes()),
    ];
    for (name, whole) in files {
        // Exactly the image's own side in one direction, so that its last row counts.
        let decoded = decode(&whole, 37).unwrap_or_else(|e| panic!("{name} {e}"));
        if name.ends_with("PNG") || name == "BMP" {
            let half = decode(&whole[..whole.len() / 2], 37).unwrap_err().to_string();
            assert!(half.contains("(it is truncated: "), "{name} {half}");
        }
        // Only a checksum, a trailer or white space may be missing.
        let trailer = whole.len().saturating_sub(24);
        for end in (0..trailer).step_by(5).chain(trailer..whole.len()) {
            match decode(&whole[..end], 37) {
                Ok(accepted) => assert!(
                    end >= trailer && accepted == decoded,
                    "{name} cut at {end} of {}",
                    whole.len()
                ),
                Err(trouble) => assert!(
                    matches!(trouble, Trouble::Damaged(_) | Trouble::Foreign(None)),
                    "{name}: {trouble:?}"
                ),
            }
        }
    }
}
