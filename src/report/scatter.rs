//! Maps: points in the plane, coloured by class.

use super::canvas::{Canvas, INK, PALETTE, SOFT_INK, draw, text_width};
use super::picture::write_picture;
use crate::error::{Error, Result};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, HSLColor, RGBColor};
use std::path::Path;

/// Side of the square that the points lie in, and what is around it: margin, the title above, the names of the axes.
const SIDE: f64 = 760.0;
const MARGIN: f64 = 22.0;
const TOP: f64 = 58.0;
const AXIS: f64 = 30.0;
/// The legend: height of a line, lines of a column, classes shown at most.
const LINE: f64 = 22.0;
const LINES: usize = 34;
const MOST: usize = 102;
const TEXT: f64 = 15.0;
const FRAME: RGBColor = RGBColor(0xc8, 0xc8, 0xc8);
/// Colours of up to ten classes: the usual six and four that differ from them in lightness as well.
const MORE: [RGBColor; 4] =
    [RGBColor(0x7a, 0x51, 0x3b), RGBColor(0x5b, 0x2a, 0x86), RGBColor(0x8a, 0x8a, 0x8a), RGBColor(0xa6, 0xa0, 0x1a)];

/// A map.
#[derive(Clone, Debug, PartialEq)]
pub struct Scatter<'a> {
    /// The text above.
    pub title: &'a str,
    /// What lies along x and y; empty where that has no meaning.
    pub axes: [&'a str; 2],
    /// Places.
    pub points: &'a [[f64; 2]],
    /// The class of each point.
    pub labels: &'a [u16],
    /// Names of the classes for the legend; without any all points have one colour.
    pub classes: &'a [String],
}

/// Draws `scatter`, x and y to the same scale, with a legend if there are classes; the file appears whole or not at all.
///
/// # Errors
/// No points, a place that isn't finite (the message names the point); `path` cannot be written.
///
/// # Panics
/// If there are more or fewer labels than points, or a label without a class (where there are classes).
pub fn save_scatter(path: &Path, scatter: &Scatter) -> Result<()> {
    let Scatter { title, axes, points, labels, classes } = *scatter;
    assert_eq!(points.len(), labels.len(), "save_scatter: points beside labels");
    assert!(
        classes.is_empty() || labels.iter().all(|&l| usize::from(l) < classes.len()),
        "save_scatter: a label without a class"
    );
    let refuse = |what: String| Err(Error::failed(format!("cannot draw {}: {what}", path.display())));
    if points.is_empty() {
        return refuse("there are no points to show".into());
    }
    if let Some(i) = points.iter().position(|p| !p.iter().all(|v| v.is_finite())) {
        return refuse(format!("point {i} lies at {:?}, which has no place", points[i]));
    }
    let legend = Legend::new(classes);
    let left = MARGIN + if axes[1].is_empty() { 0.0 } else { AXIS };
    let bottom = TOP + SIDE;
    let (width, height) = (left + SIDE + MARGIN + legend.width(), bottom + MARGIN + if axes[0].is_empty() { 0.0 } else { AXIS });
    let (width, height) = (width.ceil() as usize, height.ceil() as usize);
    let place = fit(points);
    let radius = if points.len() > 4_000 {
        1.8
    } else if points.len() > 1_000 {
        2.6
    } else {
        3.6
    };
    let pixels = draw(width, height, |canvas| {
        canvas.text(title, (left, 18.0), 20.0, INK, (HPos::Left, VPos::Top));
        for corners in [[(0.0, 0.0), (1.0, 0.0)], [(1.0, 0.0), (1.0, 1.0)], [(1.0, 1.0), (0.0, 1.0)], [(0.0, 1.0), (0.0, 0.0)]] {
            let [from, to] = corners.map(|(x, y)| (left + x * SIDE, TOP + y * SIDE));
            canvas.line(from, to, FRAME, 1.0);
        }
        for (point, label) in points.iter().zip(labels) {
            let (x, y) = place(*point);
            canvas.dot((left + x * SIDE, bottom - y * SIDE), radius, colour(usize::from(*label), classes.len()));
        }
        canvas.text(axes[0], (left + SIDE / 2.0, bottom + 12.0), TEXT, SOFT_INK, (HPos::Center, VPos::Top));
        canvas.text_upwards(axes[1], (MARGIN - 8.0, TOP + SIDE / 2.0), TEXT, SOFT_INK);
        legend.draw(canvas, left + SIDE + MARGIN);
    });
    write_picture(path, &pixels, width, height)
}

/// Where a point lies in the square, 0 to 1 from left and from below: all of `points` with a margin, to one scale.
fn fit(points: &[[f64; 2]]) -> impl Fn([f64; 2]) -> (f64, f64) {
    let range = |axis: usize| {
        let values = points.iter().map(|p| p[axis]);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ranges = [range(0), range(1)];
    // Halves, which don't overflow.
    let middle = ranges.map(|(low, high)| low / 2.0 + high / 2.0);
    let half = ranges.map(|(low, high)| high / 2.0 - low / 2.0).into_iter().fold(0.0, f64::max);
    let scale = if half > 0.0 { 0.48 / half } else { 0.0 };
    move |[x, y]| (0.5 + (x - middle[0]) * scale, 0.5 + (y - middle[1]) * scale)
}

/// The colour of class `i` of `n`.
fn colour(i: usize, n: usize) -> RGBColor {
    if n <= PALETTE.len() + MORE.len() {
        return PALETTE.iter().chain(&MORE).copied().nth(i).unwrap_or(PALETTE[0]);
    }
    // Around the circle of hues, neighbours at different lightness.
    let (r, g, b) = HSLColor(i as f64 / n as f64, 0.7, [0.36, 0.52, 0.66][i % 3]).rgb();
    RGBColor(r, g, b)
}

/// Dots and names, in columns.
struct Legend<'a> {
    classes: &'a [String],
    column: f64,
}

impl<'a> Legend<'a> {
    fn new(classes: &'a [String]) -> Self {
        let widest = classes.iter().take(MOST).map(|name| text_width(name, TEXT)).fold(0.0, f64::max);
        Self { classes, column: 20.0 + widest + 18.0 }
    }

    fn width(&self) -> f64 {
        self.column * self.classes.len().min(MOST).div_ceil(LINES) as f64
    }

    fn draw(&self, canvas: &Canvas, left: f64) {
        let (n, shown) = (self.classes.len(), self.classes.len().min(MOST));
        for (i, name) in self.classes[..shown].iter().enumerate() {
            let (x, y) = (left + self.column * (i / LINES) as f64, TOP + LINE * (i % LINES) as f64 + LINE / 2.0);
            // The last line says that there are more.
            if n > shown && i + 1 == shown {
                canvas.text(&format!("and {} more", n - i), (x, y), TEXT, SOFT_INK, (HPos::Left, VPos::Center));
            } else {
                canvas.dot((x + 6.0, y), 5.5, colour(i, n));
                canvas.text(name, (x + 20.0, y), TEXT, INK, (HPos::Left, VPos::Center));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("class {i}")).collect()
    }

    fn save(points: &[[f64; 2]], labels: &[u16], classes: &[String]) -> Result<image::RgbImage> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.png");
        let scatter = Scatter { title: "title", axes: ["", ""], points, labels, classes };
        save_scatter(&path, &scatter).map(|()| image::open(&path).unwrap().to_rgb8())
    }

    /// The middle of all pixels of the colour of class `i` within the square, and how many there are.
    fn found(picture: &image::RgbImage, i: usize, n: usize) -> (f64, f64, usize) {
        let RGBColor(r, g, b) = colour(i, n);
        let inside = picture
            .enumerate_pixels()
            .filter(|(x, y, p)| f64::from(*x) < MARGIN + SIDE && f64::from(*y) > TOP && p.0 == [r, g, b]);
        let (x, y, count) = inside.fold((0.0, 0.0, 0), |(sx, sy, n), (x, y, _)| (sx + f64::from(x), sy + f64::from(y), n + 1));
        (x / f64::from(count.max(1)), y / f64::from(count.max(1)), count as usize)
    }

    #[test]
    fn points_lie_where_they_should_to_one_scale_in_the_colour_of_their_class() {
        let picture = save(&[[0.0, 0.0], [10.0, 0.0], [0.0, 5.0]], &[0, 1, 2], &names(3)).unwrap();
        let [a, b, c] = [0, 1, 2].map(|i| found(&picture, i, 3));
        assert!([a, b, c].iter().all(|p| p.2 > 15), "{a:?} {b:?} {c:?}");
        // x grows to the right, y upwards, 10 in x is twice 5 in y; dots are placed to a third of a pixel.
        assert!((b.0 - a.0 - 0.96 * SIDE).abs() < 1.5 && (b.1 - a.1).abs() < 1.0, "{a:?} {b:?}");
        assert!((a.1 - c.1 - 0.48 * SIDE).abs() < 1.5 && (a.0 - c.0).abs() < 1.0, "{a:?} {c:?}");
    }

    #[test]
    fn the_legend_grows_with_the_classes_and_colours_differ() {
        let width = |n: usize| save(&[[0.0, 0.0]], &[0], &names(n)).unwrap().width();
        assert!(width(0) < width(2) && width(2) < width(LINES + 1) && width(LINES + 1) < width(MOST));
        assert_eq!(width(MOST), width(MOST + 100));
        for n in [10, 100] {
            let mut colours: Vec<(u8, u8, u8)> = (0..n).map(|i| colour(i, n).rgb()).collect();
            colours.sort_unstable();
            colours.dedup();
            assert_eq!(colours.len(), n);
        }
    }

    #[test]
    fn says_what_cannot_be_drawn_and_draws_what_lies_on_one_spot() {
        assert!(save(&[], &[], &[]).unwrap_err().to_string().contains("no points"));
        assert!(
            save(&[[0.0, 0.0], [f64::NAN, 1.0]], &[0, 0], &[]).unwrap_err().to_string().contains("point 1 lies at [NaN, 1.0]")
        );
        let spot = save(&[[3.0, 3.0]; 4], &[0; 4], &[]).unwrap();
        let (x, y, count) = found(&spot, 0, 0);
        assert!(count > 15 && (x - MARGIN - SIDE / 2.0).abs() < 1.5 && (y - TOP - SIDE / 2.0).abs() < 1.5);
        assert!(save(&[[f64::MAX, 0.0], [-f64::MAX, 0.0]], &[0, 0], &[]).is_ok());
    }
}
