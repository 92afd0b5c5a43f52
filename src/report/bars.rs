//! Horizontal bar charts.

use super::canvas::{Canvas, INK, PALETTE, SOFT_INK, draw, text_width};
use super::picture::write_picture;
use crate::error::{Error, Result};
use plotters::style::text_anchor::{HPos, VPos};
use std::path::Path;

/// In pixels: the width of the picture, its margin, and the minimum length of the longest bar.
const WIDTH: usize = 1000;
const MARGIN: f64 = 18.0;
const LONGEST: f64 = 160.0;
/// Heights of a bar, of the gaps between bars and between groups, of a legend line and of a
/// section's title.
const BAR: f64 = 13.0;
const GAP: f64 = 2.0;
const GROUP_GAP: f64 = 8.0;
const LEGEND: f64 = 21.0;
const TITLE: f64 = 38.0;
/// Top of the legend.
const TOP: f64 = 46.0;
const TEXT: f64 = 13.0;

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// The index into the list of series, which determines the colour.
    pub series: usize,
    /// The value, drawn as its length.
    pub value: f64,
    /// The text after the bar.
    pub label: String,
}

/// Bars that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The text to their left.
    pub name: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// Groups under a title.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// The quantity that the bars show.
    pub title: String,
    /// Whether all groups share one scale; otherwise the longest bar of each group has the full
    /// length.
    pub one_scale: bool,
    /// From top to bottom; a section without groups is omitted.
    pub groups: Vec<Group>,
}

/// Draws `sections` 1000 pixels wide below a legend of `series`. The file is written atomically.
///
/// # Errors
/// If there are no bars, a value is negative or not finite, a bar's series doesn't exist (the
/// message names the group), or `path` can't be written.
pub fn save_bars(path: &Path, title: &str, series: &[&str], sections: &[Section]) -> Result<()> {
    let refuse =
        |what: String| Err(Error::failed(format!("cannot draw {}: {what}", path.display())));
    let sections: Vec<&Section> =
        sections.iter().filter(|s| s.groups.iter().any(|g| !g.bars.is_empty())).collect();
    if sections.is_empty() {
        return refuse("there is nothing to show yet".into());
    }
    let groups = || sections.iter().flat_map(|s| &s.groups);
    for (group, bar) in groups().flat_map(|g| g.bars.iter().map(move |b| (g, b))) {
        if !(bar.value >= 0.0 && bar.value.is_finite()) {
            return refuse(format!(
                "{:?} has the value {}; bars need finite values of 0 or more",
                group.name, bar.value
            ));
        }
        if bar.series >= series.len() {
            return refuse(format!(
                "{:?} has a bar of series {}, but there are only {} series",
                group.name,
                bar.series,
                series.len()
            ));
        }
    }
    let widest = |texts: &mut dyn Iterator<Item = &str>| {
        texts.map(|t| text_width(t, TEXT)).fold(0.0, f64::max)
    };
    let left = MARGIN + widest(&mut groups().map(|g| g.name.as_str())) + 10.0;
    let labels = widest(&mut groups().flat_map(|g| &g.bars).map(|b| b.label.as_str()));
    let longest = (WIDTH as f64 - MARGIN - labels - 8.0 - left).max(LONGEST);
    let height: f64 = TOP
        + LEGEND * series.len() as f64
        + MARGIN
        + sections.iter().map(|s| section_height(s)).sum::<f64>();
    let width = (left + longest + 8.0 + labels + MARGIN).ceil() as usize;
    let pixels = draw(width, height.ceil() as usize, |canvas| {
        canvas.text(title, (MARGIN, 14.0), 21.0, INK, (HPos::Left, VPos::Top));
        let mut y = TOP;
        for (name, colour) in series.iter().zip(PALETTE.iter().cycle()) {
            canvas.bar((MARGIN, y), (MARGIN + 22.0, y + BAR), *colour);
            canvas.text(
                name,
                (MARGIN + 32.0, y + BAR / 2.0),
                15.0,
                INK,
                (HPos::Left, VPos::Center),
            );
            y += LEGEND;
        }
        for section in &sections {
            draw_section(canvas, section, y, left, longest);
            y += section_height(section);
        }
    });
    write_picture(path, &pixels, width, height.ceil() as usize)
}

fn group_height(group: &Group) -> f64 {
    group.bars.len() as f64 * (BAR + GAP) + GROUP_GAP
}

fn section_height(section: &Section) -> f64 {
    TITLE + section.groups.iter().map(group_height).sum::<f64>()
}

fn draw_section(canvas: &Canvas, section: &Section, top: f64, left: f64, longest: f64) {
    canvas.text(&section.title, (MARGIN, top + 13.0), 16.0, INK, (HPos::Left, VPos::Top));
    let most =
        |groups: &[Group]| groups.iter().flat_map(|g| &g.bars).map(|b| b.value).fold(0.0, f64::max);
    let all = most(&section.groups);
    let mut y = top + TITLE;
    for group in &section.groups {
        let scale = if section.one_scale { all } else { most(std::slice::from_ref(group)) };
        let bottom = y + group_height(group) - GROUP_GAP - GAP;
        canvas.text(
            &group.name,
            (left - 10.0, (y + bottom) / 2.0),
            TEXT,
            INK,
            (HPos::Right, VPos::Center),
        );
        for bar in &group.bars {
            let length = if scale > 0.0 { longest * bar.value / scale } else { 0.0 };
            canvas.bar(
                (left, y),
                (left + length.max(1.0), y + BAR),
                PALETTE[bar.series % PALETTE.len()],
            );
            let at = (left + length.max(1.0) + 7.0, y + BAR / 2.0);
            canvas.text(&bar.label, at, TEXT, SOFT_INK, (HPos::Left, VPos::Center));
            y += BAR + GAP;
        }
        y += GROUP_GAP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plotters::style::RGBColor;

    fn save(sections: &[Section]) -> Result<image::RgbImage> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bars.png");
        save_bars(&path, "title", &["one", "two"], sections)
            .map(|()| image::open(&path).unwrap().to_rgb8())
    }

    fn section(one_scale: bool, values: &[&[f64]]) -> Section {
        let bars = |v: &&[f64]| {
            let bar = |(series, value): (usize, &f64)| Bar {
                series,
                value: *value,
                label: format!("{value} GB/s"),
            };
            Group { name: "copy".into(), bars: v.iter().enumerate().map(bar).collect() }
        };
        Section { title: "Memory".into(), one_scale, groups: values.iter().map(bars).collect() }
    }

    /// Returns the number of pixels in the colour of series `i` in each row of the picture.
    fn lengths(picture: &image::RgbImage, i: usize) -> Vec<usize> {
        let RGBColor(r, g, b) = PALETTE[i];
        picture.rows().map(|row| row.filter(|p| p.0 == [r, g, b]).count()).collect()
    }

    #[test]
    fn bar_lengths_match_the_values_and_colours_match_the_series() {
        let picture = save(&[section(true, &[&[10.0, 5.0]])]).unwrap();
        let (one, two) = (lengths(&picture, 0), lengths(&picture, 1));
        let (one, two) = (one.iter().max().unwrap(), two.iter().max().unwrap());
        assert!(*one >= LONGEST as usize && one.abs_diff(2 * two) <= 3, "{one} {two}");
        assert!(lengths(&picture, 2).iter().all(|n| *n == 0));
    }

    #[test]
    fn one_scale_compares_groups_and_own_scales_do_not() {
        let second = |one_scale| {
            let picture = save(&[section(one_scale, &[&[10.0], &[1.0]])]).unwrap();
            let lines = lengths(&picture, 0);
            let last = lines.iter().rposition(|n| *n > 0).unwrap();
            (lines[last - 3], *lines.iter().max().unwrap())
        };
        let (small, full) = second(true);
        assert!(small.abs_diff(full / 10) <= 2, "{small} {full}");
        let (small, full) = second(false);
        assert_eq!(small, full);
    }

    #[test]
    fn names_and_labels_are_drawn_next_to_the_bars() {
        let picture = save(&[section(true, &[&[10.0, 5.0]])]).unwrap();
        let top = (TOP + 2.0 * LEGEND + TITLE) as u32;
        let dark = |x: std::ops::Range<u32>| {
            let place = |y| x.clone().map(move |x| (x, y));
            (top..top + 2 * BAR as u32)
                .flat_map(place)
                .filter(|&(x, y)| picture.get_pixel(x, y).0.iter().all(|c| *c < 140))
                .count()
        };
        let left = (MARGIN + text_width("copy", TEXT)) as u32;
        assert!(dark(MARGIN as u32..left) > 15, "the group's name");
        assert!(
            dark(picture.width() - MARGIN as u32 - 50..picture.width() - MARGIN as u32) > 15,
            "the long bar's label"
        );
        assert_eq!(dark(picture.width() - MARGIN as u32..picture.width()), 0, "the margin");
    }

    #[test]
    fn errors_name_what_cannot_be_drawn() {
        assert!(save(&[]).unwrap_err().to_string().contains("nothing to show"));
        assert!(save(&[section(true, &[])]).unwrap_err().to_string().contains("nothing to show"));
        assert!(
            save(&[section(true, &[&[f64::NAN]])])
                .unwrap_err()
                .to_string()
                .contains("\"copy\" has the value NaN")
        );
        assert!(
            save(&[section(true, &[&[1.0, 1.0, 1.0]])])
                .unwrap_err()
                .to_string()
                .contains("series 2")
        );
        assert!(save(&[section(true, &[&[0.0]])]).is_ok());
    }
}
