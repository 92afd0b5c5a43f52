//! RandomResizedCrop and horizontal flip, pixel for pixel as torchvision makes them of a PIL image.

use super::{IMAGE, PLANE, Pixels, SIDE};
use crate::config::ViewConfig;
use crate::rng::Stream;
use rand::RngExt;
use std::sync::LazyLock;

/// A part of an image in pixels; `top + height` and `left + width` are at most 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows, 1 to 32.
    pub height: usize,
    /// Columns, 1 to 32.
    pub width: usize,
}

impl Window {
    /// The whole image.
    pub const WHOLE: Window = Window { top: 0, left: 0, height: SIDE, width: SIDE };
}

/// The geometry of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The part of the image that it shows.
    pub window: Window,
    /// Whether it is mirrored left to right.
    pub flip: bool,
}

impl Geometry {
    /// The image itself.
    pub const PLAIN: Geometry = Geometry { window: Window::WHOLE, flip: false };

    /// How `self` lies in the view `source` of the same image, `[scale_x, offset_x, scale_y, offset_y]`: the point (x, y) of
    /// `self` is (scale_x x + offset_x, scale_y y + offset_y) of `source`, both from -1 (left, top) to 1 (right, bottom).
    pub fn within(&self, source: &Geometry) -> [f32; 4] {
        let axis = |at: usize, length: usize, source_at: usize, source_length: usize| {
            let (scale, shift) = (length as f32 / source_length as f32, at as f32 - source_at as f32);
            [scale, 2.0 * shift / source_length as f32 + scale - 1.0]
        };
        let (own, other) = (&self.window, &source.window);
        let [scale_x, offset_x] = axis(own.left, own.width, other.left, other.width);
        let [scale_y, offset_y] = axis(own.top, own.height, other.top, other.height);
        let sign = |flip: bool| if flip { -1.0 } else { 1.0 };
        [scale_x * sign(self.flip) * sign(source.flip), offset_x * sign(source.flip), scale_y, offset_y]
    }
}

/// Draws the window of a RandomResizedCrop: area uniform within `crop_scale`, width over height log-uniform within
/// `crop_ratio`; after ten windows that don't fit, the largest central one of an allowed ratio.
pub fn draw_window(config: &ViewConfig, rng: &mut Stream) -> Window {
    let between = |rng: &mut Stream, [low, high]: [f64; 2]| low + (high - low) * rng.random::<f64>();
    let scale = config.crop_scale.map(f64::from);
    let ratio = config.crop_ratio.map(f64::from);
    for _ in 0..10 {
        let area = PLANE as f64 * between(rng, scale);
        let ratio = between(rng, ratio.map(f64::ln)).exp();
        let [width, height] = [area * ratio, area / ratio].map(|square| square.sqrt().round_ties_even() as usize);
        if (1..=SIDE).contains(&width) && (1..=SIDE).contains(&height) {
            let top = rng.random_range(0..=(SIDE - height) as u32) as usize;
            let left = rng.random_range(0..=(SIDE - width) as u32) as usize;
            return Window { top, left, height, width };
        }
    }
    central_window(ratio)
}

/// The largest central window whose width over height lies within `ratio`.
fn central_window([smallest, largest]: [f64; 2]) -> Window {
    let shorter = |share: f64| ((SIDE as f64 * share).round_ties_even() as usize).clamp(1, SIDE);
    let (width, height) = if smallest > 1.0 {
        (SIDE, shorter(1.0 / smallest))
    } else if largest < 1.0 {
        (shorter(largest), SIDE)
    } else {
        (SIDE, SIDE)
    };
    Window { top: (SIDE - height) / 2, left: (SIDE - width) / 2, height, width }
}

/// One output pixel of a line: the two inputs it mixes, from `first`, and their weights in 1 / 2^22.
#[derive(Clone, Copy, Default)]
struct Taps {
    first: usize,
    weights: [i32; 2],
}

const PRECISION: u32 = 22;

/// Bilinear taps for stretching a line of n = 0..=32 pixels to 32. A window is never larger than the image, so the antialiasing
/// of PIL's filter, which widens with the factor of a reduction, never acts.
static TAPS: LazyLock<[[Taps; SIDE]; SIDE + 1]> = LazyLock::new(|| {
    std::array::from_fn(|n| {
        std::array::from_fn(|x| {
            if n == 0 {
                return Taps::default();
            }
            let center = (x as f64 + 0.5) * n as f64 / SIDE as f64;
            let first = (center - 0.5).max(0.0) as usize;
            let weight = |i: usize| if i < n { 1.0 - (i as f64 + 0.5 - center).abs().min(1.0) } else { 0.0 };
            let pair = [weight(first), weight(first + 1)];
            let one = f64::from(1u32 << PRECISION);
            Taps { first, weights: pair.map(|w| (w / (pair[0] + pair[1]) * one + 0.5) as i32) }
        })
    })
});

/// Stretches `window` of `image` to 32 x 32, bilinearly, with half-pixel centres and PIL's rounding: first along rows, then
/// along columns, a byte in between. `flip` mirrors the result left to right.
pub fn resized_crop(image: &Pixels, window: Window, flip: bool) -> Pixels {
    let Window { top, left, height, width } = window;
    let mut out = [0u8; IMAGE];
    let columns = &TAPS[width];
    for (plane, out) in image.as_chunks::<PLANE>().0.iter().zip(out.as_chunks_mut::<PLANE>().0) {
        let mut rows = [[0u8; SIDE]; SIDE];
        for (line, row) in plane.as_chunks::<SIDE>().0[top..top + height].iter().zip(&mut rows) {
            // One pixel beyond the window is read, with weight 0; below the window that is a row of `rows` left black.
            let mut padded = [0u8; SIDE + 1];
            padded[..width].copy_from_slice(&line[left..left + width]);
            if width == SIDE {
                *row = *line;
            } else {
                for (value, taps) in row.iter_mut().zip(columns) {
                    let i = taps.first % SIDE;
                    *value = mix(padded[i], padded[i + 1], taps.weights);
                }
            }
            if flip {
                row.reverse();
            }
        }
        if height == SIDE {
            *out = *rows.as_flattened().first_chunk().expect("32 rows of 32 bytes are one plane");
            continue;
        }
        for (line, taps) in out.as_chunks_mut::<SIDE>().0.iter_mut().zip(&TAPS[height]) {
            let (upper, lower) = (&rows[taps.first % SIDE], &rows[(taps.first + 1) % SIDE]);
            for ((value, &a), &b) in line.iter_mut().zip(upper).zip(lower) {
                *value = mix(a, b, taps.weights);
            }
        }
    }
    out
}

fn mix(a: u8, b: u8, weights: [i32; 2]) -> u8 {
    // Weights sum to 2^22 (within one unit), so the result fits a byte after rounding.
    ((i32::from(a) * weights[0] + i32::from(b) * weights[1] + (1 << (PRECISION - 1))) >> PRECISION).min(255) as u8
}

/// Mirrors an image left to right.
pub fn flip(image: &mut Pixels) {
    image.as_chunks_mut::<SIDE>().0.iter_mut().for_each(|row| row.reverse());
}

#[cfg(test)]
mod tests;
