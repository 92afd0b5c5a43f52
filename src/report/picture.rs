//! Pictures into files, in the format that a file's name asks for.

use crate::error::{Error, Result};
use crate::files::{Destination, write_atomically};
use image::codecs::bmp::BmpEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageResult};
use std::path::Path;

/// Of JPEG, from 1 to 100: thin lines and small letters stay clean.
const QUALITY: u8 = 95;

/// How a picture is stored; all but JPEG keep every pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The format of what has no name to end: standard output, pipes, devices.
    Png,
    /// At quality 95.
    Jpeg,
    /// Lossless.
    WebP,
    /// Not compressed.
    Bmp,
}

impl Format {
    /// The format of a picture that is written to `path`.
    ///
    /// # Errors
    /// A regular file whose name ends otherwise; the message lists the endings.
    pub fn of(path: &Path) -> Result<Self> {
        if !matches!(Destination::of(path)?, Destination::File(_)) {
            return Ok(Self::Png);
        }
        match path.extension().unwrap_or_default().to_string_lossy().to_lowercase().as_str() {
            "png" => Ok(Self::Png),
            "jpg" | "jpeg" => Ok(Self::Jpeg),
            "webp" => Ok(Self::WebP),
            "bmp" => Ok(Self::Bmp),
            _ => Err(Error::usage(format!(
                "{}: the name of a picture ends with .png, .jpg, .jpeg, .webp or .bmp; {} is one, for example",
                path.display(),
                path.with_extension("png").display()
            ))),
        }
    }

    /// RGB bytes, \[height, width, 3\], in this format.
    fn encode(self, rgb: &[u8], width: usize, height: usize) -> ImageResult<Vec<u8>> {
        let (mut out, kind) = (Vec::new(), ExtendedColorType::Rgb8);
        let (w, h) = (width as u32, height as u32);
        match self {
            Self::Png => PngEncoder::new(&mut out).write_image(rgb, w, h, kind)?,
            Self::Jpeg => {
                JpegEncoder::new_with_quality(&mut out, QUALITY).write_image(rgb, w, h, kind)?
            }
            Self::WebP => WebPEncoder::new_lossless(&mut out).write_image(rgb, w, h, kind)?,
            Self::Bmp => BmpEncoder::new(&mut out).write_image(rgb, w, h, kind)?,
        }
        Ok(out)
    }
}

/// Writes RGB bytes, \[height, width, 3\], as a picture in the format that `path` asks for; a file
/// appears whole or not at all.
///
/// # Errors
/// As [`Format::of`]; a picture larger than the format allows; `path` can't be written.
pub(super) fn write_picture(path: &Path, rgb: &[u8], width: usize, height: usize) -> Result<()> {
    let encoded = Format::of(path)?.encode(rgb, width, height).map_err(|e| {
        Error::failed(format!(
            "cannot encode {} ({width} x {height} pixels): {e}; a .png may be of any size",
            path.display()
        ))
    })?;
    write_atomically(path, &encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageFormat;

    /// A ramp, which JPEG keeps well, 24 x 16.
    fn ramp() -> Vec<u8> {
        (0..16u32)
            .flat_map(|y| (0..24u32).flat_map(move |x| [10 * x, 15 * y, 128].map(|v| v as u8)))
            .collect()
    }

    #[test]
    fn a_picture_is_in_the_format_that_its_name_says() {
        let (folder, rgb) = (tempfile::tempdir().unwrap(), ramp());
        for (name, format) in [
            ("a.png", ImageFormat::Png),
            ("b.PNG", ImageFormat::Png),
            ("c.jpg", ImageFormat::Jpeg),
            ("d.Jpeg", ImageFormat::Jpeg),
            ("e.webp", ImageFormat::WebP),
            ("f.x.bmp", ImageFormat::Bmp),
        ] {
            let path = folder.path().join(name);
            write_picture(&path, &rgb, 24, 16).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(image::guess_format(&bytes).unwrap(), format, "{name}");
            let back = image::load_from_memory(&bytes).unwrap().into_rgb8();
            assert_eq!(back.dimensions(), (24, 16));
            let worst = back.as_raw().iter().zip(&rgb).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(
                worst <= Some(if format == ImageFormat::Jpeg { 24 } else { 0 }),
                "{name}: {worst:?}"
            );
        }
        // The quality is what keeps small letters.
        let mean = |quality| {
            let mut out = Vec::new();
            JpegEncoder::new_with_quality(&mut out, quality)
                .write_image(&rgb, 24, 16, ExtendedColorType::Rgb8)
                .unwrap();
            out.len()
        };
        assert_eq!(std::fs::metadata(folder.path().join("c.jpg")).unwrap().len(), mean(95) as u64);
        assert_ne!(mean(95), mean(75));
    }

    #[test]
    fn other_endings_are_refused_and_what_has_no_ending_gets_a_png() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x.tiff", "x", "x.gif", ".png", "x.png.txt"] {
            let path = folder.path().join(name);
            let error = write_picture(&path, &ramp(), 24, 16).unwrap_err();
            assert!(
                error.exit_code() == 2
                    && error.to_string().contains(".png, .jpg, .jpeg, .webp or .bmp"),
                "{error}"
            );
            assert!(!path.exists());
        }
        assert!(Format::of(Path::new("x")).unwrap_err().to_string().contains("x.png is one"));
        assert_eq!(Format::of(Path::new("-")).unwrap(), Format::Png);
        if cfg!(unix) {
            assert_eq!(Format::of(Path::new("/dev/null")).unwrap(), Format::Png);
        }
    }

    #[test]
    fn a_picture_too_large_for_its_format_names_one_that_takes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wide.jpg");
        let error = write_picture(&path, &vec![0; 3 * 70_000], 70_000, 1).unwrap_err().to_string();
        assert!(error.contains("wide.jpg (70000 x 1 pixels)") && error.contains(".png"), "{error}");
        write_picture(&path.with_extension("png"), &vec![0; 3 * 70_000], 70_000, 1).unwrap();
    }
}
