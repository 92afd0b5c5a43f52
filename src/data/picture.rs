//! Pictures that a user names: a file of any size and common format, or an image of the data set.

use super::images::allocate;
use super::{Dataset, bytes_of};
use crate::error::{Error, Result};
use crate::progress::Progress;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage, Rgba};
use rayon::prelude::*;
use std::path::Path;

/// Fewest pixels a side: a smaller image is a patch of colour.
pub const SMALLEST_SIDE: u32 = 8;
/// Most pixels a side.
const LARGEST_SIDE: u32 = 16_384;
/// Most bytes of a decoded image.
const LARGEST: u64 = 512 << 20;
/// What the program reads, in words.
pub(super) const FORMATS: &str = "PNG, JPEG, WebP, BMP or GIF";

/// One picture, ready for the encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// `[3, side, side]`.
    pub pixels: Vec<u8>,
    /// Its class, where it is an image of a data set that has classes.
    pub label: Option<u16>,
    /// For people: the file's name, or the place in the data set and the name of the class: "test:17 (ship)".
    pub name: String,
}

/// The picture `spec` names at `side` pixels a side: `test:17` or `train:3`, counted from 0, is an image of the data set, for
/// which alone `dataset` is called (its images must have that side); anything else is the path of a file for [`read_picture`].
///
/// # Errors
/// An index that is no number or out of range; as `dataset`; as [`read_picture`].
pub fn resolve(spec: &str, side: usize, dataset: impl FnOnce() -> Result<Dataset>) -> Result<Picture> {
    let indexed = ["test", "train"].into_iter().find_map(|set| Some((set, spec.strip_prefix(set)?.strip_prefix(':')?)));
    // A file of that name can still be meant.
    let Some((set, index)) = indexed.filter(|_| !Path::new(spec).exists()) else {
        let path = Path::new(spec);
        let name = path.file_name().map_or_else(|| spec.into(), |name| name.to_string_lossy());
        return Ok(Picture { pixels: read_picture(path, side)?, label: None, name: name.into_owned() });
    };
    let index: usize = index.parse().map_err(|_| {
        Error::usage(format!("{spec}: after {set}: comes the number of an image from 0 on, for example {set}:17"))
    })?;
    let dataset = dataset()?;
    let images = if set == "test" { &dataset.test } else { &dataset.train };
    if index >= images.len() {
        let (n, last) = (images.len(), images.len().saturating_sub(1));
        return Err(Error::usage(format!("{spec}: the {set} set of {} holds {n} images; choose 0 to {last}", dataset.name)));
    }
    let label = images.label(index);
    let class = dataset.classes.get(usize::from(label));
    // Its place in the data set, which the user named, and what is known of it: "test:17 (ship)", "test:17 (cats/3.jpg, cats)".
    let known: Vec<&str> = images.own_name(index).into_iter().chain(class.map(String::as_str)).collect();
    let name = if known.is_empty() { spec.to_owned() } else { format!("{spec} ({})", known.join(", ")) };
    Ok(Picture { pixels: images.image(index)?.into_owned(), label: class.map(|_| label), name })
}

/// The image in the file `path` (PNG, JPEG, WebP, BMP or GIF, whatever its name ends with) as `[3, side, side]`: turned as its
/// EXIF tag says, its middle square resized with a Lanczos filter (enlarged with Catmull-Rom; one of that side stays as it is).
/// Grey, 16-bit, palette and CMYK images become 8-bit RGB, transparency lies over white, and an animation is its first frame.
/// Colour profiles are not applied.
///
/// # Errors
/// No file, not an image of these formats, a damaged one, fewer than 8 or more than 16,384 pixels a side, more than 512 MiB
/// decoded.
pub fn read_picture(path: &Path, side: usize) -> Result<Vec<u8>> {
    let name = path.display();
    if path.is_dir() {
        return Err(Error::failed(format!("{name} is a folder; name an image file")));
    }
    let read = |e| Error::io("read", path, &e);
    let mut reader = ImageReader::open(path).map_err(read)?.with_guessed_format().map_err(read)?;
    let mut limits = Limits::no_limits();
    (limits.max_image_width, limits.max_image_height, limits.max_alloc) = (Some(LARGEST_SIDE), Some(LARGEST_SIDE), Some(LARGEST));
    reader.limits(limits);
    let failed = |e| failure(path, e);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if width.min(height) < SMALLEST_SIDE {
        return Err(Error::failed(format!(
            "{name} has {width} x {height} pixels; choose an image of at least {SMALLEST_SIDE} pixels a side"
        )));
    }
    // Checked before anything of this size is allocated.
    if width.max(height) > LARGEST_SIDE || decoder.total_bytes() > LARGEST {
        return Err(too_large(path));
    }
    let orientation = decoder.orientation().map_err(failed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok(middle_square(&image, side))
}

/// The middle square of `image`, resized to `[3, wanted, wanted]`.
fn middle_square(image: &DynamicImage, wanted: usize) -> Vec<u8> {
    let side = image.width().min(image.height());
    let mut square = image.crop_imm((image.width() - side) / 2, (image.height() - side) / 2, side, side);
    if square.color().has_alpha() {
        // Before the resizing, in which the colour of transparent pixels would spread.
        let mut rgba = square.into_rgba8();
        rgba.pixels_mut().for_each(|pixel| *pixel = over_white(*pixel));
        square = DynamicImage::ImageRgba8(rgba);
    }
    planes(resized(square, wanted))
}

/// The square image `square` with `wanted` pixels a side.
fn resized(square: DynamicImage, wanted: usize) -> RgbImage {
    let (side, wanted) = (square.width(), wanted as u32);
    if side == wanted {
        return square.into_rgb8();
    }
    let filter = if side > wanted { FilterType::Lanczos3 } else { FilterType::CatmullRom };
    square.resize_exact(wanted, wanted, filter).into_rgb8()
}

/// `rgb` as planes R, G, B.
fn planes(rgb: RgbImage) -> Vec<u8> {
    let (pixels, _) = rgb.as_raw().as_chunks::<3>();
    (0..3).flat_map(|channel| pixels.iter().map(move |pixel| pixel[channel])).collect()
}

/// `pixels` `[N, 3, own, own]` at `side` pixels a side, `[N, 3, side, side]`, resized as files are.
///
/// # Errors
/// If they don't fit into memory.
pub(super) fn resample(pixels: &[u8], own: usize, side: usize) -> Result<Vec<u8>> {
    let images = pixels.chunks_exact(bytes_of(own));
    let mut out = allocate(images.len(), side)?;
    let progress = Progress::new("resampling images", Some(images.len()));
    out.par_chunks_exact_mut(bytes_of(side)).zip(pixels.par_chunks_exact(bytes_of(own))).for_each(|(out, image)| {
        out.copy_from_slice(&resample_one(image, own, side));
        progress.add(1);
    });
    Ok(out)
}

/// The image `[3, own, own]` at `side` pixels a side, resized as files are.
pub(super) fn resample_one(image: &[u8], own: usize, side: usize) -> Vec<u8> {
    let plane = own * own;
    let rgb = (0..plane).flat_map(|p| [image[p], image[p + plane], image[p + 2 * plane]]).collect();
    let rgb = RgbImage::from_raw(own as u32, own as u32, rgb).expect("three bytes a pixel");
    planes(resized(DynamicImage::ImageRgb8(rgb), side))
}

// STUBS
pub(super) struct Decoded {
    pub pixels: Vec<u8>,
    pub width: u32,
    pub height: u32,
    pub twelve_bit: bool,
}
pub(super) fn decode(bytes: &[u8], side: usize) -> std::result::Result<Decoded, String> {
    let image = image::load_from_memory(bytes).map_err(|e| e.to_string())?;
    Ok(Decoded { pixels: middle_square(&image, side), width: image.width(), height: image.height(), twelve_bit: false })
}
pub(super) fn kind(name: &str, bytes: &[u8]) -> Option<()> {
    let ending = Path::new(name).extension().unwrap_or_default().to_string_lossy().to_lowercase();
    (image::guess_format(bytes).is_ok()
        || ["png", "jpg", "jpeg", "tif", "tiff", "heic", "gif", "bmp", "webp"].contains(&ending.as_str()))
    .then_some(())
}

fn over_white(Rgba([r, g, b, a]): Rgba<u8>) -> Rgba<u8> {
    let a = u32::from(a);
    let blend = |c: u8| ((u32::from(c) * a + 255 * (255 - a) + 127) / 255) as u8;
    Rgba([blend(r), blend(g), blend(b), 255])
}

fn too_large(path: &Path) -> Error {
    let limit = LARGEST >> 20;
    Error::failed(format!(
        "{} is too large: at most {LARGEST_SIDE} pixels a side and {limit} MiB decoded; scale it down",
        path.display()
    ))
}

fn failure(path: &Path, e: ImageError) -> Error {
    let name = path.display();
    match e {
        ImageError::Limits(_) => too_large(path),
        ImageError::Unsupported(_) => Error::failed(format!("{name} is not an image that can be read; give a {FORMATS} file")),
        // Of a file that ends too early as well.
        e => Error::failed(format!("{name} is damaged or not an image ({e}); give a {FORMATS} file")),
    }
}

#[cfg(test)]
pub(super) mod tests;
