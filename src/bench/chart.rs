//! A bar chart of the rows, with the devices side by side.

use super::row::{Place, Row};
use super::table::{digits, time};
use crate::error::Result;
use crate::report::bars::{Bar, Group, Section, save_bars};
use std::path::Path;

/// Draws every measured row to `path`, if some case was measured on at least two devices, and
/// returns whether it did: bars of a single device compare nothing.
///
/// # Errors
/// If `path` can't be written.
pub fn save(path: &Path, rows: &[Row]) -> Result<bool> {
    let mut places: Vec<&Place> = Vec::new();
    for row in rows.iter().filter(|r| r.median_ms.is_some()) {
        if !places.contains(&&row.place) {
            places.push(&row.place);
        }
    }
    let name = |p: &&Place| {
        let kind = if p.kind == "cpu" { String::new() } else { format!(" ({})", p.kind) };
        format!("{}: {}{kind}", p.device, p.adapter)
    };
    let names: Vec<String> = places.iter().map(name).collect();
    let series: Vec<&str> = names.iter().map(String::as_str).collect();
    let section = |title: &str, one_scale: bool, value: &dyn Fn(&Row) -> Option<(f64, String)>| {
        let mut groups: Vec<(String, Group)> = Vec::new();
        for row in rows {
            let (Some((value, label)), Some(series)) =
                (value(row), places.iter().position(|p| **p == row.place))
            else {
                continue;
            };
            let bar = Bar { series, value, label };
            match groups.iter_mut().find(|(first, _)| *first == per_image(row)) {
                Some((_, group)) => group.bars.push(bar),
                None => {
                    groups.push((per_image(row), Group { name: per_image(row), bars: vec![bar] }))
                }
            }
        }
        Section {
            title: title.into(),
            one_scale,
            groups: groups.into_iter().map(|(_, group)| group).collect(),
        }
    };
    let of_peak = |r: &Row| {
        r.share_of_peak.map_or_else(String::new, |s| format!(", {:.0} % of peak", s * 100.0))
    };
    let images = |r: &Row| {
        let (value, ms) = (r.images_per_s?, r.median_ms?);
        Some((value, format!("{} images/s, {}", digits(value), time(ms))))
    };
    let compute = |r: &Row| r.tflops.map(|v| (v, format!("{} TFLOP/s{}", digits(v), of_peak(r))));
    let memory = |r: &Row| {
        r.gb_per_s
            .filter(|_| r.tflops.is_none())
            .map(|v| (v, format!("{} GB/s{}", digits(v), of_peak(r))))
    };
    let sections = [
        section("Images per second (longest bar: the fastest device)", false, &images),
        section("Arithmetic, TFLOP/s (batch 16, on a GPU 128)", true, &compute),
        section("Memory, GB/s (batch 16, on a GPU 128)", true, &memory),
    ];
    let several = |group: &Group| group.bars.iter().any(|bar| bar.series != group.bars[0].series);
    if !sections.iter().flat_map(|s| &s.groups).any(several) {
        return Ok(false);
    }
    save_bars(path, "soda bench", &series, &sections).map(|()| true)
}

/// Returns the row's name without the parts that differ between devices by design: a kernel's batch
/// size, the length of a peak's vector.
fn per_image(row: &Row) -> String {
    let shape = row.shape.as_ref().map(|s| s[1..].to_vec()).filter(|s| !s.is_empty());
    Row { shape, ..row.clone() }.name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_with_different_batches_share_a_group() {
        let row = |shape: &[usize], width| Row {
            shape: Some(shape.to_vec()),
            width,
            ..Row::new("copy", &Place::default())
        };
        assert_eq!(per_image(&row(&[16, 64, 8, 8], None)), per_image(&row(&[128, 64, 8, 8], None)));
        assert_ne!(per_image(&row(&[16, 64, 8, 8], None)), per_image(&row(&[16, 32, 8, 8], None)));
        assert_eq!(per_image(&row(&[1024], None)), "copy");
        let step = |batch| Row {
            batch: Some(batch),
            width: Some(128),
            ..Row::new("train_step", &Place::default())
        };
        assert_ne!(per_image(&step(16)), per_image(&step(256)));
    }

    #[test]
    fn every_measured_row_is_drawn() {
        let place = |device: &str| Place { device: device.into(), ..Place::default() };
        let row = |device| Row {
            median_ms: Some(2.0),
            gb_per_s: Some(3.0),
            shape: Some(vec![8]),
            ..Row::new("copy", &place(device))
        };
        let folder = tempfile::tempdir().unwrap();
        let height = |rows: &[Row]| {
            let path = folder.path().join("b.png");
            save(&path, rows).unwrap().then(|| image::image_dimensions(&path).unwrap().1)
        };
        let (two, three) =
            ([row("cpu"), row("vulkan:0")], [row("cpu"), row("vulkan:0"), row("vulkan:1")]);
        let (two, three) = (height(&two).unwrap(), height(&three).unwrap());
        assert!(three > two + 30, "one more bar and legend line: {two} {three}");
    }

    #[test]
    fn a_chart_without_a_comparison_is_not_drawn() {
        let place = |device: &str| Place { device: device.into(), ..Place::default() };
        let row = |op: &str, device| Row {
            median_ms: Some(2.0),
            gb_per_s: Some(3.0),
            ..Row::new(op, &place(device))
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.png");
        let unmeasured = Row { median_ms: None, gb_per_s: None, ..row("copy", "vulkan:0") };
        for rows in [
            vec![],
            vec![row("copy", "cpu")],
            vec![row("copy", "cpu"), row("other", "cpu")],
            // Two devices, but no case in common.
            vec![row("copy", "cpu"), row("other", "vulkan:0")],
            vec![row("copy", "cpu"), unmeasured],
        ] {
            assert!(!save(&path, &rows).unwrap(), "{rows:?}");
            assert!(!path.exists());
        }
    }
}
