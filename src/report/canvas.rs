//! The drawing surface of all charts and maps.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontTransform, register_font};
use std::sync::Once;

/// The largest supersampling factor.
const FINEST: usize = 3;

/// Returns the supersampling factor of text and lines: a picture of so many pixels is drawn this
/// many times larger and averaged down, as plotters itself antialiases neither well. Large pictures
/// would take too much memory.
fn supersampling(pixels: usize) -> usize {
    match pixels {
        0..4_000_000 => FINEST,
        4_000_000..16_000_000 => 2,
        _ => 1,
    }
}

/// The reason why drawing can't fail.
const MEMORY: &str = "drawing into memory with an embedded font";
pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(super) const SOFT_INK: RGBColor = RGBColor(0x44, 0x44, 0x44);
/// Okabe and Ito's colours, which colour-blind readers can distinguish.
pub(super) const PALETTE: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
];

/// A white picture that plotters draws on, and the number of its pixels per unit of coordinates and
/// lengths.
pub(super) struct Canvas<'b>(DrawingArea<BitMapBackend<'b>, plotters::coord::Shift>, f64);

/// Draws a picture of `width` x `height` pixels and returns its RGB bytes.
pub(super) fn draw(width: usize, height: usize, work: impl FnOnce(&Canvas)) -> Vec<u8> {
    draw_sharp(width, height, 1, work)
}

/// Draws a picture of `width` x `height` units, each `pixels` wide and high in the returned RGB
/// picture, for high-density screens.
pub(super) fn draw_sharp(
    width: usize,
    height: usize,
    pixels: usize,
    work: impl FnOnce(&Canvas),
) -> Vec<u8> {
    register();
    let (width, height) = (width * pixels, height * pixels);
    let over = supersampling(width * height);
    let mut large = vec![255; width * height * over * over * 3];
    let size = ((width * over) as u32, (height * over) as u32);
    work(&Canvas(
        BitMapBackend::with_buffer(&mut large, size).into_drawing_area(),
        (over * pixels) as f64,
    ));
    if over == 1 {
        return large;
    }
    let mut out = Vec::with_capacity(width * height * 3);
    for rows in large.chunks_exact(width * over * 3 * over) {
        for x in 0..width {
            for channel in 0..3 {
                let at = |y: usize, dx: usize| {
                    u32::from(rows[(y * width * over + x * over + dx) * 3 + channel])
                };
                let sum: u32 = (0..over * over).map(|i| at(i / over, i % over)).sum();
                out.push(((sum + (over * over / 2) as u32) / (over * over) as u32) as u8);
            }
        }
    }
    out
}

impl Canvas<'_> {
    fn scaled(&self, (x, y): (f64, f64)) -> (i32, i32) {
        ((x * self.1).round() as i32, (y * self.1).round() as i32)
    }

    pub(super) fn line(&self, from: (f64, f64), to: (f64, f64), colour: RGBColor, width: f64) {
        let style = colour.stroke_width((width * self.1).round() as u32);
        self.0.draw(&PathElement::new([self.scaled(from), self.scaled(to)], style)).expect(MEMORY);
    }

    /// Draws a filled rectangle between two corners.
    pub(super) fn bar(&self, from: (f64, f64), to: (f64, f64), colour: RGBColor) {
        self.0
            .draw(&Rectangle::new([self.scaled(from), self.scaled(to)], colour.filled()))
            .expect(MEMORY);
    }

    pub(super) fn dot(&self, at: (f64, f64), radius: f64, colour: RGBColor) {
        self.0
            .draw(&Circle::new(self.scaled(at), (radius * self.1).floor() as i32, colour.filled()))
            .expect(MEMORY);
    }

    /// Draws the image `pixels`, \[3, side, side\] bytes in planes, as a square of `size` with its
    /// top left corner at `at`.
    pub(super) fn picture(&self, pixels: &[u8], at: (f64, f64), size: f64) {
        let side = (pixels.len() / 3).isqrt();
        let wide = (size * self.1).round() as usize;
        let from = |to: usize| (2 * to + 1) * side / (2 * wide);
        let places = (0..wide * wide).map(|i| from(i / wide) * side + from(i % wide));
        let rgb: Vec<u8> =
            places.flat_map(|i| [0, 1, 2].map(|plane| pixels[plane * side * side + i])).collect();
        let element: BitMapElement<_> =
            BitMapElement::with_owned_buffer(self.scaled(at), (wide as u32, wide as u32), rgb)
                .expect("the buffer matches its size");
        self.0.draw(&element).expect(MEMORY);
    }

    /// Draws a polyline segment by segment with round joints: plotters fills a thick path as one
    /// polygon, which goes wrong where it crosses itself.
    pub(super) fn polyline(&self, points: &[(f64, f64)], colour: RGBColor, width: f64) {
        for pair in points.windows(2) {
            self.line(pair[0], pair[1], colour, width);
            // plotters draws circles one pixel wider than twice their radius.
            self.dot(pair[1], width / 2.0 - 0.5 / self.1, colour);
        }
    }

    /// Draws text of `size` pixels anchored at a point; `size` extends from the top of the highest
    /// letters to the bottom of the lowest.
    pub(super) fn text(
        &self,
        text: &str,
        at: (f64, f64),
        size: f64,
        colour: RGBColor,
        anchor: (HPos, VPos),
    ) {
        let font = ("sans-serif", size * self.1).into_font();
        // plotters centres the font's box, whose middle is above that of the letters.
        let lower = if matches!(anchor.1, VPos::Center) { size * 0.09 } else { 0.0 };
        self.put_text(
            text,
            (at.0, at.1 + lower),
            font.color(&colour).pos(Pos::new(anchor.0, anchor.1)),
        );
    }

    /// Draws text that reads upwards, its top at `at.0` and its middle at `at.1`.
    pub(super) fn text_upwards(&self, text: &str, at: (f64, f64), size: f64, colour: RGBColor) {
        let font = ("sans-serif", size * self.1).into_font().transform(FontTransform::Rotate270);
        self.put_text(text, at, font.color(&colour).pos(Pos::new(HPos::Center, VPos::Top)));
    }

    fn put_text(&self, text: &str, at: (f64, f64), style: TextStyle) {
        self.0.draw(&Text::new(text, self.scaled(at), style)).expect(MEMORY);
    }
}

/// Returns the width in pixels of `text` at `size` pixels.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    register();
    let font = ("sans-serif", size * FINEST as f64).into_font();
    f64::from(font.box_size(text).expect(MEMORY).0) / FINEST as f64
}

/// Registers the embedded font with plotters, so that no fonts of the machine are needed.
fn register() {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        let font =
            register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
        assert!(font.is_ok(), "the embedded font is valid");
    });
}
