//! Rows of several results, each with the machine and the program that it was measured with.

use super::results;
use super::row::{Place, Row};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Ordering;
use std::path::Path;

/// The fields of a result that describe each of its rows, unless the row has its own.
const OF_THE_RESULT: [&str; 6] = ["framework", "machine", "driver", "version", "commit", "date"];

/// The circumstances of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// "soda" or "pytorch".
    #[serde(default = "soda")]
    pub framework: String,
    /// See [`crate::machine::describe`].
    #[serde(default)]
    pub machine: Value,
    /// The version of the framework.
    #[serde(default)]
    pub version: Option<String>,
    /// The commit of the program.
    #[serde(default)]
    pub commit: Option<String>,
    /// The start of the benchmark, UTC.
    #[serde(default)]
    pub date: Option<String>,
}

fn soda() -> String {
    "soda".into()
}

/// A row and its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The measurement.
    #[serde(flatten)]
    pub row: Row,
    /// Its circumstances.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Returns the measured rows of a result, which may be a merged one.
///
/// # Errors
/// If its rows have another form.
pub fn entries(mut result: Value) -> serde_json::Result<Vec<Entry>> {
    let mut rows = result.get_mut("rows").map(Value::take).unwrap_or_default();
    for row in rows.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        for key in OF_THE_RESULT {
            if !row.contains_key(key) && !result[key].is_null() {
                row.insert(key.into(), result[key].clone());
            }
        }
    }
    let mut entries: Vec<Entry> = serde_json::from_value(rows)?;
    entries.retain(|entry| entry.row.median_ms.is_some_and(|ms| ms > 0.0));
    Ok(entries)
}

/// Reads the measured rows of a file of results.
///
/// # Errors
/// If it can't be read or is something else.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let remedy = "merge only files of benchmark results";
    entries(results::read(path, remedy)?).map_err(|e| results::unreadable(path, &e, remedy))
}

/// Merges the rows of several results: by operation and width, the fastest first. Rows that occur
/// several times are kept once.
pub fn merge(results: impl IntoIterator<Item = Vec<Entry>>) -> Vec<Entry> {
    let mut merged: Vec<Entry> = Vec::new();
    for entry in results.into_iter().flatten() {
        if !merged.contains(&entry) {
            merged.push(entry);
        }
    }
    merged.sort_by(|a, b| by_case_and_speed(&a.row, &b.row));
    merged
}

fn by_case_and_speed(a: &Row, b: &Row) -> Ordering {
    let speed = |r: &Row| r.images_per_s.or(r.median_ms.map(|ms| 1e3 / ms)).unwrap_or(0.0);
    // Only kernels have a shape.
    let case = |r: &Row| (r.op.clone(), r.width, r.shape.clone(), r.variant.clone());
    case(a).cmp(&case(b)).then_with(|| speed(b).total_cmp(&speed(a)))
}

/// Orders the rows of one result by case, and within a case by `gpu`, which names the hardware of a
/// place: what different APIs reach on the same GPU is in neighbouring rows.
pub fn by_gpu(mut entries: Vec<Entry>, gpu: impl Fn(&Place) -> String) -> Vec<Entry> {
    // Both in the order of their first rows.
    let (mut cases, mut gpus) = (Vec::new(), Vec::new());
    let place = |seen: &mut Vec<String>, name: String| {
        seen.iter().position(|other| *other == name).unwrap_or_else(|| {
            seen.push(name);
            seen.len() - 1
        })
    };
    entries.sort_by_cached_key(|entry| {
        let case = place(&mut cases, entry.row.name());
        (case, place(&mut gpus, gpu(&entry.row.place)))
    });
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(machine: &str, rows: &[(&str, Option<usize>, f64)]) -> Value {
        let rows: Vec<Row> = rows
            .iter()
            .map(|(op, width, speed)| Row {
                width: *width,
                median_ms: Some(1e3 / speed),
                images_per_s: Some(*speed),
                ..Row::new(op, &Place { device: machine.into(), ..Place::default() })
            })
            .collect();
        json!({ "command": "bench", "version": "1", "date": "2026-11-29T00:00:00Z",
                "machine": { "cpu": machine }, "commit": null, "rows": rows })
    }

    #[test]
    fn rows_are_sorted_by_operation_width_and_speed_and_keep_their_origin() {
        let a = result("a", &[("train_step", Some(64), 2.0), ("train_step", Some(32), 5.0)]);
        let b = result("b", &[("train_step", Some(32), 10.0), ("encode", Some(64), 1.0)]);
        let [a, b] = [a, b].map(|result| entries(result).expect("rows"));
        let merged = merge([a.clone(), b, a]);
        let order: Vec<_> = merged
            .iter()
            .map(|e| (e.row.op.as_str(), e.row.width, e.origin.machine["cpu"].as_str()))
            .collect();
        assert_eq!(
            order,
            [
                ("encode", Some(64), Some("b")),
                ("train_step", Some(32), Some("b")),
                ("train_step", Some(32), Some("a")),
                ("train_step", Some(64), Some("a")),
            ]
        );
        let Origin { framework, version, commit, date, .. } = &merged[0].origin;
        assert_eq!((framework.as_str(), version.as_deref(), commit), ("soda", Some("1"), &None));
        assert_eq!(date.as_deref(), Some("2026-11-29T00:00:00Z"));

        // A merged result is a result, whose own version and commit are not those of its rows.
        let whole = json!({ "command": "bench", "version": "2", "commit": "c", "rows": merged });
        assert_eq!(entries(whole).expect("rows"), merged);
    }

    #[test]
    fn a_row_overrides_its_result_and_unmeasured_rows_are_left_out() {
        let mut result = result("a", &[("encode", Some(64), 1.0), ("denoise", Some(64), 1.0)]);
        result["rows"][0]["framework"] = json!("pytorch");
        result["rows"][0]["version"] = json!("2.8.0");
        result["rows"][1]["median_ms"] = json!(null);
        let read = entries(result).expect("rows");
        assert_eq!(read.len(), 1);
        let Origin { framework, version, .. } = &read[0].origin;
        assert_eq!((framework.as_str(), version.as_deref()), ("pytorch", Some("2.8.0")));
        assert!(entries(json!({ "command": "bench" })).is_err(), "no rows");
        assert!(entries(json!({ "rows": [{ "op": "train_step/width32" }] })).is_err());
    }

    #[test]
    fn adapters_of_one_gpu_are_neighbours_in_each_case() {
        let of = |device| result(device, &[("denoise", Some(64), 1.0), ("encode", Some(64), 1.0)]);
        let all = ["vulkan:0", "vulkan:1", "dx12:0", "dx12:1"];
        let all = all.map(|device| entries(of(device)).expect("rows")).concat();
        let devices = |entries: Vec<Entry>| -> Vec<String> {
            entries.into_iter().map(|e| format!("{} {}", e.row.op, e.row.place.device)).collect()
        };
        let last = |place: &Place| -> String { place.device.chars().last().into_iter().collect() };
        assert_eq!(
            devices(by_gpu(all.clone(), last)),
            [
                "denoise vulkan:0",
                "denoise dx12:0",
                "denoise vulkan:1",
                "denoise dx12:1",
                "encode vulkan:0",
                "encode dx12:0",
                "encode vulkan:1",
                "encode dx12:1"
            ]
        );
        // Without knowledge of the GPUs, the order of the devices stays.
        let own = devices(by_gpu(all, |place| place.device.clone()));
        assert_eq!(own[1], "denoise vulkan:1");
    }
}
