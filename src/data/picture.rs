//! Pictures that a user names: a file of any size and common format, or an image of the data set.

use super::images::allocate;
use super::{Dataset, bytes_of};
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
    pub label: Option<u16>,
    /// For people: the file's name, or the place in the data set and the name of the class:
    /// "test:17 (ship)".
    pub name: String,
}

/// The picture `spec` names at `side` pixels a side: `test:17` or `train:3`, counted from 0, is an
/// image of the data set, for which alone `dataset` is called (its images must have that side);
/// anything else is the path of a file for [`read_picture`].
///
/// # Errors
/// An index that is no number or out of range; as `dataset`; as [`read_picture`].
pub fn resolve(
    spec: &str,
    side: usize,
    dataset: impl FnOnce() -> Result<Dataset>,
) -> Result<Picture> {
    let indexed = ["test", "train"]
        .into_iter()
        .find_map(|set| Some((set, spec.strip_prefix(set)?.strip_prefix(':')?)));
    // A file of that name can still be meant.
    let Some((set, index)) = indexed.filter(|_| !Path::new(spec).exists()) else {
        let path = Path::new(spec);
        let name = path.file_name().map_or_else(|| spec.into(), |name| name.to_string_lossy());
        return Ok(Picture {
            pixels: read_picture(path, side)?,
            label: None,
            name: name.into_owned(),
        });
    };
    let index: usize = index.parse().map_err(|_| {
        Error::usage(format!(
            "{spec}: after {set}: comes the number of an image from 0 on, for example {set}:17"
        ))
    })?;
    let dataset = dataset()?;
    let images = if set == "test" { &dataset.test } else { &dataset.train };
    if index >= images.len() {
        let (n, last) = (images.len(), images.len().saturating_sub(1));
        return Err(Error::usage(format!(
            "{spec}: the {set} set of {} holds {n} images; choose 0 to {last}",
            dataset.name
        )));
    }
    let label = images.label(index);
    let class = dataset.classes.get(usize::from(label));
    // Its place in the data set, which the user named, and what is known of it: "test:17 (ship)",
    // "test:17 (cats/3.jpg, cats)".
    let known: Vec<&str> =
        images.own_name(index).into_iter().chain(class.map(String::as_str)).collect();
    let name =
        if known.is_empty() { spec.to_owned() } else { format!("{spec} ({})", known.join(", ")) };
    Ok(Picture { pixels: images.image(index)?.into_owned(), label: class.map(|_| label), name })
}

/// The image in the file `path` (PNG, JPEG, WebP, BMP, GIF, or PPM and its relatives, whatever its
/// name ends with) as `[3, side, side]`: turned as its EXIF tag says, its middle square resized
/// with a Lanczos filter (enlarged with Catmull-Rom; one of that side stays as it is). Grey,
/// 16-bit, palette and CMYK images become 8-bit RGB, transparency lies over white, and an animation
/// is its first frame. Colour profiles are not applied.
///
/// # Errors
/// No file, not an image of these formats, a damaged one or one that was cut, fewer than 8 or more
/// than 16,384 pixels a side, more than 512 MiB decoded.
pub fn read_picture(path: &Path, side: usize) -> Result<Vec<u8>> {
    let name = path.display();
    if path.is_dir() {
        return Err(Error::failed(format!("{name} is a folder; name an image file")));
    }
    let read = read(path, side).map_err(|e| Error::io("read", path, &e))?;
    let decoded = read.map_err(|trouble| Error::failed(format!("{name} {trouble}")))?;
    let Decoded { pixels, width, height, twelve_bit } = decoded;
    log::debug!(
        "{name}: {width} x {height} pixels{}",
        if twelve_bit { ", 12 of 16 bits used" } else { "" }
    );
    Ok(pixels)
}

/// The image in the file `path`.
pub(super) fn read(
    path: &Path,
    side: usize,
) -> std::io::Result<std::result::Result<Decoded, Trouble>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    file.by_ref().take(FIRST_BYTES as u64).read_to_end(&mut bytes)?;
    let name = path.to_string_lossy();
    if kind(&name, &bytes) == Some(Kind::Readable) {
        // A pipe tells no length beforehand.
        let known = file.metadata()?.len();
        if known <= LONGEST {
            file.take(LONGEST).read_to_end(&mut bytes)?;
        }
        if known.max(bytes.len() as u64) > LONGEST {
            return Ok(Err(Trouble::TooLarge));
        }
    } else if kind::named_readable(&name) && kind::foreign(&bytes).is_none() {
        return Ok(Err(Trouble::Damaged("it begins like none".into())));
    }
    Ok(decode(&bytes, side))
}

/// `pixels` `[N, 3, own, own]` at `side` pixels a side, `[N, 3, side, side]`, resized as files are.
///
/// # Errors
/// If they don't fit into memory.
pub(super) fn resample(pixels: &[u8], own: usize, side: usize) -> Result<Vec<u8>> {
    let images = pixels.chunks_exact(bytes_of(own));
    let mut out = allocate(images.len(), side)?;
    let progress = Progress::new("resampling images", Some(images.len()));
    out.par_chunks_exact_mut(bytes_of(side)).zip(pixels.par_chunks_exact(bytes_of(own))).for_each(
        |(out, image)| {
            out.copy_from_slice(&resample_one(image, own, side));
            progress.add(1);
        },
    );
    Ok(out)
}

/// The image `[3, own, own]` at `side` pixels a side, resized as files are.
pub(super) fn resample_one(image: &[u8], own: usize, side: usize) -> Vec<u8> {
    let plane = own * own;
    let row = |y: usize, out: &mut [f32]| {
        let (out, _) = out.as_chunks_mut::<3>();
        let place = |x: usize, channel: usize| f32::from(image[channel * plane + y * own + x]);
        out.iter_mut()
            .enumerate()
            .for_each(|(x, pixel)| *pixel = std::array::from_fn(|channel| place(x, channel)));
    };
    resize::planes::<3>(own, side, row)
}

#[cfg(test)]
pub(super) mod tests;
