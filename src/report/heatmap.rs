//! Heat maps: tables of numbers with coloured cells.

use super::canvas::{Canvas, INK, SOFT_INK, draw, text_width};
use super::picture::write_picture;
use crate::error::{Error, Result};
use plotters::style::RGBColor;
use plotters::style::text_anchor::{HPos, VPos};
use std::path::Path;

/// In pixels: the margin, the sides of the smallest and the largest cell, and the space for all
/// cells.
const MARGIN: f64 = 18.0;
const SMALLEST: f64 = 8.0;
const LARGEST: f64 = 58.0;
const ROOM: f64 = 760.0;
/// The side from which cells contain their number.
const NUMBERED: f64 = 30.0;
const TITLE: f64 = 46.0;
const TEXT: f64 = 14.0;
/// Width of the colour scale, and its distance from the cells.
const SCALE: f64 = 16.0;
const SCALE_GAP: f64 = 26.0;

/// Colours from the lowest to the highest value, increasingly dark: ColorBrewer's "Blues", which
/// print well and which colour-blind readers can order.
const COLOURS: [[f64; 3]; 6] = [
    [247.0, 251.0, 255.0],
    [208.0, 225.0, 242.0],
    [148.0, 196.0, 223.0],
    [74.0, 152.0, 201.0],
    [23.0, 100.0, 171.0],
    [8.0, 48.0, 107.0],
];

/// A table to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Heatmap {
    /// The title.
    pub title: String,
    /// The name of the rows' axis, drawn on the left.
    pub row_title: String,
    /// The name of the columns' axis, drawn below.
    pub column_title: String,
    /// Names of the rows, from top to bottom.
    pub rows: Vec<String>,
    /// Names of the columns, from left to right.
    pub columns: Vec<String>,
    /// `[rows, columns]`, in per cent.
    pub values: Vec<f64>,
    /// The values of the lightest and the darkest colour; values outside are clamped.
    pub range: (f64, f64),
}

/// Draws `map`. Cells shrink to fit, and small ones don't contain their number. The file is written
/// atomically.
///
/// # Errors
/// If there are no cells, the number of values doesn't match the table, a value is not finite (the
/// message names its cell), or `path` can't be written.
pub fn save_heatmap(path: &Path, map: &Heatmap) -> Result<()> {
    let refuse =
        |what: String| Err(Error::failed(format!("cannot draw {}: {what}", path.display())));
    let (rows, columns) = (map.rows.len(), map.columns.len());
    if rows * columns == 0 || map.values.len() != rows * columns {
        return refuse(format!(
            "{} values don't fill a table of {rows} rows and {columns} columns",
            map.values.len()
        ));
    }
    if let Some(at) = map.values.iter().position(|v| !v.is_finite()) {
        let (row, column) = (&map.rows[at / columns], &map.columns[at % columns]);
        return refuse(format!(
            "row {row:?}, column {column:?} has the value {}, which isn't finite",
            map.values[at]
        ));
    }
    let layout = Layout::new(map);
    let pixels = draw(layout.width, layout.height, |canvas| layout.draw(canvas, map));
    write_picture(path, &pixels, layout.width, layout.height)
}

/// Positions in pixels of the final picture.
struct Layout {
    width: usize,
    height: usize,
    /// The top left corner of the first cell, and the side of each cell.
    left: f64,
    top: f64,
    cell: f64,
    /// Whether column names are drawn upwards, and how many rows or columns share a name.
    upwards: bool,
    stride: usize,
}

impl Layout {
    fn new(map: &Heatmap) -> Self {
        let (rows, columns) = (map.rows.len() as f64, map.columns.len() as f64);
        let cell = (ROOM / rows.max(columns)).clamp(SMALLEST, LARGEST).floor();
        let widest =
            |names: &[String]| names.iter().map(|n| text_width(n, TEXT)).fold(0.0, f64::max);
        let upwards = widest(&map.columns) + 4.0 > cell;
        let stride = ((TEXT + 2.0) / cell).ceil() as usize;
        let names_below = if upwards { widest(&map.columns) } else { TEXT };
        let left = MARGIN + TEXT + 14.0 + widest(&map.rows) + 8.0;
        let scale = SCALE_GAP + SCALE + 6.0 + text_width("100.0", TEXT) + MARGIN;
        // Even a small table has space for its title.
        let width =
            (left + columns * cell + scale).max(text_width(&map.title, 21.0) + 2.0 * MARGIN);
        let height = TITLE + rows * cell + 8.0 + names_below + 12.0 + TEXT + MARGIN;
        Self {
            width: width.ceil() as usize,
            height: height.ceil() as usize,
            left,
            top: TITLE,
            cell,
            upwards,
            stride,
        }
    }

    fn draw(&self, canvas: &Canvas, map: &Heatmap) {
        let (rows, columns) = (map.rows.len(), map.columns.len());
        canvas.text(&map.title, (MARGIN, 14.0), 21.0, INK, (HPos::Left, VPos::Top));
        let whole = map.values.iter().all(|value| number(*value, false).ends_with(".0"));
        let (right, bottom) =
            (self.left + columns as f64 * self.cell, self.top + rows as f64 * self.cell);
        for (i, &value) in map.values.iter().enumerate() {
            let (x, y) = (
                self.left + (i % columns) as f64 * self.cell,
                self.top + (i / columns) as f64 * self.cell,
            );
            let (share, colour) = (map.share(value), map.colour(value));
            // A thin white line between neighbours, if there is space.
            let gap = if self.cell >= NUMBERED { 1.0 } else { 0.0 };
            canvas.bar((x, y), (x + self.cell - gap, y + self.cell - gap), colour);
            if self.cell >= NUMBERED {
                let ink = if share > 0.65 { RGBColor(255, 255, 255) } else { INK };
                let at = (x + self.cell / 2.0, y + self.cell / 2.0);
                canvas.text(
                    &number(value, whole),
                    at,
                    (self.cell * 0.3).min(TEXT),
                    ink,
                    (HPos::Center, VPos::Center),
                );
            }
        }
        let middle = |i: usize| (i as f64 + 0.5) * self.cell;
        for (i, name) in map.rows.iter().enumerate().step_by(self.stride) {
            canvas.text(
                name,
                (self.left - 8.0, self.top + middle(i)),
                TEXT,
                SOFT_INK,
                (HPos::Right, VPos::Center),
            );
        }
        let mut below = TEXT;
        for (i, name) in map.columns.iter().enumerate().step_by(self.stride) {
            let (x, width) = (self.left + middle(i), text_width(name, TEXT));
            if self.upwards {
                canvas.text_upwards(
                    name,
                    (x - TEXT * 0.55, bottom + 8.0 + width / 2.0),
                    TEXT,
                    SOFT_INK,
                );
                below = below.max(width);
            } else {
                canvas.text(name, (x, bottom + 8.0), TEXT, SOFT_INK, (HPos::Center, VPos::Top));
            }
        }
        let centre = ((self.left + right) / 2.0, (self.top + bottom) / 2.0);
        canvas.text(
            &map.column_title,
            (centre.0, bottom + 20.0 + below),
            TEXT,
            INK,
            (HPos::Center, VPos::Top),
        );
        canvas.text_upwards(&map.row_title, (MARGIN, centre.1), TEXT, INK);
        self.scale(canvas, map, right + SCALE_GAP, bottom);
    }

    /// Draws the colour scale with its end values.
    fn scale(&self, canvas: &Canvas, map: &Heatmap, left: f64, bottom: f64) {
        let (low, high) = map.range;
        let steps = (bottom - self.top) as usize;
        for i in 0..steps {
            let y = self.top + i as f64;
            let value = high + (low - high) * i as f64 / steps as f64;
            canvas.bar((left, y), (left + SCALE, y + 1.0), map.colour(value));
        }
        let beside = left + SCALE + 6.0;
        canvas.text(
            &format!("{high:.0} %"),
            (beside, self.top),
            TEXT,
            SOFT_INK,
            (HPos::Left, VPos::Top),
        );
        canvas.text(
            &format!("{low:.0} %"),
            (beside, bottom),
            TEXT,
            SOFT_INK,
            (HPos::Left, VPos::Bottom),
        );
    }
}

/// Formats `value` with one decimal place, or with none in a table of `whole` numbers, such as
/// counts out of a hundred.
fn number(value: f64, whole: bool) -> String {
    if whole { format!("{value:.0}") } else { format!("{value:.1}") }
}

impl Heatmap {
    /// Returns the position of `value` in the range, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let (low, high) = self.range;
        if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 }
    }

    fn colour(&self, value: f64) -> RGBColor {
        let at = self.share(value) * (COLOURS.len() - 1) as f64;
        let i = (at as usize).min(COLOURS.len() - 2);
        let mix = |channel: usize| {
            let (from, to) = (COLOURS[i][channel], COLOURS[i + 1][channel]);
            (from + (to - from) * (at - i as f64)).round() as u8
        };
        RGBColor(mix(0), mix(1), mix(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: usize, columns: usize, values: Vec<f64>) -> Heatmap {
        let names = |n: usize, what: &str| (0..n).map(|i| format!("{what} {i}")).collect();
        Heatmap {
            title: "title".into(),
            row_title: "rows".into(),
            column_title: "columns".into(),
            rows: names(rows, "row"),
            columns: names(columns, "column"),
            values,
            range: (0.0, 100.0),
        }
    }

    fn save(map: &Heatmap) -> Result<image::RgbImage> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.png");
        save_heatmap(&path, map).map(|()| image::open(&path).unwrap().to_rgb8())
    }

    /// Returns the colour near the corner of a cell.
    fn cell(map: &Heatmap, picture: &image::RgbImage, row: usize, column: usize) -> [u8; 3] {
        let Layout { left, top, cell, .. } = Layout::new(map);
        picture
            .get_pixel(
                (left + column as f64 * cell) as u32 + 3,
                (top + row as f64 * cell) as u32 + 3,
            )
            .0
    }

    #[test]
    fn cells_have_the_right_positions_and_darken_with_their_value() {
        let map = map(2, 3, vec![0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let picture = save(&map).unwrap();
        let colours: Vec<[u8; 3]> = (0..6).map(|i| cell(&map, &picture, i / 3, i % 3)).collect();
        for (got, want) in colours.iter().zip(COLOURS) {
            assert_eq!(*got, want.map(|c| c as u8));
        }
        // A number in each cell: light on dark cells, dark on light ones.
        let Layout { left, top, cell, .. } = Layout::new(&map);
        for (at, light) in [(0, false), (5, true)] {
            let (x, y) =
                ((left + (at % 3) as f64 * cell) as u32, (top + (at / 3) as f64 * cell) as u32);
            let pixels = (0..(cell as u32).pow(2))
                .map(|i| picture.get_pixel(x + i % cell as u32, y + i / cell as u32).0);
            let ink = pixels.filter(|p| if light { p[0] > 120 } else { p[0] < 140 });
            assert!(ink.count() > 15, "cell {at}");
        }
    }

    #[test]
    fn all_numbers_of_a_table_have_the_same_decimals() {
        let values = [51.0, 50.7, 0.0, 100.0, 9.96, 0.04];
        assert_eq!(
            values.map(|value| number(value, false)),
            ["51.0", "50.7", "0.0", "100.0", "10.0", "0.0"]
        );
        assert_eq!([51.0, 9.96, 0.04].map(|value| number(value, true)), ["51", "10", "0"]);
    }

    #[test]
    fn large_tables_get_small_cells_without_numbers() {
        let map = map(
            100,
            100,
            (0..10_000).map(|i| if i / 100 == i % 100 { 100.0 } else { 0.0 }).collect(),
        );
        let picture = save(&map).unwrap();
        assert!(picture.width() < 1100 && picture.height() < 1100, "{:?}", picture.dimensions());
        assert_eq!(cell(&map, &picture, 42, 42), COLOURS[5].map(|c| c as u8));
        assert_eq!(cell(&map, &picture, 42, 43), COLOURS[0].map(|c| c as u8));
        let Layout { left, top, cell, .. } = Layout::new(&map);
        let inside = picture.enumerate_pixels().filter(|(x, y, _)| {
            (left..left + 100.0 * cell).contains(&f64::from(*x))
                && (top..top + 100.0 * cell).contains(&f64::from(*y))
        });
        let inked = inside.filter(|(.., p)| p.0 == [0x22, 0x22, 0x22]);
        assert_eq!(inked.count(), 0);
    }

    #[test]
    fn errors_name_what_cannot_be_drawn_and_odd_values_are_drawn() {
        assert!(save(&map(0, 3, vec![])).unwrap_err().to_string().contains("0 rows"));
        assert!(save(&map(2, 2, vec![1.0; 3])).unwrap_err().to_string().contains("3 values"));
        let message = save(&map(1, 2, vec![1.0, f64::NAN])).unwrap_err().to_string();
        assert!(message.contains("\"column 1\" has the value NaN"), "{message}");
        let mut odd = map(1, 2, vec![-5.0, 500.0]);
        let picture = save(&odd).unwrap();
        assert_eq!(cell(&odd, &picture, 0, 1), COLOURS[5].map(|c| c as u8));
        odd.range = (3.0, 3.0);
        assert!(save(&odd).is_ok());
    }
}
