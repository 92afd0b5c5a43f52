//! Image grids: reconstructions over their originals, interpolations, samples.

use super::canvas::{Canvas, INK, SOFT_INK, draw, text_width};
use super::picture::write_picture;
use crate::data::views::to_byte;
use crate::error::{Error, Result};
use plotters::style::text_anchor::{HPos, VPos};
use std::path::Path;

/// Gap in pixels between two images and around the grid, and above a row that begins a block.
const GAP: usize = 2;
const BLOCK_GAP: usize = 10;
/// Text size of the labels in pixels, and their distance from the images.
const TEXT: f64 = 16.0;
/// Text size of the captions, in pixels.
const CAPTION: f64 = 13.0;
const TEXT_GAP: f64 = 10.0;

/// The maximum width in pixels of a label, and of a heading or caption that pushes columns apart;
/// longer ones are shortened.
const MOST_LABEL: f64 = 320.0;
const MOST_TEXT: f64 = 220.0;

/// Target width of an image in pixels: `SMALL` for large grids, [`LARGE`] where details matter.
pub const SMALL: usize = 64;
/// See [`SMALL`].
pub const LARGE: usize = 96;

/// One row of images.
///
/// A row with a label begins a block. The block is set off from the rows above, extends to the next
/// label, and has its label next to its middle. Reconstructions in two rows over two rows of
/// originals are four `GridRow`s, the first and the third with a label.
#[derive(Clone, Debug)]
pub struct GridRow<'a> {
    /// Text to the left of the block that this row begins.
    pub label: Option<&'a str>,
    /// Planar images \[3, size, size\] in \[-1, 1\]; rows may differ in length.
    pub images: Vec<&'a [f32]>,
}

/// Writes `images`, \[N, 3, size, size\] in \[-1, 1\], as a picture with `columns` images per row,
/// each enlarged `scale` times.
///
/// # Errors
/// As [`save_rows`]; if `columns` is 0.
///
/// # Panics
/// If the length of `images` is not a multiple of 3 size^2.
pub fn save_grid(
    path: &Path,
    images: &[f32],
    size: usize,
    columns: usize,
    scale: usize,
) -> Result<()> {
    let len = 3 * size * size;
    assert!(
        len > 0 && images.len().is_multiple_of(len),
        "save_grid: {} values are not [N, 3, {size}, {size}]",
        images.len()
    );
    if columns == 0 {
        return Err(Error::usage(format!(
            "cannot draw {}: a grid needs at least 1 column",
            path.display()
        )));
    }
    let images: Vec<&[f32]> = images.chunks_exact(len).collect();
    let rows: Vec<GridRow> =
        images.chunks(columns).map(|row| GridRow { label: None, images: row.to_vec() }).collect();
    save_rows(path, &rows, size, scale)
}

/// Returns the factor by which to enlarge images of `size` pixels a side to about `wanted` pixels;
/// larger images keep their size.
pub fn scale(size: usize, wanted: usize) -> usize {
    (wanted / size).max(1)
}

/// Writes reconstructions in rows of ten over as many rows of their originals; both \[N, 3, size,
/// size\] in \[-1, 1\].
///
/// # Errors
/// As [`save_rows`].
pub fn save_reconstructions(
    path: &Path,
    reconstructions: &[f32],
    originals: &[f32],
    size: usize,
) -> Result<()> {
    let mut rows = Vec::new();
    for (label, images) in [("from z alone", reconstructions), ("original", originals)] {
        let images: Vec<&[f32]> = images.chunks_exact(3 * size * size).collect();
        let first = rows.len();
        rows.extend(images.chunks(10).map(|row| GridRow { label: None, images: row.to_vec() }));
        if let Some(row) = rows.get_mut(first) {
            row.label = Some(label);
        }
    }
    crate::files::create_parent(path)?;
    save_rows(path, &rows, size, scale(size, SMALL))
}

/// Writes `rows` of images \[3, size, size\] as a picture, each pixel as a square of `scale`
/// pixels; values outside \[-1, 1\] are clipped. The file is written atomically.
///
/// # Errors
/// If there are no images, a pixel is not finite (the message names row and image), `scale` is 0,
/// or `path` can't be written.
///
/// # Panics
/// If an image is not \[3, size, size\].
pub fn save_rows(path: &Path, rows: &[GridRow], size: usize, scale: usize) -> Result<()> {
    save_table(path, &[], rows, size, scale)
}

/// Writes `rows` as [`save_rows`], with a heading over each column; an empty heading is omitted.
///
/// # Errors
/// As [`save_rows`].
pub fn save_table(
    path: &Path,
    headings: &[&str],
    rows: &[GridRow],
    size: usize,
    scale: usize,
) -> Result<()> {
    save_captioned(path, headings, rows, &[], size, scale)
}

/// Writes `rows` as [`save_table`], with a caption below each image: `captions` has an entry for
/// each of `rows`, or none at all.
///
/// # Errors
/// As [`save_rows`].
///
/// # Panics
/// As [`save_rows`]; if there are captions, but not one for each image.
pub fn save_captioned(
    path: &Path,
    headings: &[&str],
    rows: &[GridRow],
    captions: &[Vec<String>],
    size: usize,
    scale: usize,
) -> Result<()> {
    let as_many = |captions: &[Vec<String>]| {
        captions.iter().map(Vec::len).eq(rows.iter().map(|r| r.images.len()))
    };
    assert!(captions.is_empty() || as_many(captions), "save_captioned: one caption for each image");
    check(path, rows, size, scale)?;
    let layout = Layout::new(headings, rows, captions, size * scale);
    let mut pixels = draw(layout.width, layout.height, |canvas| layout.draw_texts(canvas));
    for (row, &top) in rows.iter().zip(&layout.tops) {
        for (x, image) in row.images.iter().enumerate() {
            let corner = (layout.column(x), top);
            put_image(&mut pixels, layout.width, corner, image, size, scale);
        }
    }
    write_picture(path, &pixels, layout.width, layout.height)
}

/// Checks that there are images, that they are \[3, size, size\] and finite, and that the scale is
/// not 0; see [`save_rows`].
fn check(path: &Path, rows: &[GridRow], size: usize, scale: usize) -> Result<()> {
    let path = path.display();
    if rows.iter().all(|row| row.images.is_empty()) {
        return Err(Error::failed(format!("cannot draw {path}: there are no images")));
    }
    if scale == 0 {
        return Err(Error::usage(format!("cannot draw {path}: the scale must be at least 1")));
    }
    for (y, row) in rows.iter().enumerate() {
        for (x, image) in row.images.iter().enumerate() {
            assert_eq!(
                image.len(),
                3 * size * size,
                "save_rows: values of image {x} in row {y}, compared with [3, {size}, {size}]"
            );
            if let Some(value) = image.iter().find(|v| !v.is_finite()) {
                return Err(Error::failed(format!(
                    "cannot draw {path}: a pixel of image {x} in row {y} is {value}; the weights \
                    or the sampler diverged"
                )));
            }
        }
    }
    Ok(())
}

/// Draws the image \[3, size, size\], each pixel as a square of `scale`, into the RGB picture
/// `pixels` of `width`, with its top left pixel at `corner`.
fn put_image(
    pixels: &mut [u8],
    width: usize,
    (left, top): (usize, usize),
    image: &[f32],
    size: usize,
    scale: usize,
) {
    let cell = size * scale;
    for (y, x) in (0..cell).flat_map(|y| (0..cell).map(move |x| (y, x))) {
        let from = y / scale * size + x / scale;
        let to = ((top + y) * width + left + x) * 3;
        for channel in 0..3 {
            pixels[to + channel] = to_byte(image[channel * size * size + from]);
        }
    }
}

/// The places of images and texts in a picture, in pixels.
struct Layout {
    width: usize,
    height: usize,
    /// Width and height of an image.
    cell: usize,
    /// The left edge of the first column, and the distance between columns.
    left: usize,
    pitch: usize,
    /// The upper edge of the images of each row.
    tops: Vec<usize>,
    heading_height: usize,
    headings: Vec<String>,
    labels: Vec<Option<String>>,
    captions: Vec<Vec<String>>,
}

impl Layout {
    fn new(headings: &[&str], rows: &[GridRow], captions: &[Vec<String>], cell: usize) -> Self {
        let most = MOST_TEXT.max(cell as f64);
        let headings: Vec<String> =
            headings.iter().map(|heading| shortened(heading, most, TEXT)).collect();
        let labels: Vec<Option<String>> =
            rows.iter().map(|r| r.label.map(|label| shortened(label, MOST_LABEL, TEXT))).collect();
        let captions: Vec<Vec<String>> = captions
            .iter()
            .map(|row| row.iter().map(|caption| shortened(caption, most, CAPTION)).collect())
            .collect();

        let label_width = labels.iter().flatten().map(|l| text_width(l, TEXT)).reduce(f64::max);
        let left = label_width.map_or(GAP, |w| (w + 2.0 * TEXT_GAP).ceil() as usize);
        let widths = headings.iter().map(|text| text_width(text, TEXT));
        let widths = widths.chain(captions.iter().flatten().map(|text| text_width(text, CAPTION)));
        // Wide headings and captions push columns apart.
        let text = widths.fold(0.0, f64::max).ceil() as usize;
        let pitch = (cell + GAP).max(if text == 0 { 0 } else { text + TEXT_GAP as usize });
        let columns = rows.iter().map(|r| r.images.len()).max().unwrap_or(0);

        let below = if captions.is_empty() { 0 } else { (CAPTION * 1.5) as usize };
        let heading_height = if headings.is_empty() { 0 } else { (TEXT + TEXT_GAP) as usize };
        let mut tops = Vec::with_capacity(rows.len());
        let mut height = heading_height;
        for row in rows {
            height += if row.label.is_some() && height > heading_height { BLOCK_GAP } else { GAP };
            tops.push(height);
            height += cell + below;
        }
        Self {
            width: left + columns * pitch,
            height: height + GAP,
            cell,
            left,
            pitch,
            tops,
            heading_height,
            headings,
            labels,
            captions,
        }
    }

    /// Returns the left edge of the images of column `x`.
    fn column(&self, x: usize) -> usize {
        self.left + x * self.pitch
    }

    /// Draws headings, captions and labels.
    fn draw_texts(&self, canvas: &Canvas) {
        let centre = (HPos::Center, VPos::Center);
        let middle = |x: usize| self.column(x) as f64 + self.cell as f64 / 2.0;
        for (x, heading) in self.headings.iter().enumerate() {
            canvas.text(heading, (middle(x), self.heading_height as f64 / 2.0), TEXT, INK, centre);
        }
        for (captions, top) in self.captions.iter().zip(&self.tops) {
            for (x, caption) in captions.iter().enumerate() {
                let place = (middle(x), (top + self.cell) as f64 + CAPTION * 0.75);
                canvas.text(caption, place, CAPTION, SOFT_INK, centre);
            }
        }
        for (y, label) in self.labels.iter().enumerate() {
            let Some(label) = label else { continue };
            let last = y + self.labels[y + 1..].iter().take_while(|l| l.is_none()).count();
            // In the middle of the block.
            let place = (
                self.left as f64 - TEXT_GAP,
                (self.tops[y] + self.tops[last] + self.cell) as f64 / 2.0,
            );
            canvas.text(label, place, TEXT, INK, (HPos::Right, VPos::Center));
        }
    }
}

/// Shortens `text` to at most `most` pixels at font size `size`. The middle of longer texts becomes
/// "..", as file names differ at their ends and begin with their folder.
fn shortened(text: &str, most: f64, size: f64) -> String {
    let width = text_width(text, size);
    if width <= most {
        return text.to_owned();
    }
    let letters: Vec<char> = text.chars().collect();
    let mut kept = (letters.len() as f64 * most / width) as usize;
    loop {
        let (front, back) = (kept.div_ceil(2), kept / 2);
        let cut: String = letters[..front]
            .iter()
            .chain(&['.', '.'])
            .chain(&letters[letters.len() - back..])
            .collect();
        if kept == 0 || text_width(&cut, size) <= most {
            return cut;
        }
        kept -= 1;
    }
}

#[cfg(test)]
mod tests;
