use super::*;
use crate::data::{Dataset, Images, bundled, bytes_of};
use image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

mod agreement;
mod cuts;
mod kinds;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

fn write(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn message(path: &Path) -> String {
    read_picture(path, SIDE).unwrap_err().to_string()
}

/// Returns red, green and blue at column `x` and row `y`.
fn at(pixels: &[u8], x: usize, y: usize) -> [u8; 3] {
    std::array::from_fn(|c| pixels[c * PLANE + y * SIDE + x])
}

fn near(pixels: &[u8], wanted: [u8; 3], tolerance: u8) -> bool {
    (0..SIDE * SIDE).all(|i| {
        at(pixels, i % SIDE, i / SIDE)
            .into_iter()
            .zip(wanted)
            .all(|(p, w)| p.abs_diff(w) <= tolerance)
    })
}

#[test]
fn an_image_of_32_x_32_pixels_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let picture =
        RgbImage::from_fn(32, 32, |x, y| Rgb([(x * 8) as u8, (y * 7) as u8, (x * y) as u8]));
    let path = dir.path().join("a.png");
    picture.save(&path).unwrap();
    let pixels = read_picture(&path, SIDE).unwrap();
    for (x, y, p) in picture.enumerate_pixels() {
        assert_eq!(at(&pixels, x as usize, y as usize), p.0);
    }
    // The content decides, not the extension.
    std::fs::rename(&path, dir.path().join("a.jpg")).unwrap();
    assert_eq!(read_picture(&dir.path().join("a.jpg"), SIDE).unwrap(), pixels);
}

#[test]
fn the_middle_square_is_resized() {
    let dir = tempfile::tempdir().unwrap();
    // Red on the left, blue on the right, and between them a square whose green increases from left
    // to right.
    let wide = RgbImage::from_fn(300, 100, |x, _| match x {
        0..100 => Rgb([255, 0, 0]),
        100..200 => Rgb([0, (x - 100) as u8 * 2, 0]),
        _ => Rgb([0, 0, 255]),
    });
    let path = dir.path().join("wide.bmp");
    wide.save(&path).unwrap();
    let pixels = read_picture(&path, SIDE).unwrap();
    for x in 2..30 {
        // The centre of 100 / 32 source columns.
        let wanted = ((x as f64 + 0.5) * 100.0 / 32.0 - 0.5) * 2.0;
        let [r, g, b] = at(&pixels, x, 11);
        assert!(
            r <= 2 && b <= 2 && (f64::from(g) - wanted).abs() < 2.0,
            "column {x}: {r} {g} {b}, not {wanted}"
        );
    }
    // A fine pattern is averaged, not subsampled.
    let fine = GrayImage::from_fn(256, 512, |x, y| Luma([if (x + y) % 2 == 0 { 255 } else { 0 }]));
    fine.save(dir.path().join("fine.png")).unwrap();
    assert!(near(&read_picture(&dir.path().join("fine.png"), SIDE).unwrap(), [127; 3], 8));
    // Enlargement.
    RgbImage::from_pixel(8, 9, Rgb([9, 99, 199])).save(dir.path().join("small.png")).unwrap();
    assert!(near(&read_picture(&dir.path().join("small.png"), SIDE).unwrap(), [9, 99, 199], 1));
}

#[test]
fn every_kind_of_pixel_becomes_8_bit_rgb() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| read_picture(&dir.path().join(name), SIDE).unwrap();
    let path = |name: &str| dir.path().join(name);
    ImageBuffer::from_pixel(40, 40, Rgb([0x8000u16, 0xffff, 0x0100])).save(path("16.png")).unwrap();
    assert!(near(&read("16.png"), [128, 255, 1], 1));
    ImageBuffer::from_pixel(32, 32, Luma([0x4000u16])).save(path("grey16.png")).unwrap();
    assert!(near(&read("grey16.png"), [64; 3], 1));
    GrayImage::from_pixel(50, 40, Luma([77])).save(path("grey.png")).unwrap();
    assert!(near(&read("grey.png"), [77; 3], 0));
    // 200 at half opacity over white, and a transparent pixel, whose colour must not show.
    RgbaImage::from_pixel(64, 64, Rgba([200, 0, 100, 128])).save(path("half.png")).unwrap();
    assert!(near(&read("half.png"), [227, 127, 177], 1));
    let edge = RgbaImage::from_fn(64, 64, |x, _| {
        if x < 32 { Rgba([0, 0, 0, 0]) } else { Rgba([255, 255, 255, 255]) }
    });
    edge.save(path("edge.png")).unwrap();
    assert!(near(&read("edge.png"), [255; 3], 0));
    let colour = RgbImage::from_pixel(48, 48, Rgb([180, 90, 30]));
    for name in ["c.jpg", "c.webp", "c.gif", "c.bmp"] {
        colour.save(path(name)).unwrap();
        assert!(near(&read(name), [180, 90, 30], 4), "{name}: {:?}", at(&read(name), 3, 3));
    }
}

/// Makes an 8 x 8 JPEG of one colour, with four components as Adobe writes them (C, M, Y, K, each
/// inverted).
fn cmyk_jpeg(cmyk: [u8; 4]) -> Vec<u8> {
    let mut out = vec![0xff, 0xd8];
    let mut segment = |marker: u8, content: &[u8]| {
        out.extend([0xff, marker]);
        out.extend((content.len() as u16 + 2).to_be_bytes());
        out.extend(content);
    };
    segment(0xee, b"Adobe\0\x64\0\0\0\0\0");
    // A quantiser of 8, so that the first coefficient is the mean itself.
    segment(0xdb, &[&[0u8][..], &[8; 64]].concat());
    let component = |id: u8| [id, 0x11, 0];
    segment(
        0xc0,
        &[&[8, 0, 8, 0, 8, 4][..], &(1..=4).flat_map(component).collect::<Vec<_>>()].concat(),
    );
    // The sizes 0 to 7 of a first coefficient have the codes 0000 to 0111; the end of a block has
    // the code 0.
    segment(
        0xc4,
        &[&[0x00, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0, 1, 2, 3, 4, 5, 6, 7]]
            .concat(),
    );
    segment(0xc4, &[0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    segment(0xda, &[&[4u8][..], &[1, 0, 2, 0, 3, 0, 4, 0], &[0, 63, 0]].concat());
    let mut bits = String::new();
    for value in cmyk {
        let mean = i32::from(value) - 128;
        let size = (32 - mean.unsigned_abs().leading_zeros()) as usize;
        let low = if mean < 0 { mean + (1 << size) - 1 } else { mean };
        bits += &format!("{size:04b}");
        bits += &format!("{low:0size$b}");
        bits += "0";
    }
    bits += &"1".repeat(bits.len().next_multiple_of(8) - bits.len());
    for byte in bits.as_bytes().chunks(8) {
        let byte = byte.iter().fold(0, |sum, bit| sum * 2 + (bit - b'0'));
        out.push(byte);
        if byte == 0xff {
            out.push(0);
        }
    }
    out.extend([0xff, 0xd9]);
    out
}

#[test]
fn cmyk_is_converted() {
    let dir = tempfile::tempdir().unwrap();
    let full = read_picture(&write(&dir, "a.jpg", &cmyk_jpeg([200, 100, 50, 255])), SIDE).unwrap();
    assert!(near(&full, [200, 100, 50], 3), "{:?}", at(&full, 4, 4));
    // Black darkens all three channels.
    let dark = read_picture(&write(&dir, "b.jpg", &cmyk_jpeg([200, 100, 50, 130])), SIDE).unwrap();
    assert!(near(&dark, [102, 51, 25], 3), "{:?}", at(&dark, 4, 4));
}

/// Makes a PNG whose header promises `width` x `height` pixels but that has no data.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    chunk.extend([16, 6, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&chunk);
    [b"\x89PNG\r\n\x1a\n\0\0\0\x0d", &chunk[..], &crc.sum().to_be_bytes(), b"\0\0\0\x10IDAT"]
        .concat()
}

#[test]
fn too_large_or_small_files_and_non_images_are_refused_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    for (width, height) in [(100_000, 100_000), (16_385, 8), (16_000, 16_000)] {
        let message = message(&write(&dir, "bomb.png", &png_header(width, height)));
        assert!(
            message.contains("bomb.png is too large: at most 16384 pixels a side and 512 MiB"),
            "{message}"
        );
    }
    for (name, width, height) in [("dot.png", 1, 1), ("line.png", 100, 7)] {
        GrayImage::new(width, height).save(dir.path().join(name)).unwrap();
        let message = message(&dir.path().join(name));
        assert!(message.contains(&format!(
            "{name} has {width} x {height} pixels; choose an image of at least 8 pixels a side"
        )));
    }
    assert!(
        message(&write(&dir, "text.png", b"hello, not an image"))
            .contains("text.png is damaged or not an image")
    );
    assert!(
        message(&write(&dir, "text.txt", b"hello"))
            .contains("text.txt is not an image that can be read; give a PNG, JPEG")
    );
    assert!(
        message(&write(&dir, "empty.jpg", b"")).contains("empty.jpg is damaged or not an image")
    );
    assert!(
        message(&write(&dir, "a.tif", b"II\x2a\0\x08\0\0\0\0\0\0\0"))
            .contains("a.tif is not an image that can be read")
    );
    RgbImage::from_fn(64, 64, |x, y| Rgb([(x * y) as u8; 3]))
        .save(dir.path().join("whole.png"))
        .unwrap();
    let whole = std::fs::read(dir.path().join("whole.png")).unwrap();
    assert!(
        message(&write(&dir, "cut.png", &whole[..whole.len() / 2])).contains("cut.png is damaged")
    );
    assert!(
        message(&dir.path().join("gone.png")).contains("gone.png")
            && message(dir.path()).contains("is a folder")
    );
}

fn dataset() -> Result<Dataset> {
    let full = bundled()?;
    let few = |images: &Images| Arc::new(images.select(&[0, 1, 2]));
    Ok(Dataset { train: few(&full.train), test: few(&full.test), ..full })
}

#[test]
fn files_of_the_same_name_are_told_apart_by_their_folders() {
    let named = |specs: &[&str]| {
        let specs: Vec<String> = specs.iter().map(|spec| (*spec).to_owned()).collect();
        let mut names: Vec<String> =
            specs.iter().map(|spec| spec.rsplit('/').next().unwrap().to_owned()).collect();
        distinct(&specs, &mut names);
        names
    };
    assert_eq!(named(&["a/0.png", "b/0.png", "c/1.png"]), ["a/0.png", "b/0.png", "1.png"]);
    assert_eq!(named(&["x/a/0.png", "y/a/0.png"]), ["x/a/0.png", "y/a/0.png"]);
    assert_eq!(named(&["0.png", "a/0.png"]), ["0.png", "a/0.png"]);
    assert_eq!(named(&["a/0.png", "a/0.png"]), ["0.png", "0.png"]);
    assert_eq!(named(&["test:0", "test:0"]), ["test:0", "test:0"]);
}

#[test]
fn a_spec_is_a_position_in_the_data_set_or_a_file() {
    let data = dataset().unwrap();
    let picture = resolve("test:2", SIDE, dataset).unwrap();
    assert_eq!(
        (&picture.pixels[..], picture.label),
        (&data.test.image(2).unwrap()[..], Some(data.test.label(2)))
    );
    assert_eq!(picture.name, format!("test:2 ({})", data.classes[usize::from(data.test.label(2))]));
    assert_eq!(resolve("train:0", SIDE, dataset).unwrap().pixels, data.train.image(0).unwrap()[..]);
    assert_ne!(resolve("train:1", SIDE, dataset).unwrap().pixels, data.train.image(0).unwrap()[..]);
    let unlabelled =
        resolve("train:1", SIDE, || Ok(Dataset { classes: vec![], ..dataset()? })).unwrap();
    assert_eq!((unlabelled.label, unlabelled.name.as_str()), (None, "train:1"));

    let error = |spec: &str| resolve(spec, SIDE, dataset).unwrap_err();
    let range = error("test:3");
    assert_eq!(
        (range.exit_code(), range.to_string().as_str()),
        (2, "test:3: the test set of CIFAR-10 subset holds 3 images; choose 0 to 2")
    );
    for spec in ["test:", "test:-1", "train:x"] {
        assert!(
            error(spec).exit_code() == 2
                && error(spec).to_string().contains("must be followed by the number of an image"),
            "{spec}"
        );
    }
    let other = error("valid:1");
    assert_eq!(
        (other.exit_code(), other.to_string().as_str()),
        (
            2,
            "valid:1: there is no such file, and no set valid; images of the data set are test:N \
             and train:N"
        )
    );
    let dir = tempfile::tempdir().unwrap();
    GrayImage::from_pixel(32, 32, Luma([5])).save(dir.path().join("five.png")).unwrap();
    let unused = || -> Result<Dataset> { panic!("a file needs no data set") };
    let file = resolve(dir.path().join("five.png").to_str().unwrap(), SIDE, unused).unwrap();
    assert_eq!((file.pixels[3], file.label, file.name.as_str()), (5, None, "five.png"));
    assert!(
        resolve("nowhere.png", SIDE, unused)
            .unwrap_err()
            .to_string()
            .contains("cannot read nowhere.png")
    );
    assert!(
        resolve("test:1", SIDE, || Err(Error::failed("no data")))
            .unwrap_err()
            .to_string()
            .contains("no data")
    );
}

#[test]
fn an_image_gets_the_requested_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ramp.png");
    RgbImage::from_fn(120, 100, |x, y| Rgb([(x * 2) as u8, (y * 2) as u8, 60]))
        .save(&path)
        .unwrap();
    for side in [16, 40, 64, 256] {
        let pixels = read_picture(&path, side).unwrap();
        assert_eq!(pixels.len(), bytes_of(side));
        // The central square, 100 pixels a side, begins at column 10.
        let (x, y) = (side / 4, side / 2);
        let wanted = [20 + 200 * x / side, 200 * y / side, 60];
        for (channel, wanted) in wanted.into_iter().enumerate() {
            let found = pixels[channel * side * side + y * side + x];
            assert!(
                found.abs_diff(wanted as u8) <= 8,
                "{side}, channel {channel}: {found} instead of {wanted}"
            );
        }
        // Resampling a data set uses the same code.
        let image = read_picture(&path, 100).unwrap();
        assert_eq!(resample::resample(&image.repeat(2), 100, side).unwrap(), pixels.repeat(2));
    }
}
