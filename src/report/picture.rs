//! Writing of picture files, in the format given by the file name.

use crate::error::{Error, Result};
use crate::files::{Destination, write_atomically};
use image::codecs::bmp::BmpEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageResult};
use std::path::Path;

/// JPEG quality, from 1 to 100: keeps thin lines and small letters clean.
const QUALITY: u8 = 95;

/// A picture format; all but JPEG are lossless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Also the format for standard output, pipes and devices, which have no file extension.
    Png,
    /// At quality 95.
    Jpeg,
    /// Lossless.
    WebP,
    /// Uncompressed.
    Bmp,
}

impl Format {
    /// Returns the format for writing a picture to `path`.
    ///
    /// # Errors
    /// If a regular file has another extension; the message lists the supported ones.
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
                "{}: the name of a picture must end in .png, .jpg, .jpeg, .webp or .bmp, such as \
                {}",
                path.display(),
                path.with_extension("png").display()
            ))),
        }
    }

    /// Encodes RGB bytes, \[height, width, 3\], in this format.
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

/// Writes RGB bytes, \[height, width, 3\], as a picture in the format given by `path`. The file is
/// written atomically.
///
/// # Errors
/// As [`Format::of`]; if the picture is larger than the format allows, or `path` can't be written.
pub(super) fn write_picture(path: &Path, rgb: &[u8], width: usize, height: usize) -> Result<()> {
    let encoded = Format::of(path)?.encode(rgb, width, height).map_err(|e| {
        Error::failed(format!(
            "cannot encode {} ({width} x {height} pixels): {e}; use a .png file, which may have \
            any size",
            path.display()
        ))
    })?;
    write_atomically(path, &encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageFormat;

    /// Returns a ramp of 24 x 16, which JPEG preserves well.
    fn ramp() -> Vec<u8> {
        (0..16u32)
            .flat_map(|y| (0..24u32).flat_map(move |x| [10 * x, 15 * y, 128].map(|v| v as u8)))
            .collect()
    }

    #[test]
    fn a_picture_has_the_format_of_its_file_extension() {
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
        // The quality has an effect: the file is the one of 95, not of 75.
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
    fn other_extensions_are_refused_and_streams_get_a_png() {
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
        assert!(Format::of(Path::new("x")).unwrap_err().to_string().contains("such as x.png"));
        assert_eq!(Format::of(Path::new("-")).unwrap(), Format::Png);
        if cfg!(unix) {
            assert_eq!(Format::of(Path::new("/dev/null")).unwrap(), Format::Png);
        }
    }

    #[test]
    fn the_error_for_a_picture_too_large_for_its_format_names_one_that_fits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wide.jpg");
        let error = write_picture(&path, &vec![0; 3 * 70_000], 70_000, 1).unwrap_err().to_string();
        assert!(error.contains("wide.jpg (70000 x 1 pixels)") && error.contains(".png"), "{error}");
        write_picture(&path.with_extension("png"), &vec![0; 3 * 70_000], 70_000, 1).unwrap();
    }
}
