//! Scatter maps: points in the plane, coloured by class, or the images that they stand for.

use super::canvas::{Canvas, INK, PALETTE, SOFT_INK, draw, text_width};
use super::picture::write_picture;
use crate::error::{Error, Result};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, HSLColor, RGBColor};
use std::path::Path;

/// The longer side of the frame around the points, without and with thumbnails; the shorter side is
/// at least the fraction `LEAST` of it.
const SIDE: f64 = 760.0;
const LARGE_SIDE: f64 = 1200.0;
const LEAST: f64 = 0.4;
/// The space around the frame: margin, the title above, the axis names.
const MARGIN: f64 = 22.0;
const TOP: f64 = 58.0;
const AXIS: f64 = 30.0;
/// Thumbnails: the width of their frame, the minimum gap between two frames, their sides for few
/// and for many points, and the most points that count as few.
const FRAME_WIDTH: f64 = 2.0;
const APART: f64 = 2.0;
const BIG: f64 = 48.0;
const SMALL: f64 = 36.0;
const FEW: usize = 300;
/// The legend: the height of a line, lines per column, and the most classes shown.
const LINE: f64 = 22.0;
const LINES: usize = 34;
const MOST: usize = 102;
const TEXT: f64 = 15.0;
const FRAME: RGBColor = RGBColor(0xc8, 0xc8, 0xc8);
const WHITE: RGBColor = RGBColor(0xff, 0xff, 0xff);
/// Additional colours for up to ten classes, which also differ in lightness from the usual six.
const MORE: [RGBColor; 4] = [
    RGBColor(0x7a, 0x51, 0x3b),
    RGBColor(0x5b, 0x2a, 0x86),
    RGBColor(0x8a, 0x8a, 0x8a),
    RGBColor(0xa6, 0xa0, 0x1a),
];

/// A map to draw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scatter<'a> {
    /// The title.
    pub title: &'a str,
    /// The names of the x and y axes; empty if they have no meaning.
    pub axes: [&'a str; 2],
    /// Coordinates.
    pub points: &'a [[f64; 2]],
    /// The class of each point.
    pub labels: &'a [u16],
    /// Names of the classes for the legend; if empty, all points have one colour.
    pub classes: &'a [String],
    /// Set if there are two kinds of points.
    pub kinds: Option<Kinds<'a>>,
    /// The image of each point, \[3, side, side\] bytes in planes; if empty, all points are dots.
    pub thumbnails: &'a [&'a [u8]],
}

/// Points of two kinds, dots and rings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kinds<'a> {
    /// The legend's names of dots and of rings.
    pub names: [&'a str; 2],
    /// Whether each point is a ring.
    pub rings: &'a [bool],
}

/// Draws `scatter` with the same scale for x and y, in a frame with the points' proportions, with a
/// legend if there are classes or kinds. The file is written atomically. Only thumbnails that don't
/// overlap others are drawn; the other points stay dots. Returns the number of thumbnails drawn.
///
/// # Errors
/// If there are no points, coordinates aren't finite (the message names the point), or `path` can't
/// be written.
///
/// # Panics
/// If the numbers of labels, rings or thumbnails differ from that of points, or a label has no
/// class (if there are classes).
pub fn save_scatter(path: &Path, scatter: &Scatter) -> Result<usize> {
    let Scatter { title, axes, points, labels, classes, kinds, thumbnails } = *scatter;
    assert_eq!(points.len(), labels.len(), "save_scatter: number of points, compared with labels");
    assert!(
        kinds.is_none_or(|k| k.rings.len() == points.len()),
        "save_scatter: as many rings as points"
    );
    assert!(
        thumbnails.is_empty() || thumbnails.len() == points.len(),
        "save_scatter: as many thumbnails as points"
    );
    assert!(
        classes.is_empty() || labels.iter().all(|&l| usize::from(l) < classes.len()),
        "save_scatter: a label without a class"
    );
    let refuse =
        |what: String| Err(Error::failed(format!("cannot draw {}: {what}", path.display())));
    if points.is_empty() {
        return refuse("there are no points to show".into());
    }
    if let Some(i) = points.iter().position(|p| !p.iter().all(|v| v.is_finite())) {
        return refuse(format!(
            "point {i} has the coordinates {:?}, which aren't finite",
            points[i]
        ));
    }
    let legend = Legend::new(classes, kinds.map(|k| k.names));
    let thumb = if points.len() <= FEW { BIG } else { SMALL };
    let (side, pad) = match thumbnails {
        [] => (SIDE, 0.02 * SIDE),
        _ => (LARGE_SIDE, thumb / 2.0 + FRAME_WIDTH + APART),
    };
    let left = MARGIN + if axes[1].is_empty() { 0.0 } else { AXIS };
    let ((wide, high), places) = fit(points, side, pad);
    let places: Vec<(f64, f64)> =
        places.into_iter().map(|(x, y)| (left + x, TOP + high - y)).collect();
    let bottom = TOP + high;
    let below = MARGIN + if axes[0].is_empty() { 0.0 } else { AXIS };
    let width = (left + wide + MARGIN + legend.width())
        .max(left + text_width(title, 20.0) + MARGIN)
        .ceil() as usize;
    let height = (bottom + below).max(TOP + legend.height() + MARGIN).ceil() as usize;
    let radius = if points.len() > 4_000 {
        1.8
    } else if points.len() > 1_000 {
        2.6
    } else {
        3.6
    };
    let pictured = if thumbnails.is_empty() {
        Vec::new()
    } else {
        uncovered(&places, thumb + 2.0 * FRAME_WIDTH + APART)
    };
    let mark = |canvas: &Canvas, i: usize, at: (f64, f64), radius: f64| {
        canvas.dot(at, radius, colour(usize::from(labels[i]), classes.len()));
        if kinds.is_some_and(|k| k.rings[i]) {
            canvas.dot(at, radius * 0.55, WHITE);
        }
    };
    let pixels = draw(width, height, |canvas| {
        canvas.text(title, (left, 18.0), 20.0, INK, (HPos::Left, VPos::Top));
        for corners in [
            [(0.0, 0.0), (1.0, 0.0)],
            [(1.0, 0.0), (1.0, 1.0)],
            [(1.0, 1.0), (0.0, 1.0)],
            [(0.0, 1.0), (0.0, 0.0)],
        ] {
            let [from, to] = corners.map(|(x, y)| (left + x * wide, TOP + y * high));
            canvas.line(from, to, FRAME, 1.0);
        }
        places.iter().enumerate().for_each(|(i, at)| mark(canvas, i, *at, radius));
        for &i in &pictured {
            // Aligned to whole pixels, which keeps thumbnails sharp.
            let corner = ((places[i].0 - thumb / 2.0).round(), (places[i].1 - thumb / 2.0).round());
            let moved = |by: f64| (corner.0 + by, corner.1 + by);
            canvas.bar(
                moved(-FRAME_WIDTH),
                moved(thumb + FRAME_WIDTH),
                colour(usize::from(labels[i]), classes.len()),
            );
            canvas.picture(thumbnails[i], corner, thumb);
            if kinds.is_some() {
                canvas.dot(moved(3.5), 6.0, WHITE);
                mark(canvas, i, moved(3.5), 4.5);
            }
        }
        canvas.text(
            axes[0],
            (left + wide / 2.0, bottom + 12.0),
            TEXT,
            SOFT_INK,
            (HPos::Center, VPos::Top),
        );
        canvas.text_upwards(axes[1], (MARGIN - 8.0, TOP + high / 2.0), TEXT, SOFT_INK);
        legend.draw(canvas, left + wide + MARGIN);
    });
    write_picture(path, &pixels, width, height)?;
    Ok(pictured.len())
}

/// Returns the width and height of the frame, and the positions of the points in it, from the left
/// and from below. All points are at least `pad` inside, x and y have the same scale, and the
/// longer side is `side`.
fn fit(points: &[[f64; 2]], side: f64, pad: f64) -> ((f64, f64), Vec<(f64, f64)>) {
    let range = |axis: usize| {
        let values = points.iter().map(|p| p[axis]);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ranges = [range(0), range(1)];
    // Halved first to avoid overflow.
    let middle = ranges.map(|(low, high)| low / 2.0 + high / 2.0);
    let halves = ranges.map(|(low, high)| high / 2.0 - low / 2.0);
    let half = halves[0].max(halves[1]);
    let scale = if half > 0.0 { (side / 2.0 - pad) / half } else { 0.0 };
    let [wide, high] =
        halves.map(|h| if half > 0.0 { (2.0 * (h * scale + pad)).max(LEAST * side) } else { side });
    let place = |p: &[f64; 2]| {
        (wide / 2.0 + (p[0] - middle[0]) * scale, high / 2.0 + (p[1] - middle[1]) * scale)
    };
    ((wide, high), points.iter().map(place).collect())
}

/// Greedily selects points whose squares of `size` don't overlap: each one is taken unless it
/// overlaps an earlier one.
fn uncovered(places: &[(f64, f64)], size: f64) -> Vec<usize> {
    // Sets are often sorted by class; golden-ratio steps visit all of it evenly.
    let mut order: Vec<usize> = (0..places.len()).collect();
    let turn = |i: usize| (i as f64 * 0.618_033_988_749_895).fract();
    order.sort_by(|&i, &j| turn(i).total_cmp(&turn(j)));
    let mut taken: Vec<usize> = Vec::new();
    for i in order {
        let apart = |j: &usize| {
            (places[i].0 - places[*j].0).abs().max((places[i].1 - places[*j].1).abs()) >= size
        };
        if taken.iter().all(apart) {
            taken.push(i);
        }
    }
    taken
}

/// Returns the colour of class `i` of `n`.
fn colour(i: usize, n: usize) -> RGBColor {
    if n <= PALETTE.len() + MORE.len() {
        return PALETTE.iter().chain(&MORE).copied().nth(i).unwrap_or(PALETTE[0]);
    }
    // Hues around the colour wheel, with neighbours at different lightness.
    let (r, g, b) = HSLColor(i as f64 / n as f64, 0.7, [0.36, 0.52, 0.66][i % 3]).rgb();
    RGBColor(r, g, b)
}

/// Dots and names in columns: the kinds of points, if any, above the classes.
struct Legend<'a> {
    classes: &'a [String],
    kinds: Option<[&'a str; 2]>,
    column: f64,
}

impl<'a> Legend<'a> {
    fn new(classes: &'a [String], kinds: Option<[&'a str; 2]>) -> Self {
        let names =
            classes.iter().take(MOST).map(String::as_str).chain(kinds.into_iter().flatten());
        let widest = names.map(|name| text_width(name, TEXT)).fold(0.0, f64::max);
        Self { classes, kinds, column: 20.0 + widest + 18.0 }
    }

    /// Returns the lines above the classes: the kinds and an empty one.
    fn before(&self) -> usize {
        if self.kinds.is_some() { 3 } else { 0 }
    }

    fn lines(&self) -> usize {
        self.before() + self.classes.len().min(MOST)
    }

    fn width(&self) -> f64 {
        self.column * self.lines().div_ceil(LINES) as f64
    }

    fn height(&self) -> f64 {
        LINE * self.lines().min(LINES) as f64
    }

    fn draw(&self, canvas: &Canvas, left: f64) {
        let (n, shown) = (self.classes.len(), self.classes.len().min(MOST));
        let place = |i: usize| {
            (left + self.column * (i / LINES) as f64, TOP + LINE * (i % LINES) as f64 + LINE / 2.0)
        };
        let name = |text: &str, (x, y): (f64, f64)| {
            canvas.text(text, (x + 20.0, y), TEXT, INK, (HPos::Left, VPos::Center))
        };
        for (i, kind) in self.kinds.into_iter().flatten().enumerate() {
            let (x, y) = place(i);
            canvas.dot((x + 6.0, y), 5.5, SOFT_INK);
            if i == 1 {
                canvas.dot((x + 6.0, y), 5.5 * 0.55, WHITE);
            }
            name(kind, (x, y));
        }
        for (i, class) in self.classes[..shown].iter().enumerate() {
            let (x, y) = place(self.before() + i);
            // The last line gives the number of classes not shown.
            if n > shown && i + 1 == shown {
                canvas.text(
                    &format!("and {} more", n - i),
                    (x, y),
                    TEXT,
                    SOFT_INK,
                    (HPos::Left, VPos::Center),
                );
            } else {
                canvas.dot((x + 6.0, y), 5.5, colour(i, n));
                name(class, (x, y));
            }
        }
    }
}

#[cfg(test)]
mod tests;
