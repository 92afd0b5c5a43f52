//! Compares pixels with those of the `image` crate, which resizes by another algorithm.

use super::super::{Decoded, Trouble, decode, read_picture};
use super::cuts::with_segment;
use crate::data::bytes_of;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Pixel, Rgb, RgbImage};
use std::io::Cursor;

/// Noise in the left half, hard edges in the right one: where filters overshoot most.
fn hard(width: u32, height: u32) -> DynamicImage {
    let mut state = 7u32;
    let image = ImageBuffer::from_fn(width, height, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [a, b, c, d] = state.to_le_bytes();
        let edge = if (x * x + 3 * y) / 7 % 3 == 0 { u16::MAX } else { 0 };
        let noise =
            [u16::from_le_bytes([a, d]), u16::from_le_bytes([c, b]), u16::from_le_bytes([b, c])];
        Rgb(if x < width / 2 { noise } else { [edge; 3] })
    });
    DynamicImage::ImageRgb16(image)
}

/// A smooth image, as photographs are.
fn smooth(width: u32, height: u32) -> DynamicImage {
    let wave = |x: u32, f: f32| (32_767.5 + 32_767.5 * (x as f32 * f).sin()) as u16;
    DynamicImage::ImageRgb16(ImageBuffer::from_fn(width, height, |x, y| {
        Rgb([wave(x, 0.05), wave(y, 0.031), wave(x + 2 * y, 0.021)])
    }))
}

fn png(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Returns the central square of `image` as [`decode`] must return it, resized with `filter` if one
/// is given.
fn reference(image: &DynamicImage, wanted: u32, filter: Option<FilterType>) -> Vec<u8> {
    let side = image.width().min(image.height());
    let mut square =
        image.crop_imm((image.width() - side) / 2, (image.height() - side) / 2, side, side);
    if square.color().has_alpha() {
        let mut rgba = square.into_rgba8();
        for pixel in rgba.pixels_mut() {
            let a = f64::from(pixel.0[3]) / 255.0;
            pixel.apply_with_alpha(
                |c| (f64::from(c) * a + 255.0 * (1.0 - a)).round() as u8,
                |_| 255,
            );
        }
        square = DynamicImage::ImageRgba8(rgba);
    }
    let filter =
        filter.unwrap_or(if side > wanted { FilterType::Lanczos3 } else { FilterType::CatmullRom });
    let resized = if side == wanted { square } else { square.resize_exact(wanted, wanted, filter) }
        .into_rgb8();
    (0..3).flat_map(|channel| resized.pixels().map(move |pixel| pixel.0[channel])).collect()
}

fn furthest(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn every_kind_of_pixel_is_resized_as_by_the_image_crate() {
    // Reduced, enlarged, reduced by one pixel, unchanged.
    for (size, wanted) in [
        ((200, 163), 64),
        ((97, 130), 65),
        ((40, 41), 101),
        ((17, 9), 64),
        ((65, 80), 64),
        ((64, 64), 64),
    ] {
        for image in [hard(size.0, size.1), smooth(size.0, size.1)] {
            let mut see_through = image.to_rgba16();
            see_through
                .enumerate_pixels_mut()
                .for_each(|(x, y, pixel)| pixel.0[3] = (x * 971 + y * 3001) as u16);
            let see_through = DynamicImage::ImageRgba16(see_through);
            for image in [
                DynamicImage::ImageRgb8(image.to_rgb8()),
                DynamicImage::ImageLuma8(image.to_luma8()),
                DynamicImage::ImageLuma16(image.to_luma16()),
                DynamicImage::ImageRgba8(see_through.to_rgba8()),
                DynamicImage::ImageLumaA8(see_through.to_luma_alpha8()),
                DynamicImage::ImageLumaA16(see_through.to_luma_alpha16()),
                see_through,
                image,
            ] {
                let found = decode(&png(&image), wanted).unwrap().pixels;
                let (kind, most) =
                    (image.color(), furthest(&found, &reference(&image, wanted as u32, None)));
                assert!(most <= 1, "{kind:?} {size:?} to {wanted}: {most} away");
            }
        }
    }
    // Negative control: another filter is further away.
    let image = DynamicImage::ImageRgb8(hard(200, 163).to_rgb8());
    assert!(
        furthest(&reference(&image, 64, None), &reference(&image, 64, Some(FilterType::Gaussian)))
            > 9
    );
}

#[test]
fn a_large_image_goes_through_in_strips() {
    let image = DynamicImage::ImageRgb8(hard(900, 901).to_rgb8());
    let found = decode(&png(&image), 96).unwrap();
    assert!(furthest(&found.pixels, &reference(&image, 96, None)) <= 1);
    assert_eq!((found.width, found.height, found.twelve_bit), (900, 901, false));
    // Images of a data set use the same code.
    let planes = reference(&image, 900, None);
    let resampled = super::super::resample::resample(&planes, 900, 96).unwrap();
    assert_eq!(resampled, found.pixels);
}

#[test]
fn the_square_of_a_rotated_image_is_that_of_the_displayed_image() {
    // An odd number of columns or rows lies outside the square.
    for size in [(60, 47), (46, 59)] {
        let mut file = Vec::new();
        let image = DynamicImage::ImageRgb8(smooth(size.0, size.1).to_rgb8());
        image.write_to(&mut Cursor::new(&mut file), ImageFormat::Jpeg).unwrap();
        let upright = image::load_from_memory(&file).unwrap();
        for value in 1..=8u8 {
            let exif = [
                &b"Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..],
                &[value, 0, 0, 0, 0, 0, 0, 0],
            ]
            .concat();
            let mut seen = upright.clone();
            seen.apply_orientation(Orientation::from_exif(value).unwrap());
            let Decoded { pixels, width, height, .. } =
                decode(&with_segment(&file, 0xe1, &exif), 46).unwrap();
            assert_eq!((width, height), (seen.width(), seen.height()), "{value}");
            let most = furthest(&pixels, &reference(&seen, 46, None));
            assert!(most <= 1, "{size:?} turned by {value}: {most} away");
        }
    }
}

#[test]
fn twelve_bits_in_a_file_of_sixteen_are_detected() {
    let of =
        |value: u16| ImageBuffer::from_fn(20, 20, |x, _| Luma([if x == 0 { value } else { 100 }]));
    let noticed = |image: DynamicImage| decode(&png(&image), 16).unwrap().twelve_bit;
    assert!(noticed(of(4_095).into()) && !noticed(of(4_096).into()));
    let colour = |value| DynamicImage::ImageLuma16(of(value)).to_rgb16();
    assert!(noticed(colour(4_095).into()) && !noticed(colour(4_096).into()));
    // The alpha of an opaque pixel is a large value.
    let opaque = |value| DynamicImage::ImageLuma16(of(value)).to_rgba16();
    assert!(noticed(opaque(4_095).into()) && !noticed(opaque(4_096).into()));
    assert!(!noticed(DynamicImage::ImageRgb8(RgbImage::new(20, 20))));
    // A file may define 4,095 as white.
    let pgm = [&b"P5 20 20 4095\n"[..], &[0x0f, 0xff].repeat(400)].concat();
    let white = decode(&pgm, 16).unwrap();
    assert!(!white.twelve_bit && white.pixels == vec![255; bytes_of(16)]);
}

#[test]
fn troubles_are_distinguished() {
    let dot = decode(&png(&DynamicImage::ImageRgb8(RgbImage::new(9, 7))), 16);
    assert_eq!(dot, Err(Trouble::TooSmall { width: 9, height: 7 }));
    assert_eq!(decode(&super::png_header(16_385, 8), 16), Err(Trouble::TooLarge));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.png");
    // 64 GiB that take no space on the disk.
    std::fs::write(&path, super::png_header(64, 64)).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(64 << 30).unwrap();
    assert!(read_picture(&path, 16).unwrap_err().to_string().contains("long.png is too large"));
}
