//! The bundled subset: 5,000 training and 1,000 test images as two PNG sheets and a manifest.

use super::cifar::{CLASSES, IMAGE, PLANE, RECORD, SIDE};
use super::images::Images;
use super::sheet::decode_sheet;
use crate::error::{Error, Result};
use crate::files::{sha256, write_atomically};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Images of each class in the training and in the test sheet.
pub const PER_CLASS: [usize; 2] = [500, 100];
/// The number of images per row of a sheet.
const COLUMNS: usize = 50;

/// The contents of the sheets, and checksums to verify them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    description: String,
    train: Sheet,
    test: Sheet,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sheet {
    file: String,
    images: usize,
    /// SHA-256 of the file.
    sha256: String,
    /// SHA-256 of the images in the official layout: records of a label byte and 3,072 pixel bytes.
    records_sha256: String,
    /// One digit per image.
    labels: String,
    /// The position of each image in the full set.
    indices: Vec<usize>,
}

const DESCRIPTION: &str = "CIFAR-10 (Krizhevsky 2009): the first 500 training and 100 test images \
    of each class, in the order of the full set; 50 images a row; three grey sheets below each \
    other: green, red - green, blue - green (modulo 256)";

const SHEETS: [&[u8]; 2] = [
    include_bytes!("../../assets/cifar10-subset/train.png"),
    include_bytes!("../../assets/cifar10-subset/test.png"),
];
const MANIFEST: &str = include_str!("../../assets/cifar10-subset/manifest.json");

/// Writes `train.png`, `test.png` and `manifest.json` for the verified full set to the folder
/// `out`.
///
/// # Errors
/// A class has too few images, or a file cannot be written.
pub fn bundle(train: &Images, test: &Images, out: &Path) -> Result<()> {
    write_sheets([train, test], PER_CLASS, out)
}

fn write_sheets([train, test]: [&Images; 2], per_class: [usize; 2], out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).map_err(|e| Error::io("create", out, &e))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        write_atomically(&path, bytes)
    };
    let sheet = |file: &str, images: &Images, per_class: usize| {
        let indices = first_of_each_class(images.labels(), per_class);
        if indices.len() != per_class * CLASSES.len() {
            return Err(Error::failed(format!(
                "{file} needs {per_class} images of each class; bundle the full set"
            )));
        }
        let images = images.select(&indices);
        let png = encode(&images)?;
        write(file, &png)?;
        let labels = images.labels().iter().map(u16::to_string).collect();
        let (sha256, records_sha256) = (sha256(&png), sha256(&records(&images)?));
        Ok(Sheet {
            file: file.into(),
            images: images.len(),
            sha256,
            records_sha256,
            labels,
            indices,
        })
    };
    let (train, test) =
        (sheet("train.png", train, per_class[0])?, sheet("test.png", test, per_class[1])?);
    let manifest = Manifest { description: DESCRIPTION.into(), train, test };
    let text = serde_json::to_string(&manifest)
        .map_err(|e| Error::failed(format!("manifest.json: {e}")))?;
    // One line per key of a sheet, not per number.
    write("manifest.json", (text.replace(",\"", ",\n\"") + "\n").as_bytes())
}

/// Returns the embedded training and test images and a single SHA-256 over both.
///
/// # Errors
/// A sheet doesn't match its manifest: the program was built from a damaged source tree.
pub fn bundled() -> Result<(Images, Images, String)> {
    decode(MANIFEST, SHEETS)
}

/// Decodes the sheets that [`bundle`] wrote, given their manifest. Returns the training images, the
/// test images and a single SHA-256 over both.
///
/// # Errors
/// The manifest is invalid, or a sheet doesn't match it.
pub fn decode(manifest: &str, [train, test]: [&[u8]; 2]) -> Result<(Images, Images, String)> {
    let manifest: Manifest =
        serde_json::from_str(manifest).map_err(|e| damaged("manifest.json", &e.to_string()))?;
    let decode = |sheet: &Sheet, png: &[u8]| {
        sheet.decode(png).map_err(|reason| damaged(&sheet.file, &reason))
    };
    let (train, test) =
        rayon::join(|| decode(&manifest.train, train), || decode(&manifest.test, test));
    let digests = format!("{}\n{}\n", manifest.train.records_sha256, manifest.test.records_sha256);
    Ok((train?, test?, sha256(digests.as_bytes())))
}

fn damaged(file: &str, reason: &str) -> Error {
    Error::failed(format!(
        "assets/cifar10-subset/{file} is damaged ({reason}); install the program again"
    ))
}

impl Sheet {
    fn decode(&self, png: &[u8]) -> std::result::Result<Images, String> {
        let labels: Option<Vec<u16>> =
            self.labels.chars().map(|c| c.to_digit(10).map(|d| d as u16)).collect();
        let labels = labels
            .filter(|l| l.len() == self.images)
            .ok_or("labels are not one digit per image")?;
        if labels.is_empty() || !labels.len().is_multiple_of(COLUMNS) {
            return Err(format!("{} images don't fill rows of {COLUMNS}", labels.len()));
        }
        let expected = ((COLUMNS * SIDE) as u32, (3 * labels.len() / COLUMNS * SIDE) as u32);
        let sheet = decode_sheet(png, expected)?.into_luma8();
        let mut pixels = vec![0; labels.len() * IMAGE];
        let mut planes = sheet.as_raw().chunks_exact(labels.len() * PLANE);
        let [green, red, blue] = std::array::from_fn(|_| planes.next().unwrap_or_default());
        for (at, ((&green, red), blue)) in positions().zip(green.iter().zip(red).zip(blue)) {
            pixels[at] = red.wrapping_add(green);
            pixels[at + PLANE] = green;
            pixels[at + 2 * PLANE] = blue.wrapping_add(green);
        }
        let images = Images::new(SIDE, pixels, labels);
        let found = sha256(&records(&images).map_err(|e| e.to_string())?);
        if found != self.records_sha256 {
            Err(format!("SHA-256 {found} instead of {}", self.records_sha256))
        } else {
            Ok(images)
        }
    }
}

/// Yields, for each pixel of a sheet, row by row, the position of its red value in the planar
/// images.
fn positions() -> impl Iterator<Item = usize> {
    (0..).flat_map(|y: usize| (0..COLUMNS * SIDE).map(move |x| (y, x))).map(|(y, x)| {
        let image = y / SIDE * COLUMNS + x / SIDE;
        image * IMAGE + y % SIDE * SIDE + x % SIDE
    })
}

/// Encodes `images` as a grey PNG sheet. Because neighbouring channels resemble each other, storing
/// red and blue as differences from green, each in a sheet of its own, takes a fifth less than an
/// RGB sheet.
fn encode(images: &Images) -> Result<Vec<u8>> {
    let mut pixels = Vec::with_capacity(images.len() * IMAGE);
    for i in 0..images.len() {
        pixels.extend_from_slice(&images.image(i)?);
    }
    let plane = |channel: usize| {
        let pixels = &pixels;
        let at = move |p: usize, channel: usize| pixels[p + channel * PLANE];
        let value =
            move |p| if channel == 1 { at(p, 1) } else { at(p, channel).wrapping_sub(at(p, 1)) };
        positions().take(images.len() * PLANE).map(value)
    };
    let grey: Vec<u8> = [1, 0, 2].into_iter().flat_map(plane).collect();
    let (width, height) = ((COLUMNS * SIDE) as u32, (3 * images.len() / COLUMNS * SIDE) as u32);
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive)
        .write_image(&grey, width, height, ExtendedColorType::L8)
        .map_err(|e| {
            Error::failed(format!("cannot encode a sheet of {} images: {e}", images.len()))
        })?;
    Ok(png)
}

/// Returns the images in the official layout, all in memory.
fn records(images: &Images) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(images.len() * RECORD);
    for i in 0..images.len() {
        bytes.push(images.label(i) as u8);
        bytes.extend_from_slice(&images.image(i)?);
    }
    Ok(bytes)
}

/// Returns the positions of the first `count` images of each class, ascending.
fn first_of_each_class(labels: &[u16], count: usize) -> Vec<usize> {
    let mut taken = [0; 256];
    let mut take = |&i: &usize| {
        taken[usize::from(labels[i])] += 1;
        taken[usize::from(labels[i])] <= count
    };
    (0..labels.len()).filter(&mut take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_subset_is_intact_and_balanced() {
        let (train, test, digest) = bundled().unwrap();
        for (images, per_class) in [(&train, PER_CLASS[0]), (&test, PER_CLASS[1])] {
            for class in 0..10 {
                assert_eq!(images.labels().iter().filter(|&&l| l == class).count(), per_class);
            }
        }
        assert_eq!(digest.len(), 64);
        // Natural images: neighbouring pixels resemble each other, and no plane is empty.
        let image = train.image(0).unwrap();
        let step: u32 =
            image.windows(2).map(|p| u32::from(p[0].abs_diff(p[1]))).sum::<u32>() / IMAGE as u32;
        assert!(step < 40, "mean step {step}");
        for (sheet, bytes) in [("train", SHEETS[0]), ("test", SHEETS[1])] {
            let manifest: serde_json::Value = serde_json::from_str(MANIFEST).unwrap();
            assert_eq!(manifest[sheet]["sha256"], sha256(bytes));
            let indices = manifest[sheet]["indices"].as_array().unwrap();
            assert!(
                indices.windows(2).all(|i| i[0].as_u64() < i[1].as_u64()),
                "{sheet} keeps the order of the full set"
            );
        }
    }

    #[test]
    fn a_bundle_returns_the_first_images_of_each_class_and_detects_damage() {
        let image = |i: usize| (0..IMAGE).map(move |p| (i * 89 + p * p / 7) as u8);
        let full = Images::new(
            SIDE,
            (0..600).flat_map(image).collect(),
            (0..600).map(|i| i * 7 % 10).collect(),
        );
        let dir = tempfile::tempdir().unwrap();
        write_sheets([&full, &full], [50, 10], dir.path()).unwrap();
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        let (manifest, sheets) = (
            String::from_utf8(read("manifest.json")).unwrap(),
            [read("train.png"), read("test.png")],
        );
        let (train, test, _) = decode(&manifest, [&sheets[0], &sheets[1]]).unwrap();
        for (found, n) in [(&train, 500), (&test, 100)] {
            assert_eq!((found.len(), found.labels()), (n, &full.labels()[..n]));
            assert!((0..n).all(|i| found.image(i).unwrap() == full.image(i).unwrap()));
        }

        let digit = manifest.find("\"labels\":\"").unwrap() + 10;
        let altered = format!(
            "{}{}{}",
            &manifest[..digit],
            (manifest.as_bytes()[digit] - b'0' + 1) % 10,
            &manifest[digit + 1..]
        );
        let message = decode(&altered, [&sheets[0], &sheets[1]]).unwrap_err().to_string();
        assert!(message.contains("train.png is damaged (SHA-256"), "{message}");
        assert!(
            decode(&manifest, [&sheets[1], &sheets[0]])
                .unwrap_err()
                .to_string()
                .contains("pixels instead of")
        );
        assert!(decode(&manifest, [&sheets[0], &sheets[1][..900]]).is_err());
        assert!(
            bundle(&test, &test, dir.path())
                .unwrap_err()
                .to_string()
                .contains("needs 500 images of each class")
        );
    }
}
