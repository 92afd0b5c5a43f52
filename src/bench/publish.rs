//! Results of several machines or devices in one table, as text and as Markdown.

use super::merge::{Entry, Origin};
use super::row::Row;
use super::table::{columns, digits, header, or_dash, percent};
use std::fmt::Write;

/// The columns of the Markdown table.
const COLUMNS: [&str; 14] = [
    "machine",
    "CPU",
    "device",
    "driver",
    "op",
    "width",
    "batch",
    "precision",
    "images/s",
    "min - max",
    "runs",
    "peak memory",
    "program",
    "date",
];

/// Returns the number of rows without images per second, which the tables leave out.
pub fn left_out(entries: &[Entry]) -> usize {
    entries.iter().filter(|entry| entry.row.images_per_s.is_none()).count()
}

/// Returns the rows that the tables show.
fn shown(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|entry| entry.row.images_per_s.is_some())
}

/// Formats the rows as a Markdown table, in their order.
pub fn markdown(entries: &[Entry]) -> String {
    let mut out = format!("| {} |\n|{}\n", COLUMNS.join(" | "), " --- |".repeat(COLUMNS.len()));
    for Entry { row, origin } in shown(entries) {
        let cells = [
            machine(origin),
            cpu(origin),
            device(row),
            or_dash(row.place.driver.clone(), |driver| driver),
            op(row),
            or_dash(row.width, |width| width.to_string()),
            or_dash(row.batch, |batch| batch.to_string()),
            row.precision.clone(),
            or_dash(row.images_per_s, digits),
            range(row),
            runs(row),
            or_dash(row.peak_memory_mib, |mib| format!("{} MiB", digits(mib))),
            program(origin),
            or_dash(origin.date.clone(), |date| date),
        ];
        let cells = cells.map(|cell| plain(&cell).replace('|', "\\|").replace('<', "&lt;"));
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out
}

/// Formats the rows, which are sorted by case, with their origins in a list below.
pub fn text(entries: &[Entry]) -> String {
    let (mut out, mut origins): (String, Vec<String>) = Default::default();
    let title = |row: &Row| {
        row.width.map_or_else(|| op(row), |width| format!("{}, width {width}", op(row)))
    };
    let shown: Vec<&Entry> = shown(entries).collect();
    for case in shown.chunk_by(|a, b| title(&a.row) == title(&b.row)) {
        let _ = writeln!(out, "{}", plain(&title(&case[0].row)));
        let names =
            ["", "batch", "precision", "images/s", "min - max", "runs", "peak MiB", "origin"];
        let mut lines = vec![header(&names)];
        for Entry { row, origin } in case {
            let driver = row.place.driver.as_ref().map(|driver| format!("driver {driver}"));
            let parts = [machine(origin), cpu(origin)].into_iter().chain(driver);
            let parts = parts.chain([program(origin)]).chain(origin.date.clone());
            let text = plain(&parts.collect::<Vec<_>>().join("; "));
            let at = origins.iter().position(|other| *other == text).unwrap_or_else(|| {
                origins.push(text);
                origins.len() - 1
            });
            lines.push(vec![
                plain(&device(row)),
                or_dash(row.batch, |batch| batch.to_string()),
                plain(&row.precision),
                or_dash(row.images_per_s, digits),
                range(row),
                runs(row),
                or_dash(row.peak_memory_mib, digits),
                format!("[{}]", at + 1),
            ]);
        }
        out.push_str(&columns(&lines));
    }
    for (i, origin) in origins.iter().enumerate() {
        let _ = writeln!(out, "[{}] {origin}", i + 1);
    }
    out
}

/// Returns `cell` in one line: files may come from strangers.
fn plain(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Joins what is known of several facts.
fn known(facts: impl IntoIterator<Item = Option<String>>) -> String {
    let known: Vec<String> = facts.into_iter().flatten().collect();
    if known.is_empty() { "-".into() } else { known.join(", ") }
}

/// Describes the machine without its CPU: "linux x86_64, 24 GiB".
fn machine(origin: &Origin) -> String {
    let system = ["os", "arch"].map(|key| origin.machine[key].as_str());
    let system: Vec<&str> = system.into_iter().flatten().collect();
    let memory = origin.machine["memory_mib"].as_f64();
    known([
        Some(system.join(" ")).filter(|system| !system.is_empty()),
        memory.map(|mib| format!("{:.0} GiB", mib / 1024.0)),
    ])
}

/// Describes the CPU: "AMD EPYC, 2 threads".
fn cpu(origin: &Origin) -> String {
    known([
        origin.machine["cpu"].as_str().map(str::to_owned),
        origin.machine["threads"].as_u64().map(|threads| format!("{threads} threads")),
    ])
}

/// Describes the device: "NVIDIA A40, vulkan"; software is named as such.
fn device(row: &Row) -> String {
    let place = &row.place;
    let software = place.kind.starts_with("software").then(|| place.kind.clone());
    known([Some(place.adapter.clone()), Some(place.backend.clone()), software])
}

/// Returns the operation with its variant: "sample, 100 DDIM steps".
fn op(row: &Row) -> String {
    known([Some(row.op.clone()), row.variant.clone()])
}

/// Names the program: "soda 0.1.0 (880a804ee745)".
fn program(origin: &Origin) -> String {
    let commit = origin.commit.as_ref().map(|commit| format!("({commit})"));
    let parts = [Some(origin.framework.clone()), origin.version.clone(), commit];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Formats the images per second of the slowest and of the fastest run.
fn range(row: &Row) -> String {
    let (Some(min), Some(median), Some(max), Some(speed)) =
        (row.min_ms, row.median_ms, row.max_ms, row.images_per_s)
    else {
        return "-".into();
    };
    format!("{} - {}", digits(speed * median / max), digits(speed * median / min))
}

/// Returns the number of runs, and whether they were throttled.
fn runs(row: &Row) -> String {
    let slower =
        row.throttled().map(|slower| format!("throttled: last {} slower", percent(slower)));
    known([row.repetitions.map(|runs| runs.to_string()), slower])
}

#[cfg(test)]
mod tests {
    use super::super::row::Place;
    use super::super::timing::Timing;
    use super::*;
    use serde_json::json;

    fn entry(adapter: &str, seconds: &[f64]) -> Entry {
        let place = Place {
            device: "vulkan:0".into(),
            backend: "vulkan".into(),
            adapter: adapter.into(),
            kind: "discrete GPU".into(),
            driver: Some("radv Mesa 25.0".into()),
        };
        let timing = Timing::of(seconds.to_vec()).expect("samples");
        let mut row = Row {
            width: Some(32),
            batch: Some(16),
            images_per_s: Some(16.0 / timing.median),
            peak_memory_mib: Some(314.0),
            ..Row::new("train_step", &place)
        };
        row.timed(&timing);
        let machine = json!({ "os": "linux", "arch": "x86_64", "cpu": "AMD EPYC", "threads": 2,
                              "memory_mib": 24106.0 });
        Entry {
            row,
            origin: Origin {
                framework: "soda".into(),
                machine,
                version: Some("0.1.0".into()),
                commit: Some("880a804ee745".into()),
                date: Some("2026-11-29T12:00:00Z".into()),
            },
        }
    }

    #[test]
    fn a_markdown_row_has_a_cell_for_each_column() {
        let text = markdown(&[entry("A GPU", &[0.2, 0.16, 0.1, 0.16, 0.2])]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.matches('|').count() == COLUMNS.len() + 1), "{text}");
        assert_eq!(
            lines[2],
            "| linux x86_64, 24 GiB | AMD EPYC, 2 threads | A GPU, vulkan | radv Mesa 25.0 \
             | train_step | 32 | 16 | f32 | 100 | 80.0 - 160 | 5 | 314 MiB \
             | soda 0.1.0 (880a804ee745) | 2026-11-29T12:00:00Z |"
        );
    }

    #[test]
    fn throttling_is_told_unknowns_are_dashes_and_kernels_are_left_out() {
        let mut slow = entry("A GPU", &[0.1, 0.1, 0.1, 0.1, 0.2]);
        assert!(markdown(&[slow.clone()]).contains("| 5, throttled: last 100 % slower |"));
        assert!(text(&[slow.clone()]).contains("5, throttled: last 100 % slower"));
        slow.row.place.driver = None;
        slow.origin = serde_json::from_value(json!({})).expect("all of it may be missing");
        let row = markdown(&[slow.clone()]);
        assert!(row.contains("| - | - | A GPU, vulkan | - |") && row.contains("| soda | - |"));
        slow.row.images_per_s = None;
        assert_eq!((left_out(&[slow.clone()]), markdown(&[slow]).lines().count()), (1, 2));
    }

    #[test]
    fn names_from_strangers_break_neither_table_nor_terminal() {
        let text_of = entry("a | b\n\u{1b}[2J<i>", &[0.1]);
        let table = markdown(std::slice::from_ref(&text_of));
        assert!(table.contains("a \\| b  [2J&lt;i>, vulkan") && table.lines().count() == 3);
        assert!(!text(&[text_of]).contains('\u{1b}'));
    }

    #[test]
    fn text_groups_cases_and_names_each_origin_once() {
        let mut other = entry("B", &[0.2]);
        other.origin.commit = None;
        let wide = Entry { row: Row { width: Some(64), ..other.row.clone() }, ..other.clone() };
        let text = text(&[entry("A", &[0.1]), other, wide]);
        let titles: Vec<&str> = text.lines().filter(|line| line.starts_with("train")).collect();
        assert_eq!(titles, ["train_step, width 32", "train_step, width 64"]);
        assert_eq!(text.lines().filter(|line| line.ends_with("[2]")).count(), 2, "{text}");
        assert!(text.contains(
            "[1] linux x86_64, 24 GiB; AMD EPYC, 2 threads; driver radv Mesa 25.0; \
             soda 0.1.0 (880a804ee745); 2026-11-29T12:00:00Z"
        ));
    }
}
