//! Line charts.

use super::canvas::{Canvas, INK, PALETTE, SOFT_INK, draw_sharp, text_width};
use super::picture::write_picture;
use crate::error::{Error, Result};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use std::path::Path;

/// Height of a legend row.
const LEGEND_LINE: f64 = 22.0;
const GRID: RGBColor = RGBColor(0xe6, 0xe6, 0xe6);
/// The colour of the line at 0 on an axis with negative values.
const ZERO: RGBColor = RGBColor(0x99, 0x99, 0x99);
/// The fewest rows of a log that get a running mean.
const MEAN_FROM: usize = 8;
/// The minimum ratio between the largest and the smallest value on the axis of a log.
const LEAST_RATIO: f64 = 1.5;

/// One line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Series<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// (x, y), by ascending x. A series without points is omitted.
    pub points: Vec<(f64, f64)>,
}

/// How a chart is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CurveStyle {
    /// Logarithmic y axis.
    pub log_y: bool,
    /// The window of a running mean, drawn bold over the pale raw curve; with 0 or 1 only the raw
    /// curve is drawn.
    pub smooth: usize,
    /// Values of y that the axis always includes.
    pub reach: Option<(f64, f64)>,
    /// The size.
    pub size: Size,
}

impl CurveStyle {
    /// Returns the style for a log of `points`: with a running mean unless there are only a few
    /// points, and with an axis range on which a few per cent of noise don't look like a trend.
    pub fn of_log(points: &[(f64, f64)]) -> Self {
        let smooth = if points.len() < MEAN_FROM { 0 } else { (points.len() / 20).max(5) };
        let (low, high) = points
            .iter()
            .fold((f64::INFINITY, 0.0), |(l, h): (f64, f64), p| (l.min(p.1), h.max(p.1)));
        let middle = low.sqrt() * high.sqrt();
        let narrow = low > 0.0 && (low..low * LEAST_RATIO).contains(&high);
        let reach = narrow.then(|| (middle / LEAST_RATIO.sqrt(), middle * LEAST_RATIO.sqrt()));
        Self { smooth, reach, ..Self::default() }
    }

    /// Checks whether `points` points get a running mean.
    pub fn smooths(&self, points: usize) -> bool {
        self.smooth > 1 && points > 1
    }
}

/// Size of a chart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// 900 x 540 pixels: a separate picture.
    #[default]
    Wide,
    /// 460 x 320 units of two pixels each: readable on a phone, sharp on a high-density screen.
    Phone,
}

impl Size {
    /// Returns width and height in units, and the pixels per unit.
    fn units(self) -> (usize, usize, usize) {
        match self {
            Size::Wide => (900, 540, 1),
            Size::Phone => (460, 320, 2),
        }
    }
}

/// Draws `series` as a line chart, with a legend if there are several series or a running mean. The
/// file is written atomically.
///
/// # Errors
/// If there are no points, a point is not finite or, on a logarithmic axis, not above 0 (the
/// message names the series), or `path` can't be written.
pub fn save_curve(
    path: &Path,
    title: &str,
    x_label: &str,
    y_label: &str,
    series: &[Series],
    style: CurveStyle,
) -> Result<()> {
    let shown: Vec<&Series> = series.iter().filter(|s| !s.points.is_empty()).collect();
    let refuse =
        |what: String| Err(Error::failed(format!("cannot draw {}: {what}", path.display())));
    if shown.is_empty() {
        return refuse("there are no points to show yet".into());
    }
    for s in &shown {
        let bad = s
            .points
            .iter()
            .find(|(x, y)| !(x.is_finite() && y.is_finite()) || (style.log_y && *y <= 0.0));
        if let Some((x, y)) = bad {
            let axis = if style.log_y { "a logarithmic axis" } else { "an axis" };
            return refuse(format!(
                "series {:?} has the point ({x}, {y}), which can't be shown on {axis}",
                s.name
            ));
        }
    }
    let all = || shown.iter().flat_map(|s| &s.points);
    let reach = style.reach.into_iter().flat_map(|(low, high)| [low, high]);
    let (Some(x_axis), Some(y_axis)) = (
        Axis::new(all().map(|p| p.0), false),
        Axis::new(all().map(|p| p.1).chain(reach), style.log_y),
    ) else {
        return refuse("the points span more than the range of f64".into());
    };
    let (width, height, unit) = style.size.units();
    let colours = PALETTE.iter().cycle();
    let entries: Vec<Entry> = match shown.as_slice() {
        [one] if style.smooths(one.points.len()) => {
            vec![(one.name, pale(PALETTE[0]), 1.5), ("running mean", PALETTE[0], 3.0)]
        }
        [_] => Vec::new(),
        several => {
            several.iter().zip(colours.clone()).map(|(s, colour)| (s.name, *colour, 3.0)).collect()
        }
    };
    let pixels = draw_sharp(width, height, unit, |canvas| {
        let chart = Chart::new(canvas, (width as f64, height as f64), x_axis, y_axis, &entries);
        chart.axes(title, x_label, y_label);
        for (s, colour) in shown.iter().zip(colours) {
            chart.curve(&s.points, *colour, style);
        }
        chart.legend(&entries);
    });
    write_picture(path, &pixels, width * unit, height * unit)
}

/// A legend entry: its text, colour and line width.
type Entry<'a> = (&'a str, RGBColor, f64);

/// The scale of an axis and its ticks.
#[derive(Debug)]
struct Axis {
    log: bool,
    /// The ends of the axis, as logarithms if `log`.
    from: f64,
    to: f64,
    /// Value and text.
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Creates an axis for all of `values`, which are finite; `None` if their span isn't.
    fn new(values: impl Iterator<Item = f64>, log: bool) -> Option<Self> {
        let scaled = |v: f64| if log { v.log10() } else { v };
        let (low, high) = values
            .map(scaled)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let margin = if low < high {
            (high - low) * 0.04
        } else if log || low == 0.0 {
            0.5
        } else {
            low.abs() * 0.1
        };
        let (from, to) = (low - margin, high + margin);
        if !(to - from).is_finite() || from >= to {
            return None;
        }
        let ticks = if log { log_ticks(from, to) } else { ticks(from, to, 7.0) };
        Some(Self { log, from, to, ticks })
    }

    /// Returns the position of `value` as a fraction of the axis' length.
    fn place(&self, value: f64) -> f64 {
        ((if self.log { value.log10() } else { value }) - self.from) / (self.to - self.from)
    }
}

/// Returns equidistant round numbers in `from..=to`, about `wanted` of them.
fn ticks(from: f64, to: f64, wanted: f64) -> Vec<(f64, String)> {
    let rough = (to - from) / wanted;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|s| s * magnitude)
        .into_iter()
        .find(|s| *s >= rough * 0.999)
        .unwrap_or(rough);
    let first = (from / step).ceil();
    let values = (0..).map(|i| (first + f64::from(i)) * step).take(20).take_while(|v| *v <= to);
    let values: Vec<f64> = values.map(|v| if v.abs() < step / 1e6 { 0.0 } else { v }).collect();
    let largest = values.iter().fold(0.0, |l: f64, v| l.max(v.abs()));
    values.into_iter().map(|v| (v, number(v, largest, step))).collect()
}

/// Returns ticks for a logarithmic axis from 10^`from` to 10^`to`: powers of ten; on less than
/// three decades also 2 and 5 times them, on less than one decade equidistant round numbers.
fn log_ticks(from: f64, to: f64) -> Vec<(f64, String)> {
    let decades = to - from;
    if decades < 1.0 {
        return ticks(10f64.powf(from), 10f64.powf(to), 7.0);
    }
    let stride = (decades / 8.0).ceil();
    let digits: &[f64] = if decades < 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let exponents =
        (0..).map(|i| ((from / stride).floor() + f64::from(i)) * stride).take_while(|e| *e <= to);
    exponents
        .flat_map(|e| digits.iter().map(move |d| d * 10f64.powf(e)))
        .filter(|v| (from..=to).contains(&v.log10()))
        .map(|v| (v, number(v, v, v)))
        .collect()
}

/// Formats `value` with the decimal places of `step`, in the unit that suits the `largest` value of
/// its axis.
fn number(value: f64, largest: f64, step: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !(1e-4..1e12).contains(&largest) {
        let digits =
            (largest.log10().floor() - step.log10().floor() + 1.0).clamp(0.0, 8.0) as usize;
        return trimmed(&format!("{value:.digits$e}"));
    }
    let units = [(1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")];
    let (_, unit, suffix) =
        units.into_iter().find(|(least, ..)| largest >= *least).unwrap_or((1.0, 1.0, ""));
    let whole = |digits: usize| {
        let shifted = step / unit * 10f64.powi(digits as i32);
        (shifted - shifted.round()).abs() < 1e-4 * shifted
    };
    let digits = (0..12).find(|d| whole(*d)).unwrap_or(12);
    format!("{:.digits$}{suffix}", value / unit)
}

/// Removes trailing zeros of the decimal places of "1.500e-7".
fn trimmed(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').expect("a number in scientific notation");
    let digits = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    };
    format!("{digits}e{exponent}")
}

/// A chart being drawn. Lengths and positions are in pixels of the final picture.
struct Chart<'a, 'b> {
    canvas: &'a Canvas<'b>,
    x_axis: Axis,
    y_axis: Axis,
    /// The plot's frame.
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    height: f64,
    /// Rows of the legend, each of (index of the entry, x).
    legend: Vec<Vec<(usize, f64)>>,
}

impl<'a, 'b> Chart<'a, 'b> {
    fn new(
        canvas: &'a Canvas<'b>,
        (width, height): (f64, f64),
        x_axis: Axis,
        y_axis: Axis,
        entries: &[Entry],
    ) -> Self {
        let widest =
            y_axis.ticks.iter().map(|(_, text)| text_width(text, 15.0)).fold(0.0, f64::max);
        let (left, right) = ((widest + 52.0).max(64.0), width - 28.0);
        let mut legend: Vec<Vec<(usize, f64)>> = Vec::new();
        let mut x = f64::INFINITY;
        for (i, (text, ..)) in entries.iter().enumerate() {
            let width = 32.0 + text_width(text, 15.0) + 22.0;
            if x + width > right {
                legend.push(Vec::new());
                x = left;
            }
            legend.last_mut().expect("a row exists").push((i, x));
            x += width;
        }
        let top = 52.0 + LEGEND_LINE * legend.len() as f64;
        Self { canvas, x_axis, y_axis, left, right, top, bottom: height - 58.0, height, legend }
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let x = self.left + (self.right - self.left) * self.x_axis.place(x);
        (x, self.bottom - (self.bottom - self.top) * self.y_axis.place(y))
    }

    fn axes(&self, title: &str, x_label: &str, y_label: &str) {
        let Self { canvas, left, right, top, bottom, .. } = *self;
        for (value, text) in &self.x_axis.ticks {
            let x = left + (right - left) * self.x_axis.place(*value);
            canvas.line((x, top), (x, bottom), GRID, 1.0);
            canvas.text(text, (x, bottom + 8.0), 15.0, SOFT_INK, (HPos::Center, VPos::Top));
        }
        for (value, text) in &self.y_axis.ticks {
            let y = bottom - (bottom - top) * self.y_axis.place(*value);
            let colour = if *value == 0.0 && self.y_axis.from < 0.0 && !self.y_axis.log {
                ZERO
            } else {
                GRID
            };
            canvas.line((left, y), (right, y), colour, 1.0);
            canvas.text(text, (left - 9.0, y), 15.0, SOFT_INK, (HPos::Right, VPos::Center));
        }
        canvas.line((left, bottom), (right, bottom), SOFT_INK, 1.0);
        canvas.line((left, top), (left, bottom), SOFT_INK, 1.0);
        canvas.text(title, (left, 14.0), 21.0, INK, (HPos::Left, VPos::Top));
        canvas.text(
            x_label,
            ((left + right) / 2.0, self.height - 28.0),
            16.0,
            INK,
            (HPos::Center, VPos::Top),
        );
        canvas.text_upwards(y_label, (12.0, (top + bottom) / 2.0), 16.0, INK);
    }

    fn curve(&self, points: &[(f64, f64)], colour: RGBColor, style: CurveStyle) {
        let places = |points: &[(f64, f64)]| {
            thinned(&points.iter().map(|p| self.at(*p)).collect::<Vec<_>>())
        };
        let raw = places(points);
        if style.smooths(points.len()) {
            self.canvas.polyline(&raw, pale(colour), 1.0);
            self.canvas.polyline(&places(&running_mean(points, style.smooth)), colour, 2.4);
            return;
        }
        self.canvas.polyline(&raw, colour, 1.8);
        if points.len() <= 25 {
            raw.iter().for_each(|p| self.canvas.dot(*p, 3.5, colour));
        }
    }

    fn legend(&self, entries: &[Entry]) {
        for (row, items) in self.legend.iter().enumerate() {
            let y = 52.0 + LEGEND_LINE * row as f64;
            for &(i, x) in items {
                let (text, colour, width) = entries[i];
                self.canvas.line((x, y), (x + 24.0, y), colour, width);
                self.canvas.text(text, (x + 32.0, y), 15.0, INK, (HPos::Left, VPos::Center));
            }
        }
    }
}

/// Mixes a colour with two thirds white: opaque, so that a curve looks the same however often it
/// crosses itself.
fn pale(RGBColor(r, g, b): RGBColor) -> RGBColor {
    let mix = |c: u8| 255 - (255 - c) / 3;
    RGBColor(mix(r), mix(g), mix(b))
}

/// Returns the means of y over the `window` points around each point. Near the start, where curves
/// are steep, the window shrinks on both sides; near the end only its right half shrinks, so that a
/// noisy curve doesn't end in its last point's noise.
fn running_mean(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let n = points.len();
    let mean = |i: usize| {
        let before = (window / 2).min(i);
        let around = &points[i - before..=(i + before).min(n - 1)];
        around.iter().map(|p| p.1 / around.len() as f64).sum()
    };
    (0..n).map(|i| (points[i].0, mean(i))).collect()
}

/// Keeps at most four points per pixel column (first, lowest, highest, last), which look the same
/// as all points.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut out = Vec::new();
    for column in points.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        if column.len() <= 4 {
            out.extend_from_slice(column);
            continue;
        }
        let by_y = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (low, high) = (column.iter().min_by(by_y), column.iter().max_by(by_y));
        out.extend([column.first(), low, high, column.last()].into_iter().flatten());
    }
    out
}

#[cfg(test)]
mod tests;
