//! Recognises image files by their first bytes, or by the extension if those are inconclusive.

use image::ImageFormat;

/// The number of bytes at the start of a file that suffice to recognise it. Fewer only if the file
/// has no more.
pub(in crate::data) const FIRST_BYTES: usize = 256;

/// How the program treats an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data) enum Kind {
    /// Its content is of a readable format; it may still be damaged.
    Readable,
    /// An image of another format, or a file with an image's extension that isn't one.
    Foreign,
}

/// Extensions of readable formats.
const READABLE: [&str; 17] = [
    "png", "apng", "jpg", "jpeg", "jfif", "jpe", "jif", "jfi", "webp", "bmp", "dib", "gif", "ppm",
    "pgm", "pbm", "pnm", "pam",
];

/// Extensions of image formats that aren't read. Those from "dng" on are camera raw
/// formats.
const FOREIGN: [&str; 58] = [
    "tif", "tiff", "heic", "heif", "hif", "avif", "avifs", "jxl", "jp2", "j2k", "j2c", "jpf",
    "jpx", "jpm", "psd", "psb", "ico", "cur", "icns", "svg", "svgz", "tga", "pcx", "dds", "exr",
    "hdr", "qoi", "ff", "pfm", "xcf", "xpm", "xbm", "jng", "mng", //
    "bpg", "flif", "jxr", "wdp", "dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2",
    "raf", //
    "rw2", "orf", "pef", "srw", "x3f", "rwl", "3fr", "iiq", "erf", "kdc",
];

/// Classifies the file `path_name` (a path or a name) that begins with `first_bytes` (see
/// [`FIRST_BYTES`]). Returns `None` if neither its content nor its name is that of an image.
pub(in crate::data) fn kind(path_name: &str, first_bytes: &[u8]) -> Option<Kind> {
    if format(first_bytes).is_some() {
        return Some(Kind::Readable);
    }
    // A file with an image's extension that isn't an image can't be read either.
    (named_image(path_name) || foreign(first_bytes).is_some()).then_some(Kind::Foreign)
}

/// Checks whether the name has the extension of an image format, readable or not.
pub(in crate::data) fn named_image(path_name: &str) -> bool {
    named_readable(path_name) || FOREIGN.contains(&ending(path_name).as_str())
}

/// Checks whether the name has the extension of a readable format.
pub(super) fn named_readable(path_name: &str) -> bool {
    READABLE.contains(&ending(path_name).as_str())
}

/// Returns the extension in lower case, without the dot; empty if there is none.
fn ending(path_name: &str) -> String {
    let name = path_name.rsplit(['/', '\\']).next().unwrap_or_default();
    name.rsplit_once('.').map_or_else(String::new, |(_, ending)| ending.to_lowercase())
}

/// Returns the format of an image that begins with `bytes`, if it is a readable one.
pub(super) fn format(bytes: &[u8]) -> Option<ImageFormat> {
    let found = match bytes {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => ImageFormat::Png,
        [0xff, 0xd8, 0xff, ..] => ImageFormat::Jpeg,
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => ImageFormat::Gif,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => ImageFormat::WebP,
        // The size of the second header is checked, because texts may begin with these letters.
        [b'B', b'M', rest @ ..]
            if matches!(rest.get(12..16), Some([12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])) =>
        {
            ImageFormat::Bmp
        }
        [b'P', b'1'..=b'6', rest @ ..] if numbers_follow(rest) => ImageFormat::Pnm,
        [b'P', b'7', b'\n', b'W' | b'H' | b'D' | b'M' | b'T' | b'#', ..] => ImageFormat::Pnm,
        _ => return None,
    };
    Some(found)
}

/// Checks whether white space followed by a number or a comment comes next.
fn numbers_follow(rest: &[u8]) -> bool {
    let next = rest.iter().position(|byte| !byte.is_ascii_whitespace());
    next.is_some_and(|at| at > 0 && (rest[at].is_ascii_digit() || rest[at] == b'#'))
}

/// Returns the format's name of an unreadable image that begins with `bytes`.
pub(super) fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let bytes = &bytes[..bytes.len().min(FIRST_BYTES)];
    let name = match bytes {
        [b'I', b'I', 0x2a | 0x2b, 0, ..] | [b'M', b'M', 0, 0x2a | 0x2b, ..] => "TIFF",
        [b'I', b'I', b'U', 0, ..]
        | [b'I', b'I', b'R', b'O' | b'S', ..]
        | [b'M', b'M', b'O', b'R', ..]
        | [b'F', b'O', b'V', b'b', ..] => "a camera's raw data",
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => isobmff(brand)?,
        [0xff, 0x0a, ..] | [0, 0, 0, 0x0c, b'J', b'X', b'L', b' ', ..] => "JPEG XL",
        [0, 0, 0, 0x0c, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => "JPEG 2000",
        [b'8', b'B', b'P', b'S', ..] => "Photoshop",
        [0, 0, 1 | 2, 0, 1..=u8::MAX, 0, _, _, _, 0, ..] => "an icon",
        [0x8a, b'M', b'N', b'G', ..] => "MNG",
        [0x8b, b'J', b'N', b'G', ..] => "JNG",
        [0x76, 0x2f, 0x31, 0x01, ..] => "OpenEXR",
        [b'I', b'I', 0xbc, ..] => "JPEG XR",
        _ => text(bytes)?,
    };
    Some(name)
}

/// Returns the format by the first brand of an ISO base media file, a container that films use as
/// well.
fn isobmff(brand: &[u8]) -> Option<&'static str> {
    Some(match brand.get(..4)? {
        b"avif" | b"avis" => "AVIF",
        b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"hevm" | b"hevs" | b"mif1"
        | b"msf1" => "HEIC",
        b"crx " => "a camera's raw data",
        _ => return None,
    })
}

/// Recognises formats that begin with text.
fn text(bytes: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&str, &str); 8] = [
        ("<svg", "SVG"),
        ("DDS ", "DDS"),
        ("qoif", "QOI"),
        ("farbfeld", "farbfeld"),
        ("#?RADIANCE", "Radiance HDR"),
        ("FUJIFILMCCD-RAW", "a camera's raw data"),
        ("gimp xcf", "GIMP's own format"),
        ("icns", "an icon"),
    ];
    if let Some((_, name)) =
        BEGINNINGS.into_iter().find(|(beginning, _)| bytes.starts_with(beginning.as_bytes()))
    {
        return Some(name);
    }
    let xml = bytes.starts_with(b"<?xml")
        || bytes.starts_with(b"\xef\xbb\xbf<?xml")
        || bytes.starts_with(b"<!DOCTYPE svg");
    (xml && bytes.windows(4).any(|four| four == b"<svg")).then_some("SVG")
}
