//! Pictures that a user names: a file of any size and common format, or an image of the data set.

use super::images::allocate;
use super::{Dataset, Images, bytes_of};
use crate::error::{Error, Result};
use crate::progress::Progress;
use rayon::prelude::*;
use std::fs::File;
use std::io::Read;
use std::path::Path;

mod decode;
mod kind;
mod resize;
mod whole;

pub(super) use decode::{Decoded, Trouble, decode};
pub(super) use kind::{FIRST_BYTES, Kind, kind};

/// Fewest pixels a side: a smaller image is a patch of colour.
pub const SMALLEST_SIDE: u32 = 8;
/// Most pixels a side.
const LARGEST_SIDE: u32 = 16_384;
/// Most bytes of a decoded image.
const LARGEST: u64 = 512 << 20;
/// Most bytes of a file: a decoded image as it is, and what else a file holds.
const LONGEST: u64 = LARGEST + (64 << 20);
/// What the program reads, in words.
pub(super) const FORMATS: &str = "PNG, JPEG, WebP, BMP, GIF or PPM";

/// One picture, ready for the encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// `[3, side, side]`.
    pub pixels: Vec<u8>,
    /// Its class, where it is an image of a data set that has classes.
    pub label: Option<u8>,
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
    let class = dataset.classes.get(usize::from(images.label(index)));
    let name = class.map_or_else(|| spec.to_owned(), |class| format!("{spec} ({class})"));
    Ok(Picture { pixels: images.image(index).to_vec(), label: class.map(|_| images.label(index)), name })
}

/// The image in the file `path` (PNG, JPEG, WebP, BMP, GIF, or PPM and its relatives, whatever its name ends with) as
/// `[3, side, side]`: turned as its EXIF tag says, its middle square resized with a Lanczos filter (enlarged with Catmull-Rom; one of
/// that side stays as it is). Grey, 16-bit, palette and CMYK images become 8-bit RGB, transparency lies over white, and an animation
/// is its first frame. Colour profiles are not applied.
///
/// # Errors
/// No file, not an image of these formats, a damaged one or one that was cut, fewer than 8 or more than 16,384 pixels a side, more
/// than 512 MiB decoded.
pub fn read_picture(path: &Path, side: usize) -> Result<Vec<u8>> {
    let name = path.display();
    if path.is_dir() {
        return Err(Error::failed(format!("{name} is a folder; name an image file")));
    }
    let decoded = read(path, side)?.map_err(|trouble| Error::failed(format!("{name} {trouble}")))?;
    let Decoded { pixels, width, height, twelve_bit } = decoded;
    log::debug!("{name}: {width} x {height} pixels{}", if twelve_bit { ", 12 of 16 bits used" } else { "" });
    Ok(pixels)
}

/// The image in the file `path`.
fn read(path: &Path, side: usize) -> Result<std::result::Result<Decoded, Trouble>> {
    let failed = |e| Error::io("read", path, &e);
    let mut file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.by_ref().take(FIRST_BYTES as u64).read_to_end(&mut bytes).map_err(failed)?;
    let name = path.to_string_lossy();
    if kind(&name, &bytes) == Some(Kind::Readable) {
        // A pipe tells no length beforehand.
        let known = file.metadata().map_err(failed)?.len();
        if known <= LONGEST {
            file.take(LONGEST).read_to_end(&mut bytes).map_err(failed)?;
        }
        if known.max(bytes.len() as u64) > LONGEST {
            return Ok(Err(Trouble::TooLarge));
        }
    } else if kind::named_readable(&name) && kind::foreign(&bytes).is_none() {
        return Ok(Err(Trouble::Damaged("it begins like none".into())));
    }
    Ok(decode(&bytes, side))
}

/// `images` with `side` pixels a side, resized as files are.
///
/// # Errors
/// If they don't fit into memory.
pub(super) fn resample(images: &Images, side: usize) -> Result<Images> {
    let (own, plane) = (images.side(), images.side() * images.side());
    let mut pixels = allocate(images.len(), side)?;
    let progress = Progress::new("resampling images", Some(images.len()));
    pixels.par_chunks_exact_mut(bytes_of(side)).enumerate().for_each(|(i, out)| {
        let image = images.image(i);
        let row = |y: usize, out: &mut [f32]| {
            let (out, _) = out.as_chunks_mut::<3>();
            let place = |x: usize, channel: usize| f32::from(image[channel * plane + y * own + x]);
            out.iter_mut().enumerate().for_each(|(x, pixel)| *pixel = std::array::from_fn(|channel| place(x, channel)));
        };
        out.copy_from_slice(&resize::planes::<3>(own, side, row));
        progress.add(1);
    });
    Ok(Images::new(side, pixels, images.labels().to_vec()))
}

#[cfg(test)]
pub(super) mod tests;
