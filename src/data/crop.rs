//! RandomResizedCrop and horizontal flip, pixel for pixel as torchvision applies them to a PIL
//! image.

use super::planes::{bytes_of, side_of};
use crate::config::ViewConfig;
use crate::rng::Stream;
use rand::RngExt;
use std::borrow::Cow;

/// A region of an image in pixels; `top + height` and `left + width` are at most the image's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows, at least 1.
    pub height: usize,
    /// Columns, at least 1.
    pub width: usize,
}

impl Window {
    /// Returns the window of a whole image of `side` pixels a side.
    pub const fn whole(side: usize) -> Window {
        Window { top: 0, left: 0, height: side, width: side }
    }
}

/// The geometry of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The region of the image that it shows.
    pub window: Window,
    /// Whether it is mirrored left to right.
    pub flip: bool,
}

impl Geometry {
    /// Returns the geometry of the unaugmented image, `side` pixels a side.
    pub const fn plain(side: usize) -> Geometry {
        Geometry { window: Window::whole(side), flip: false }
    }

    /// Returns the geometry of `self` relative to the view `source` of the same image:
    /// `[scale_x, offset_x, scale_y, offset_y]`. The point (x, y) of `self` is the point
    /// (scale_x x + offset_x, scale_y y + offset_y) of `source`. Coordinates run from -1 (left,
    /// top) to 1 (right, bottom), whatever the sides of the two views.
    pub fn within(&self, source: &Geometry) -> [f32; 4] {
        let axis = |at: usize, length: usize, source_at: usize, source_length: usize| {
            let (scale, shift) =
                (length as f32 / source_length as f32, at as f32 - source_at as f32);
            [scale, 2.0 * shift / source_length as f32 + scale - 1.0]
        };
        let (own, other) = (&self.window, &source.window);
        let [scale_x, offset_x] = axis(own.left, own.width, other.left, other.width);
        let [scale_y, offset_y] = axis(own.top, own.height, other.top, other.height);
        let sign = |flip: bool| if flip { -1.0 } else { 1.0 };
        [
            scale_x * sign(self.flip) * sign(source.flip),
            offset_x * sign(source.flip),
            scale_y,
            offset_y,
        ]
    }

    /// Returns the geometry in the plain image of `side` pixels a side that corresponds to
    /// `within`: [`Geometry::within`] of the result is the argument again, to within a pixel.
    /// Anything outside the image is clipped.
    pub fn of_plain([scale_x, offset_x, scale_y, offset_y]: [f32; 4], side: usize) -> Geometry {
        let axis = |scale: f32, offset: f32| {
            let pixels = |share: f32| (share * side as f32).round().max(0.0) as usize;
            let length = pixels(scale.abs()).clamp(1, side);
            (pixels((offset - scale.abs() + 1.0) / 2.0).min(side - length), length)
        };
        let ((left, width), (top, height)) = (axis(scale_x, offset_x), axis(scale_y, offset_y));
        Geometry { window: Window { top, left, height, width }, flip: scale_x < 0.0 }
    }
}

/// Samples the window of a RandomResizedCrop of an image of `side` pixels a side: area uniform
/// within `crop_scale`, width over height log-uniform within `crop_ratio`. After ten windows that
/// don't fit, returns the largest central one with an allowed ratio.
pub fn draw_window(side: usize, config: &ViewConfig, rng: &mut Stream) -> Window {
    let between =
        |rng: &mut Stream, [low, high]: [f64; 2]| low + (high - low) * rng.random::<f64>();
    let scale = config.crop_scale.map(f64::from);
    let ratio = config.crop_ratio.map(f64::from);
    for _ in 0..10 {
        let area = (side * side) as f64 * between(rng, scale);
        let ratio = between(rng, ratio.map(f64::ln)).exp();
        let [width, height] =
            [area * ratio, area / ratio].map(|square| square.sqrt().round_ties_even() as usize);
        if (1..=side).contains(&width) && (1..=side).contains(&height) {
            let top = rng.random_range(0..=(side - height) as u32) as usize;
            let left = rng.random_range(0..=(side - width) as u32) as usize;
            return Window { top, left, height, width };
        }
    }
    central_window(side, ratio)
}

/// Returns the largest central window of an image of `side` pixels a side whose width over height
/// lies within `ratio`.
fn central_window(side: usize, [smallest, largest]: [f64; 2]) -> Window {
    let shorter = |share: f64| ((side as f64 * share).round_ties_even() as usize).clamp(1, side);
    let (width, height) = if smallest > 1.0 {
        (side, shorter(1.0 / smallest))
    } else if largest < 1.0 {
        (shorter(largest), side)
    } else {
        (side, side)
    };
    Window { top: (side - height) / 2, left: (side - width) / 2, height, width }
}

const PRECISION: u32 = 22;

/// The filter taps of each pixel of a resized line: `count` consecutive inputs from `first` on,
/// with their weights in units of 1 / 2^22.
struct Taps {
    count: usize,
    first: Vec<usize>,
    /// `[first.len(), count]`
    weights: Vec<i32>,
}

impl Taps {
    /// Computes PIL's bilinear taps for resizing a line of `from` pixels to `to`: two inputs per
    /// pixel when enlarging; when reducing, more in proportion to the reduction (antialiasing).
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let support = scale.max(1.0);
        let narrow = 1.0 / support;
        let count = if scale <= 1.0 { 2 } else { 2 * support.ceil() as usize + 1 }.min(from);
        let (mut firsts, mut weights) = (Vec::with_capacity(to), Vec::with_capacity(to * count));
        for x in 0..to {
            let center = (x as f64 + 0.5) * scale;
            // Near the end of the line the taps start earlier; inputs outside the filter get weight
            // zero.
            let first = ((center - support + 0.5).max(0.0) as usize).min(from - count);
            let weight = |i: usize| 1.0 - ((i as f64 - center + 0.5) * narrow).abs().min(1.0);
            let sum: f64 = (first..first + count).map(weight).sum();
            let one = f64::from(1u32 << PRECISION);
            weights.extend((first..first + count).map(|i| (weight(i) / sum * one + 0.5) as i32));
            firsts.push(first);
        }
        Self { count, first: firsts, weights }
    }

    /// Resizes `line` to `out`.
    fn along(&self, line: &[u8], out: &mut [u8]) {
        if self.count == 2 {
            for ((value, &first), &weights) in
                out.iter_mut().zip(&self.first).zip(self.weights.as_chunks().0)
            {
                *value = mix(line[first], line[first + 1], weights);
            }
            return;
        }
        for ((value, &first), weights) in
            out.iter_mut().zip(&self.first).zip(self.weights.chunks_exact(self.count))
        {
            *value = rounded(
                line[first..].iter().zip(weights).map(|(&p, &weight)| i32::from(p) * weight).sum(),
            );
        }
    }

    /// Resizes the columns of `rows`, lines of `width` pixels, to those of `out`.
    fn across(&self, rows: &[u8], width: usize, out: &mut [u8]) {
        let row = |y: usize| &rows[y * width..][..width];
        let lines = out.chunks_exact_mut(width).zip(&self.first);
        if self.count == 2 {
            for ((line, &first), &weights) in lines.zip(self.weights.as_chunks().0) {
                for ((value, &a), &b) in line.iter_mut().zip(row(first)).zip(row(first + 1)) {
                    *value = mix(a, b, weights);
                }
            }
            return;
        }
        let mut sums = vec![0; width];
        for ((line, &first), weights) in lines.zip(self.weights.chunks_exact(self.count)) {
            sums.fill(0);
            for (y, &weight) in (first..).zip(weights) {
                sums.iter_mut().zip(row(y)).for_each(|(sum, &p)| *sum += i32::from(p) * weight);
            }
            line.iter_mut().zip(&sums).for_each(|(value, &sum)| *value = rounded(sum));
        }
    }
}

/// Resizes `window` of `image` to `[3, side, side]`, bilinearly, with half-pixel centres and PIL's
/// rounding: first along rows, then along columns, rounded to bytes in between. `flip` mirrors the
/// result left to right.
pub fn resized_crop(image: &[u8], window: Window, flip: bool, side: usize) -> Vec<u8> {
    let own = side_of(image);
    let Window { top, left, height, width } = window;
    let [columns, lines] =
        [width, height].map(|from| (from != side).then(|| Taps::new(from, side)));
    let mut out = vec![0; bytes_of(side)];
    let mut rows = vec![0; height * side];
    for (plane, out) in image.chunks_exact(own * own).zip(out.chunks_exact_mut(side * side)) {
        for (line, row) in plane.chunks_exact(own).skip(top).zip(rows.chunks_exact_mut(side)) {
            let line = &line[left..left + width];
            match &columns {
                Some(taps) => taps.along(line, row),
                None => row.copy_from_slice(line),
            }
            if flip {
                row.reverse();
            }
        }
        match &lines {
            Some(taps) => taps.across(&rows, side, out),
            None => out.copy_from_slice(&rows),
        }
    }
    out
}

/// Resizes the whole of `image` to `[3, side, side]`.
pub fn resized(image: &[u8], side: usize) -> Cow<'_, [u8]> {
    match side_of(image) {
        own if own == side => Cow::Borrowed(image),
        own => Cow::Owned(resized_crop(image, Window::whole(own), false, side)),
    }
}

fn mix(a: u8, b: u8, weights: [i32; 2]) -> u8 {
    rounded(i32::from(a) * weights[0] + i32::from(b) * weights[1])
}

/// Rounds a sum of bytes weighted in units of 1 / 2^22. Weights sum to 2^22 (within a unit each),
/// so the result fits a byte after rounding.
fn rounded(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).min(255) as u8
}

/// Mirrors an image `[3, side, side]` left to right.
pub fn flip(image: &mut [u8]) {
    let side = side_of(image);
    image.chunks_exact_mut(side).for_each(<[u8]>::reverse);
}

#[cfg(test)]
mod tests;
