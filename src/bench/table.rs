//! Results as text for a terminal of 100 columns.

use super::compare::Comparison;
use super::row::{ProfileRow, Row, Skipped};
use std::fmt::Write;

/// The number of kernels that a profile lists individually.
const TOP: usize = 15;

/// Formats lines in columns: the first left-aligned, the others right-aligned.
pub(super) fn columns(lines: &[Vec<String>]) -> String {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| {
        lines.iter().filter_map(|l| l.get(i)).map(|t| t.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::from(" ");
        for (i, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if i == 0 {
                write!(text, " {cell:<width$}")
            } else {
                write!(text, "  {cell:>width$}")
            };
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Formats milliseconds: "850 us", "12.3 ms", "2.50 s".
pub fn time(ms: f64) -> String {
    let (scale, unit) = unit(ms);
    format!("{} {unit}", digits(ms * scale))
}

/// Returns the unit that suits a time in milliseconds, and the factor to it.
fn unit(ms: f64) -> (f64, &'static str) {
    match ms {
        _ if ms < 0.9995 => (1e3, "us"),
        _ if ms < 999.5 => (1.0, "ms"),
        _ => (1e-3, "s"),
    }
}

/// Formats the fastest, the median and the slowest run: "330/353/372 ms".
fn times(row: &Row) -> String {
    let (Some(min), Some(median), Some(max)) = (row.min_ms, row.median_ms, row.max_ms) else {
        return or_dash(row.median_ms, time);
    };
    let (scale, unit) = unit(median);
    let [min, median, max] = [min, median, max].map(|ms| digits(ms * scale));
    format!("{min}/{median}/{max} {unit}")
}

/// Formats three significant digits (two below 0.1), with thousands separators.
pub fn digits(value: f64) -> String {
    match value {
        _ if value >= 999.5 => indicatif::HumanCount(value.round() as u64).to_string(),
        _ if value >= 99.95 => format!("{value:.0}"),
        _ if value >= 9.995 => format!("{value:.1}"),
        _ if value >= 0.9995 => format!("{value:.2}"),
        _ if value >= 0.0995 => format!("{value:.3}"),
        _ if value >= 1e-9 => format!("{value:.*}", (1.0 - value.log10().floor()) as usize),
        _ => format!("{value:.1e}"),
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

pub(super) fn or_dash<T>(value: Option<T>, format: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".into(), format)
}

pub(super) fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// Formats the rows of each device under its name.
pub fn rows(rows: &[Row]) -> String {
    let mut out = String::new();
    let mut devices: Vec<_> = Vec::new();
    for row in rows {
        if !devices.contains(&&row.place) {
            devices.push(&row.place);
        }
    }
    for place in devices {
        let kind = if place.kind == "cpu" { String::new() } else { format!(" ({})", place.kind) };
        let _ = writeln!(out, "{}: {}{kind}", place.device, place.adapter);
        let here: Vec<&Row> = rows.iter().filter(|r| r.place == *place).collect();
        let networks = here.iter().copied().filter(|r| r.shape.is_none() && r.host.is_none());
        let (steps, others): (Vec<&Row>, _) = networks.partition(|r| r.cold_start_s.is_some());
        out.push_str(&of_networks(&steps, true));
        out.push_str(&of_networks(&others, false));
        let mut lines = vec![header(&[
            "",
            "median",
            "fastest",
            "launching thread",
            "serving threads",
            "launches",
            "per launch",
        ])];
        lines.extend(here.iter().filter_map(|r| {
            let host = r.host?;
            Some(vec![
                r.name(),
                or_dash(r.median_ms, time),
                or_dash(r.min_ms, time),
                time(host.launching_ms),
                time(host.serving_ms),
                or_dash(r.launches, |l| indicatif::HumanCount(l).to_string()),
                or_dash(r.launches.filter(|launches| *launches > 0), |launches| {
                    time(host.serving_ms / launches as f64)
                }),
            ])
        }));
        if lines.len() > 1 {
            out.push_str(&columns(&lines));
        }
        let mut lines = vec![header(&["", "median", "spread", "GB/s", "TFLOP/s", "of peak"])];
        lines.extend(here.iter().filter(|r| r.shape.is_some()).map(|r| {
            vec![
                r.name(),
                or_dash(r.median_ms, time),
                or_dash(r.spread, percent),
                or_dash(r.gb_per_s, digits),
                or_dash(r.tflops, digits),
                or_dash(r.share_of_peak, percent),
            ]
        }));
        if lines.len() > 1 {
            out.push_str(&columns(&lines));
        }
    }
    out
}

/// Formats rows of networks and of the view pipeline, and names those that were throttled.
fn of_networks(rows: &[&Row], with_cold_start: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let names = ["", "min/median/max", "runs", "images/s", "launches", "peak MiB", "cold start"];
    let mut lines = vec![header(&names)];
    lines.extend(rows.iter().map(|r| {
        vec![
            r.name(),
            times(r),
            or_dash(r.repetitions, |n| n.to_string()),
            or_dash(r.images_per_s, digits),
            or_dash(r.launches, |l| indicatif::HumanCount(l).to_string()),
            or_dash(r.peak_memory_mib, digits),
            or_dash(r.cold_start_s, |s| time(s * 1e3)),
        ]
    }));
    if !with_cold_start {
        lines.iter_mut().for_each(|line| line.truncate(names.len() - 1));
    }
    let mut out = columns(&lines);
    for row in rows {
        if let Some(slower) = row.throttled() {
            let (name, slower) = (row.name(), percent(slower));
            let _ = writeln!(
                out,
                "  {name}: throttled, the last run was {slower} slower than the first"
            );
        }
    }
    out
}

/// Formats the skipped measurements, one line for each device and reason.
pub fn skipped(skipped: &[Skipped]) -> String {
    let mut groups: Vec<(&Skipped, Vec<&str>)> = Vec::new();
    for s in skipped {
        match groups.iter_mut().find(|(g, _)| (&g.device, &g.reason) == (&s.device, &s.reason)) {
            Some((_, ops)) => ops.push(&s.op),
            None => groups.push((s, vec![&s.op])),
        }
    }
    let mut out = String::new();
    for (first, ops) in groups {
        let _ = writeln!(out, "skipped on {}: {} ({})", first.device, ops.join("; "), first.reason);
    }
    out
}

/// Formats profiles of runs, by kernel.
pub fn profile(profiles: &[ProfileRow]) -> String {
    let mut out = String::new();
    for p in profiles {
        let kernels: f64 = p.kernels.iter().map(|k| k.ms).sum();
        let (clock, wall) = (&p.clock, time(p.wall_ms));
        let _ = match p.other_ms {
            Some(_) => {
                writeln!(out, "{}: {} by kernel, {wall} in all (host clock)", p.place.device, p.op)
            }
            None => writeln!(
                out,
                "{}: {} by kernel, {} in kernels ({clock} clock; waiting for each kernel)",
                p.place.device,
                p.op,
                time(kernels)
            ),
        };
        let mut lines = vec![header(&["", "time", "share", "launches"])];
        let total = if p.other_ms.is_some() { p.wall_ms } else { kernels };
        let share = |ms: f64| if total > 0.0 { percent(ms / total) } else { "-".into() };
        let line = |name: &str, ms: f64, launches: Option<u64>| {
            vec![
                name.to_owned(),
                time(ms),
                share(ms),
                or_dash(launches, |l| indicatif::HumanCount(l).to_string()),
            ]
        };
        // A generic kernel's name can be very long.
        let short = |name: &str| {
            if name.chars().count() > 56 {
                name.chars().take(55).chain(['~']).collect()
            } else {
                name.to_owned()
            }
        };
        let (top, rest) = p.kernels.split_at(p.kernels.len().min(TOP));
        lines.extend(top.iter().map(|k| line(&short(&k.name), k.ms, Some(k.launches))));
        if !rest.is_empty() {
            let (ms, launches) =
                rest.iter().fold((0.0, 0), |(ms, l), k| (ms + k.ms, l + k.launches));
            lines.push(line(&format!("{} other kernels", rest.len()), ms, Some(launches)));
        }
        if let Some(other) = p.other_ms {
            lines.push(line("Burn's operations and the host", other, None));
        }
        out.push_str(&columns(&lines));
    }
    out
}

/// Formats the ratios, then the cases that only one side has.
pub fn comparison(c: &Comparison) -> String {
    let mut lines = vec![header(&["", "A", "B", "A / B"])];
    lines.extend(c.rows.iter().map(|p| {
        let device =
            if p.devices[0] == p.devices[1] { p.devices[0].clone() } else { p.devices.join(" | ") };
        let times = p.median_ms.map(time);
        vec![
            format!("{device}: {}", p.name),
            times[0].clone(),
            times[1].clone(),
            format!("{:.2} x", p.ratio),
        ]
    }));
    let mut out =
        if c.rows.is_empty() { "no case in common\n".to_owned() } else { columns(&lines) };
    for (side, names) in [("A", &c.only_a), ("B", &c.only_b)] {
        if !names.is_empty() {
            let _ = writeln!(out, "only in {side}:\n  {}", names.join("\n  "));
        }
    }
    out
}

#[cfg(test)]
mod tests;
