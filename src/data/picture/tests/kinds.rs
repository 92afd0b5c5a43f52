//! Which files count as images.

use super::super::{FIRST_BYTES, Kind, Trouble, decode, kind};
use image::{DynamicImage, ImageFormat, RgbImage};
use std::io::Cursor;

#[test]
fn content_decides_and_the_extension_where_it_is_inconclusive() {
    let box_of = |brand: &str| [b"\0\0\0\x18ftyp", brand.as_bytes(), b"\0\0\0\0mif1"].concat();
    let svg = b"<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\">".to_vec();
    // A directory of one icon of 16 x 16 pixels.
    let icon = b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0".to_vec();
    for (name, bytes, expected) in [
        ("a.png", b"II\x2a\0\x08\0\0\0".to_vec(), Some(Kind::Foreign)),
        ("photo", b"MM\0\x2a\0\0\0\x08".to_vec(), Some(Kind::Foreign)),
        ("a.jpg", box_of("heic"), Some(Kind::Foreign)),
        ("a", box_of("avif"), Some(Kind::Foreign)),
        ("film.mp4", box_of("isom"), None),
        ("a", b"\0\0\0\x0cJXL \r\n\x87\n".to_vec(), Some(Kind::Foreign)),
        ("a", b"\0\0\0\x0cjP  \r\n\x87\n".to_vec(), Some(Kind::Foreign)),
        ("a", b"8BPS\0\x01".to_vec(), Some(Kind::Foreign)),
        ("a", svg, Some(Kind::Foreign)),
        ("a", icon, Some(Kind::Foreign)),
        ("a.xml", b"<?xml version=\"1.0\"?><annotation>".to_vec(), None),
        // Files with an image's extension.
        ("page.jpg", b"<!DOCTYPE html>".to_vec(), Some(Kind::Foreign)),
        ("dir.with.dots/EMPTY.JPEG", vec![], Some(Kind::Foreign)),
        ("a.NEF", b"whatever".to_vec(), Some(Kind::Foreign)),
        ("a.png", b"\x89PNG".to_vec(), Some(Kind::Foreign)),
        // Texts and other data.
        ("notes.txt", b"hello".to_vec(), None),
        ("png", b"hello".to_vec(), None),
        ("some.png/labels", b"3 4 5".to_vec(), None),
        ("a.txt", b"BMW and other makes of cars".to_vec(), None),
        ("a.txt", b"P1 is the first".to_vec(), None),
        ("a.txt", b"P3".to_vec(), None),
        ("a.txt", vec![], None),
        ("idx", b"\0\0\x08\x03\0\0\xea\x60\0\0\0\x1c".to_vec(), None),
    ] {
        assert_eq!(kind(name, &bytes), expected, "{name} {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn readable_content_is_decoded_whatever_its_name() {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, WebP};
    for (ending, format) in [
        ("png", Png),
        ("jpg", Jpeg),
        ("jfif", Jpeg),
        ("jpe", Jpeg),
        ("webp", WebP),
        ("bmp", Bmp),
        ("gif", Gif),
        ("ppm", Pnm),
    ] {
        let mut bytes = Cursor::new(Vec::new());
        let grey = RgbImage::from_pixel(20, 20, image::Rgb([90; 3]));
        DynamicImage::ImageRgb8(grey).write_to(&mut bytes, format).unwrap();
        let bytes = bytes.into_inner();
        let first = &bytes[..bytes.len().min(FIRST_BYTES)];
        for name in [format!("a.{ending}"), "a.tif".into(), "a.txt".into(), "a".into()] {
            assert_eq!(kind(&name, first), Some(Kind::Readable), "{name}");
        }
        let decoded = decode(&bytes, 16).unwrap();
        assert!(decoded.pixels.iter().all(|p| p.abs_diff(90) <= 2), "{ending}");
        // Without recognisable content, the name alone decides.
        assert_eq!(kind(&format!("a.{ending}"), b"?"), Some(Kind::Foreign));
    }
    for text in ["P1\n# a comment\n8 8\n", "P2 8 8 9 ", "P3\n8\n8 255\n"] {
        let channels = if text.starts_with("P3") { 3 } else { 1 };
        let file = text.to_owned() + &"1 ".repeat(64 * channels);
        assert_eq!(kind("a", file.as_bytes()), Some(Kind::Readable));
        assert_eq!(decode(file.as_bytes(), 8).map(|decoded| decoded.width), Ok(8), "{text}");
    }
    let named = |bytes: &[u8]| decode(bytes, 16).unwrap_err();
    assert_eq!(named(b"II\x2a\0\x08\0\0\0"), Trouble::Foreign(Some("TIFF".into())));
    assert_eq!(named(b"\0\0\0\x18ftypheic\0\0"), Trouble::Foreign(Some("HEIC".into())));
    assert_eq!(named(b"hello"), Trouble::Foreign(None));
    assert!(
        named(b"8BPS\0\x01")
            .to_string()
            .starts_with("is not an image that can be read (Photoshop); give a PNG, JPEG")
    );
}
