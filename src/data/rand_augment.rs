//! RandAugment (Cubuk et al., arXiv 1909.13719) with torchvision's operations and ranges, on bytes,
//! computed as PIL does.

use super::side_of;
use crate::rng::Stream;
use rand::RngExt;

/// The number of magnitudes of an operation: 0 to 30.
pub const BINS: usize = 31;

/// One augmentation operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Does nothing.
    Identity,
    /// Shears along x: rows move sideways.
    ShearX,
    /// Shears along y: columns move up or down.
    ShearY,
    /// Shifts sideways.
    TranslateX,
    /// Shifts up or down.
    TranslateY,
    /// Rotates about the centre.
    Rotate,
    /// Moves values away from or towards black.
    Brightness,
    /// Moves values away from or towards grey.
    Color,
    /// Moves values away from or towards the mean grey.
    Contrast,
    /// Moves values away from or towards a smoothed image.
    Sharpness,
    /// Keeps the highest bits of each value.
    Posterize,
    /// Inverts the values from a threshold on.
    Solarize,
    /// Stretches each channel to the full range.
    AutoContrast,
    /// Equalises the histogram of each channel.
    Equalize,
}

impl Op {
    /// All operations; sampling gives each the same probability.
    pub const ALL: [Op; 14] = [
        Op::Identity,
        Op::ShearX,
        Op::ShearY,
        Op::TranslateX,
        Op::TranslateY,
        Op::Rotate,
        Op::Brightness,
        Op::Color,
        Op::Contrast,
        Op::Sharpness,
        Op::Posterize,
        Op::Solarize,
        Op::AutoContrast,
        Op::Equalize,
    ];

    /// The operations that don't move pixels.
    pub const IN_PLACE: [Op; 9] = [
        Op::Identity,
        Op::Brightness,
        Op::Color,
        Op::Contrast,
        Op::Sharpness,
        Op::Posterize,
        Op::Solarize,
        Op::AutoContrast,
        Op::Equalize,
    ];

    /// Returns whether the sign of the magnitude is random.
    pub fn signed(self) -> bool {
        !matches!(
            self,
            Op::Identity | Op::Posterize | Op::Solarize | Op::AutoContrast | Op::Equalize
        )
    }

    /// Returns the effect of magnitude `bin` (0 to 30) on an image of `side` pixels a side: a
    /// slope, pixels, degrees, a change of the enhancement factor, bits kept, or the threshold from
    /// which values are inverted.
    pub fn magnitude(self, bin: usize, side: usize) -> f64 {
        let share = bin as f64 / (BINS - 1) as f64;
        match self {
            Op::ShearX | Op::ShearY => 0.3 * share,
            Op::TranslateX | Op::TranslateY => 150.0 / 331.0 * side as f64 * share,
            Op::Rotate => 30.0 * share,
            Op::Brightness | Op::Color | Op::Contrast | Op::Sharpness => 0.9 * share,
            Op::Posterize => 8.0 - (4.0 * share).round_ties_even(),
            // Exact for every bin, so that a value equal to the threshold is inverted.
            Op::Solarize => 255.0 - 8.5 * bin as f64,
            Op::Identity | Op::AutoContrast | Op::Equalize => 0.0,
        }
    }

    /// Applies the operation to an image `[3, side, side]` with `magnitude` as returned by
    /// [`Op::magnitude`], with its sign. Uncovered pixels become black.
    pub fn apply(self, image: &mut [u8], magnitude: f64) {
        let (m, plane) = (magnitude, image.len() / 3);
        let factor = (1.0 + m) as f32;
        match self {
            Op::Identity => {}
            Op::ShearX => affine(image, [1.0, m, 0.0, 0.0, 1.0, 0.0]),
            Op::ShearY => affine(image, [1.0, 0.0, 0.0, m, 1.0, 0.0]),
            Op::TranslateX => affine(image, [1.0, 0.0, -m.trunc(), 0.0, 1.0, 0.0]),
            Op::TranslateY => affine(image, [1.0, 0.0, 0.0, 0.0, 1.0, -m.trunc()]),
            Op::Rotate => rotate(image, m),
            Op::Brightness => look_up(image, |p| blend(0, p, factor)),
            Op::Contrast => {
                let mean = (grey(image).iter().map(|&g| u32::from(g)).sum::<u32>()
                    + plane as u32 / 2)
                    / plane as u32;
                look_up(image, |p| blend(mean as u8, p, factor));
            }
            Op::Color => {
                let grey = grey(image);
                image.chunks_exact_mut(plane).for_each(|plane| blend_onto(plane, &grey, factor));
            }
            Op::Sharpness => {
                let side = side_of(image);
                image.chunks_exact_mut(plane).for_each(|plane| {
                    let smooth = smooth(plane, side);
                    blend_onto(plane, &smooth, factor);
                });
            }
            Op::Posterize => {
                let mask = 0xff00u16.wrapping_shr(m as u32) as u8;
                image.iter_mut().for_each(|p| *p &= mask);
            }
            Op::Solarize => look_up(image, |p| if f64::from(p) < m { p } else { 255 - p }),
            Op::AutoContrast => image.chunks_exact_mut(plane).for_each(auto_contrast),
            Op::Equalize => image.chunks_exact_mut(plane).for_each(equalize),
        }
    }
}

/// Applies `ops` operations in a row at magnitude `bin` (0 to 30), each sampled with replacement:
/// from all operations or, without `geometric`, from those that don't move pixels.
pub fn rand_augment(image: &mut [u8], ops: usize, bin: usize, geometric: bool, rng: &mut Stream) {
    let side = side_of(image);
    let choice: &[Op] = if geometric { &Op::ALL } else { &Op::IN_PLACE };
    for _ in 0..ops {
        let op = choice[rng.random_range(0..choice.len() as u32) as usize];
        let sign = if op.signed() && rng.random::<bool>() { -1.0 } else { 1.0 };
        op.apply(image, sign * op.magnitude(bin, side));
    }
}

/// Rotates counter-clockwise by `degrees` about the centre.
fn rotate(image: &mut [u8], degrees: f64) {
    // PIL rounds off the floating-point noise in sin and cos at multiples of 90 degrees.
    let round = |v: f64| (v * 1e15).round() / 1e15;
    let (sin, cos) = (-degrees.to_radians()).sin_cos();
    let (sin, cos, centre) = (round(sin), round(cos), side_of(image) as f64 / 2.0);
    let from_centre = |a: f64, b: f64| a * -centre + b * -centre + centre;
    affine(image, [cos, sin, from_centre(cos, sin), -sin, cos, from_centre(-sin, cos)]);
}

/// Nearest-neighbour affine transform: output pixel (x, y) is the input pixel that contains (a x +
/// b y + c, d x + e y + f), evaluated at pixel centres; black outside. Positions advance in 16.16
/// fixed point.
fn affine(image: &mut [u8], [a, b, c, d, e, f]: [f64; 6]) {
    let fixed = |v: f64| (v * 65536.0 + 0.5).floor() as i32;
    let (mut row_x, mut row_y) = (fixed(c + 0.5 * (a + b)), fixed(f + 0.5 * (d + e)));
    let [a, b, d, e] = [a, b, d, e].map(fixed);
    let (side, source) = (side_of(image), image.to_vec());
    let plane = side * side;
    for row in 0..side {
        let (mut x, mut y) = (row_x, row_y);
        for at in row * side..(row + 1) * side {
            let (column, line) = ((x >> 16) as usize, (y >> 16) as usize);
            let from = (column < side && line < side).then(|| line * side + column);
            for first in [0, plane, 2 * plane] {
                image[first + at] = from.map_or(0, |from| source[first + from]);
            }
            x += a;
            y += d;
        }
        row_x += b;
        row_y += e;
    }
}

/// Returns `degenerate` + factor * (`value` - `degenerate`), saturated to a byte.
fn blend(degenerate: u8, value: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(degenerate), f32::from(value));
    (from + factor * (to - from)) as u8
}

fn blend_onto(plane: &mut [u8], degenerate: &[u8], factor: f32) {
    for (p, &d) in plane.iter_mut().zip(degenerate) {
        *p = blend(d, *p, factor);
    }
}

/// Replaces every byte p by f(p), computed once for each of the 256 values.
fn look_up(bytes: &mut [u8], f: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|p| f(p as u8));
    bytes.iter_mut().for_each(|p| *p = table[usize::from(*p)]);
}

/// Returns the ITU-R 601 luma of an image `[3, side, side]`, rounded as in PIL.
pub(super) fn grey(image: &[u8]) -> Vec<u8> {
    let plane = image.len() / 3;
    let luma = |[r, g, b]: [u8; 3]| {
        ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
    };
    let (red, rest) = image.split_at(plane);
    let (green, blue) = rest.split_at(plane);
    red.iter().zip(green).zip(blue).map(|((&r, &g), &b)| luma([r, g, b])).collect()
}

/// Returns the weighted mean of the 3 x 3 neighbourhood in a plane of `side` pixels a side, with
/// the centre weighted five times; border pixels are unchanged.
fn smooth(plane: &[u8], side: usize) -> Vec<u8> {
    let mut out = plane.to_vec();
    let rows: Vec<&[u8]> = plane.chunks_exact(side).collect();
    let mut columns = vec![0u16; side];
    for (three, line) in rows.windows(3).zip(out.chunks_exact_mut(side).skip(1)) {
        for (x, sum) in columns.iter_mut().enumerate() {
            *sum = three.iter().map(|row| u16::from(row[x])).sum();
        }
        for x in 1..side - 1 {
            let sum = columns[x - 1] + columns[x] + columns[x + 1] + 4 * u16::from(three[1][x]);
            line[x] = ((sum + 6) / 13) as u8;
        }
    }
    out
}

/// Stretches the values of one plane to 0..=255.
fn auto_contrast(plane: &mut [u8]) {
    let (low, high) = plane.iter().fold((255, 0), |(low, high), &p| (p.min(low), p.max(high)));
    if low < high {
        let scale = 255.0 / f64::from(high - low);
        look_up(plane, |p| (f64::from(p) * scale - f64::from(low) * scale) as u8);
    }
}

/// Equalises the histogram of one plane.
fn equalize(plane: &mut [u8]) {
    let mut histogram = [0usize; 256];
    plane.iter().for_each(|&p| histogram[usize::from(p)] += 1);
    let last = histogram.iter().rev().find(|&&count| count > 0).copied().unwrap_or_default();
    let step = (plane.len() - last) / 255;
    if step > 0 {
        let mut below = step / 2;
        let table: [u8; 256] = std::array::from_fn(|p| {
            let level = (below / step).min(255) as u8;
            below += histogram[p];
            level
        });
        plane.iter_mut().for_each(|p| *p = table[usize::from(*p)]);
    }
}

#[cfg(test)]
pub(super) mod tests;
