//! Pictures that a user names: a file of any size and common format, or an image of the data set.

use super::{Dataset, PLANE, Pixels, SIDE};
use crate::error::{Error, Result};
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, Rgba};
use std::path::Path;

/// Fewest pixels a side: a smaller image is a patch of colour at 32 x 32.
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
    /// 32 x 32 pixels.
    pub pixels: Pixels,
    /// Its class, where it is an image of a data set that has classes.
    pub label: Option<u8>,
    /// For people: the file's name, or the place in the data set and the name of the class: "test:17 (ship)".
    pub name: String,
}

/// The picture `spec` names: `test:17` or `train:3`, counted from 0, is an image of the data set, for which alone `dataset` is
/// called; anything else is the path of a file for [`read_picture`].
///
/// # Errors
/// An index that is no number or out of range; as `dataset`; as [`read_picture`].
pub fn resolve(spec: &str, dataset: impl FnOnce() -> Result<Dataset>) -> Result<Picture> {
    let indexed = ["test", "train"].into_iter().find_map(|set| Some((set, spec.strip_prefix(set)?.strip_prefix(':')?)));
    // A file of that name can still be meant.
    let Some((set, index)) = indexed.filter(|_| !Path::new(spec).exists()) else {
        let path = Path::new(spec);
        let name = path.file_name().map_or_else(|| spec.into(), |name| name.to_string_lossy());
        return Ok(Picture { pixels: read_picture(path)?, label: None, name: name.into_owned() });
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
    let class = dataset.classes.get(usize::from(images.label(index)));
    let name = class.map_or_else(|| spec.to_owned(), |class| format!("{spec} ({class})"));
    Ok(Picture { pixels: *images.image(index), label: class.map(|_| images.label(index)), name })
}

/// The image in the file `path` (PNG, JPEG, WebP, BMP or GIF, whatever its name ends with) as 32 x 32 pixels: turned as its EXIF
/// tag says, its middle square resized with a Lanczos filter (enlarged with Catmull-Rom; 32 x 32 pixels stay as they are). Grey, 16-bit, palette
/// and CMYK images become 8-bit RGB, transparency lies over white, and an animation is its first frame. Colour profiles are not applied.
///
/// # Errors
/// No file, not an image of these formats, a damaged one, fewer than 8 or more than 16,384 pixels a side, more than 512 MiB
/// decoded.
pub fn read_picture(path: &Path) -> Result<Pixels> {
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
    Ok(shrink(&image))
}

/// The middle square of `image`, resized; planes R, G, B.
fn shrink(image: &DynamicImage) -> Pixels {
    let side = image.width().min(image.height());
    let mut square = image.crop_imm((image.width() - side) / 2, (image.height() - side) / 2, side, side);
    if square.color().has_alpha() {
        // Before the resizing, in which the colour of transparent pixels would spread.
        let mut rgba = square.into_rgba8();
        rgba.pixels_mut().for_each(|pixel| *pixel = over_white(*pixel));
        square = DynamicImage::ImageRgba8(rgba);
    }
    let wanted = SIDE as u32;
    if side != wanted {
        let filter = if side > wanted { FilterType::Lanczos3 } else { FilterType::CatmullRom };
        square = square.resize_exact(wanted, wanted, filter);
    }
    let rgb = square.into_rgb8();
    std::array::from_fn(|i| rgb.as_raw()[i % PLANE * 3 + i / PLANE])
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
