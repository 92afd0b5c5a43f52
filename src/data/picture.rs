//! Images that a user names: a file of any size and common format, or an image of the data set.

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

/// The fewest pixels a side; a smaller image is just a patch of colour.
pub const SMALLEST_SIDE: u32 = 8;
/// The most pixels a side.
const LARGEST_SIDE: u32 = 16_384;
/// The largest decoded image, in bytes.
const LARGEST: u64 = 512 << 20;
/// The largest file, in bytes: a decoded image stored uncompressed, plus the file's other content.
const LONGEST: u64 = LARGEST + (64 << 20);
/// The formats that the program reads, in words.
pub(super) const FORMATS: &str = "PNG, JPEG, WebP, BMP, GIF or PPM";

/// One image, ready for the encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// `[3, side, side]`.
    pub pixels: Vec<u8>,
    /// Its class, if it belongs to a data set that has classes.
    pub label: Option<u16>,
    /// The display name: the file's name, or the position in the data set with the class name:
    /// "test:17 (ship)".
    pub name: String,
}

/// Loads the image that `spec` names at `side` pixels a side. `test:17` or `train:3`, counted from
/// 0, is an image of the data set; only then is `dataset` called (its images must have that side).
/// Anything else is the path of a file for [`read_picture`].
///
/// # Errors
/// An index that isn't a number or is out of range; errors of `dataset` and of [`read_picture`].
pub fn resolve(
    spec: &str,
    side: usize,
    dataset: impl FnOnce() -> Result<Dataset>,
) -> Result<Picture> {
    let indexed = ["test", "train"]
        .into_iter()
        .find_map(|set| Some((set, spec.strip_prefix(set)?.strip_prefix(':')?)));
    // An existing file of that name takes precedence.
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
            "{spec}: {set}: must be followed by the number of an image, counted from 0, for \
             example {set}:17"
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
    // Its position in the data set, as the user gave it, followed by what is known of it: "test:17
    // (ship)", "test:17 (cats/3.jpg, cats)".
    let known: Vec<&str> =
        images.own_name(index).into_iter().chain(class.map(String::as_str)).collect();
    let name =
        if known.is_empty() { spec.to_owned() } else { format!("{spec} ({})", known.join(", ")) };
    Ok(Picture { pixels: images.image(index)?.into_owned(), label: class.map(|_| label), name })
}

/// Reads the image in the file `path` (PNG, JPEG, WebP, BMP, GIF, or PPM and its relatives,
/// whatever its extension) as `[3, side, side]`. It is oriented as its EXIF tag says, and its
/// central square is resized with a Lanczos filter (enlarged with Catmull-Rom; left as it is if it
/// already has that side). Grey, 16-bit, palette and CMYK images are converted to 8-bit RGB,
/// transparency is composited over white, and of an animation the first frame is used. Colour
/// profiles are not applied.
///
/// # Errors
/// No file; not an image of these formats; a damaged or truncated image; fewer than 8 or more than
/// 16,384 pixels a side; more than 512 MiB decoded.
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

/// Reads the image in the file `path`.
pub(super) fn read(
    path: &Path,
    side: usize,
) -> std::io::Result<std::result::Result<Decoded, Trouble>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    file.by_ref().take(FIRST_BYTES as u64).read_to_end(&mut bytes)?;
    let name = path.to_string_lossy();
    if kind(&name, &bytes) == Some(Kind::Readable) {
        // The length of a pipe isn't known in advance.
        let known = file.metadata()?.len();
        if known <= LONGEST {
            file.take(LONGEST).read_to_end(&mut bytes)?;
        }
        if known.max(bytes.len() as u64) > LONGEST {
            return Ok(Err(Trouble::TooLarge));
        }
    } else if kind::named_readable(&name) && kind::foreign(&bytes).is_none() {
        return Ok(Err(Trouble::Damaged("its first bytes match no known format".into())));
    }
    Ok(decode(&bytes, side))
}

/// Resizes `pixels` `[N, 3, own, own]` to `[N, 3, side, side]`, in the same way as image files.
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

/// Resizes the image `[3, own, own]` to `side` pixels a side, in the same way as image files.
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
