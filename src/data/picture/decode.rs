//! Decodes the bytes of an image file to pixels.

use super::{kind, resize, whole};
use image::metadata::Orientation;
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage, Rgba,
};
use std::error::Error;
use std::io::{self, Cursor};

/// The fewest pixels a side; a smaller image is just a patch of colour.
pub const SMALLEST_SIDE: u32 = 8;
/// The most pixels a side.
const LARGEST_SIDE: u32 = 16_384;
/// The largest decoded image, in bytes.
pub(super) const LARGEST: u64 = 512 << 20;
/// The formats that the program reads, in words.
const FORMATS: &str = "PNG, JPEG, WebP, BMP, GIF or PPM";

/// An image decoded from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::data) struct Decoded {
    /// `[3, side, side]`.
    pub pixels: Vec<u8>,
    /// The width of the whole image in pixels, after applying the orientation.
    pub width: u32,
    /// The height of the whole image in pixels, after applying the orientation.
    pub height: u32,
    /// Whether the file has 16 bits per value and all values are below 4,096. Such an image looks
    /// black.
    pub twelve_bit: bool,
}

/// Why a file can't be used. Its `Display` continues a sentence that begins with the file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::data) enum Trouble {
    /// Fewer than [`SMALLEST_SIDE`] pixels a side.
    #[error(
        "has {width} x {height} pixels; choose an image of at least {SMALLEST_SIDE} pixels a side"
    )]
    TooSmall { width: u32, height: u32 },
    /// A side or total size above the limits.
    #[error("is too large: at most {LARGEST_SIDE} pixels a side and {} MiB decoded; scale it down", LARGEST >> 20)]
    TooLarge,
    /// Truncated or altered; holds the decoder's message.
    #[error("is damaged or not an image ({0}); give a {FORMATS} file")]
    Damaged(String),
    /// Not a readable format; holds its name if it is known.
    #[error("is not an image that can be read{}; give a {FORMATS} file", .0.as_ref().map_or(String::new(), |name| format!(" ({name})")))]
    Foreign(Option<String>),
}

impl Trouble {
    fn truncated() -> Self {
        Self::Damaged("it is truncated: the end of the image is missing".into())
    }

    /// Returns what is wrong without the remedy, for lists.
    pub(in crate::data) fn brief(&self) -> String {
        let whole = self.to_string();
        whole.split_once("; ").map_or(whole.clone(), |(what, _)| what.to_owned())
    }
}

/// Returns whether a decoder met the end of the file too early.
fn ends_early(e: &ImageError) -> bool {
    let first: &(dyn Error + 'static) = match e {
        // Its source is only what is behind `e`.
        ImageError::IoError(e) => e,
        e => e,
    };
    std::iter::successors(Some(first), |&e| e.source())
        .filter_map(|e| e.downcast_ref::<io::Error>())
        .any(|e| e.kind() == io::ErrorKind::UnexpectedEof)
}

impl From<ImageError> for Trouble {
    fn from(e: ImageError) -> Self {
        match e {
            ImageError::Limits(_) => Self::TooLarge,
            ImageError::Unsupported(_) => Self::Foreign(None),
            e if ends_early(&e) => Self::truncated(),
            e => Self::Damaged(e.to_string()),
        }
    }
}

/// Decodes the image file `bytes` at `side` pixels a side, as [`read_picture`](super::read_picture)
/// does.
///
/// # Errors
/// See [`read_picture`](super::read_picture), without the file's name.
pub(in crate::data) fn decode(bytes: &[u8], side: usize) -> Result<Decoded, Trouble> {
    let format = kind::format(bytes)
        .ok_or_else(|| Trouble::Foreign(kind::foreign(bytes).map(Into::into)))?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    (limits.max_image_width, limits.max_image_height, limits.max_alloc) =
        (Some(LARGEST_SIDE), Some(LARGEST_SIDE), Some(LARGEST));
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if width.min(height) < SMALLEST_SIDE {
        return Err(Trouble::TooSmall { width, height });
    }
    // Checked before anything of this size is allocated.
    if width.max(height) > LARGEST_SIDE || decoder.total_bytes() > LARGEST {
        return Err(Trouble::TooLarge);
    }
    if format == ImageFormat::Jpeg && !whole::jpeg_has_its_end(bytes) {
        return Err(Trouble::truncated());
    }
    let orientation = decoder.orientation()?;
    let image = DynamicImage::from_decoder(decoder)?;
    let pixels = oriented(central_square(&image, orientation, side), side, orientation);
    let (width, height) = if swaps_sides(orientation) { (height, width) } else { (width, height) };
    Ok(Decoded { pixels, width, height, twelve_bit: is_twelve_bit(&image) })
}

/// Returns the square that is central once the orientation is applied, before it is applied:
/// `[3, wanted, wanted]`.
fn central_square(image: &DynamicImage, orientation: Orientation, wanted: usize) -> Vec<u8> {
    use Orientation::{
        FlipHorizontal, FlipVertical, Rotate90, Rotate180, Rotate270, Rotate270FlipH,
    };
    let side = image.width().min(image.height());
    let (across, down) = (image.width() - side, image.height() - side);
    // If the difference is odd, the oriented image drops one pixel less at its start, which may be
    // the other end here.
    let start = |rest: u32, reversed: bool| if reversed { rest.div_ceil(2) } else { rest / 2 };
    let left = start(
        across,
        matches!(orientation, FlipHorizontal | Rotate180 | Rotate270 | Rotate270FlipH),
    );
    let top =
        start(down, matches!(orientation, FlipVertical | Rotate180 | Rotate90 | Rotate270FlipH));
    let (width, side, left, top) =
        (image.width() as usize, side as usize, left as usize, top as usize);
    match image {
        DynamicImage::ImageLuma8(image) => {
            cropped::<1, _>(image, width, [left, top], side, wanted, f32::from)
        }
        DynamicImage::ImageLuma16(image) => {
            cropped::<1, _>(image, width, [left, top], side, wanted, |v| f32::from(v) / 257.0)
        }
        DynamicImage::ImageRgb8(image) => {
            cropped::<3, _>(image, width, [left, top], side, wanted, f32::from)
        }
        DynamicImage::ImageRgb16(image) => {
            cropped::<3, _>(image, width, [left, top], side, wanted, |v| f32::from(v) / 257.0)
        }
        // Composited first, because resizing would spread the colour of transparent pixels.
        image => {
            let square =
                image.crop_imm(left as u32, top as u32, side as u32, side as u32).into_rgba8();
            let (pixels, _) = square.as_raw().as_chunks::<4>();
            let opaque: Vec<u8> =
                pixels.iter().flat_map(|&pixel| over_white(Rgba(pixel)).0).collect();
            cropped::<3, _>(&opaque, side, [0, 0], side, wanted, f32::from)
        }
    }
}

/// Resizes the square of `side` pixels a side at `[left, top]`, cut from rows of `width` pixels of
/// `C` values each.
fn cropped<const C: usize, T: Copy>(
    values: &[T],
    width: usize,
    [left, top]: [usize; 2],
    side: usize,
    wanted: usize,
    value: impl Fn(T) -> f32,
) -> Vec<u8> {
    resize::planes::<C>(side, wanted, |y, out| {
        let row = &values[((top + y) * width + left) * C..][..side * C];
        out.iter_mut().zip(row).for_each(|(out, &v)| *out = value(v));
    })
}

/// Checks whether the orientation swaps width and height.
fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH)
}

/// Applies the orientation to the planes `pixels` of a square.
fn oriented(pixels: Vec<u8>, side: usize, orientation: Orientation) -> Vec<u8> {
    if orientation == Orientation::NoTransforms {
        return pixels;
    }
    let plane = side * side;
    let rgb =
        (0..plane).flat_map(|p| [pixels[p], pixels[p + plane], pixels[p + 2 * plane]]).collect();
    let mut image = DynamicImage::ImageRgb8(
        RgbImage::from_raw(side as u32, side as u32, rgb).expect("three bytes a pixel"),
    );
    image.apply_orientation(orientation);
    let rgb = image.into_rgb8();
    let (pixels, _) = rgb.as_raw().as_chunks::<3>();
    (0..3).flat_map(|channel| pixels.iter().map(move |pixel| pixel[channel])).collect()
}

/// Checks whether `image` has 16 bits per value, of which its colours use at most 12.
fn is_twelve_bit(image: &DynamicImage) -> bool {
    let below = |values: &[u16]| values.iter().all(|&v| v < 1 << 12);
    match image {
        DynamicImage::ImageLuma16(image) => below(image),
        DynamicImage::ImageRgb16(image) => below(image),
        DynamicImage::ImageLumaA16(image) => image.pixels().all(|pixel| below(&pixel.0[..1])),
        DynamicImage::ImageRgba16(image) => image.pixels().all(|pixel| below(&pixel.0[..3])),
        _ => false,
    }
}

fn over_white(Rgba([r, g, b, a]): Rgba<u8>) -> Rgb<u8> {
    let a = u32::from(a);
    let blend = |c: u8| ((u32::from(c) * a + 255 * (255 - a) + 127) / 255) as u8;
    Rgb([blend(r), blend(g), blend(b)])
}
