//! Rows as a bar chart: the devices side by side.

use super::row::{Place, Row};
use super::table::{digits, time};
use crate::error::Result;
use crate::report::bars::{Bar, Group, Section, save_bars};
use std::path::Path;

/// Draws every measured row to `path`, a PNG file.
///
/// # Errors
/// There are no measured rows, or `path` can't be written.
pub fn save(path: &Path, rows: &[Row]) -> Result<()> {
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
        let mut groups: Vec<(&Row, Group)> = Vec::new();
        for row in rows {
            let (Some((value, label)), Some(series)) = (value(row), places.iter().position(|p| **p == row.place)) else {
                continue;
            };
            let bar = Bar { series, value, label };
            match groups.iter_mut().find(|(first, _)| first.same_case(row)) {
                Some((_, group)) => group.bars.push(bar),
                None => groups.push((row, Group { name: row.name(), bars: vec![bar] })),
            }
        }
        Section { title: title.into(), one_scale, groups: groups.into_iter().map(|(_, group)| group).collect() }
    };
    let of_peak = |r: &Row| r.share_of_peak.map_or_else(String::new, |s| format!(", {:.0} % of peak", s * 100.0));
    let images = |r: &Row| {
        let (value, ms) = (r.images_per_s?, r.median_ms?);
        Some((value, format!("{} images/s, {}", digits(value), time(ms))))
    };
    let compute = |r: &Row| r.tflops.map(|v| (v, format!("{} TFLOP/s{}", digits(v), of_peak(r))));
    let memory = |r: &Row| r.gb_per_s.filter(|_| r.tflops.is_none()).map(|v| (v, format!("{} GB/s{}", digits(v), of_peak(r))));
    let sections = [
        section("Images a second (longest bar: the fastest device)", false, &images),
        section("Arithmetic, TFLOP/s", true, &compute),
        section("Memory, GB/s", true, &memory),
    ];
    save_bars(path, "soda bench", &series, &sections)
}
