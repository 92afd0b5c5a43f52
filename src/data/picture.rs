//! Images in files of any size and common format, and images that a user names.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

mod decode;
mod kind;
mod named;
pub(super) mod resample;
mod resize;
mod whole;

pub use decode::SMALLEST_SIDE;
pub(super) use decode::{Decoded, Trouble, decode};
pub(super) use kind::{FIRST_BYTES, Kind, kind, named_image};
pub use named::{Picture, distinct, resolve};

/// The largest file, in bytes: a decoded image stored uncompressed, plus the file's other content.
const LONGEST: u64 = decode::LARGEST + (64 << 20);
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

#[cfg(test)]
pub(super) mod tests;
