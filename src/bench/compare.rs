//! The comparison of two results.

use super::results;
use super::row::Row;
use crate::error::Result;
use serde::Serialize;
use std::path::Path;

/// A case that both results have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// Operation and case.
    pub name: String,
    /// The device of A and that of B.
    pub devices: [String; 2],
    /// The median time of A and that of B, in milliseconds.
    pub median_ms: [f64; 2],
    /// The time of A over the time of B: above 1 where B is faster.
    pub ratio: f64,
}

/// The comparison of results A and B.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The common cases, in the order of A.
    pub rows: Vec<Pair>,
    /// The names of rows that only A has.
    pub only_a: Vec<String>,
    /// The names of rows that only B has.
    pub only_b: Vec<String>,
}

/// Reads the measured rows of a file that `soda bench --json` wrote.
///
/// # Errors
/// If it can't be read or is something else.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let remedy = "compare two files of benchmark results";
    let mut value = results::read(path, remedy)?;
    let rows: Vec<Row> = serde_json::from_value(value["rows"].take())
        .map_err(|e| results::unreadable(path, &e, remedy))?;
    Ok(rows.into_iter().filter(|r| r.median_ms.is_some_and(|ms| ms > 0.0)).collect())
}

/// Returns whether `row` is of the view pipeline, which runs on the CPU whatever the device.
fn is_data(row: &Row) -> bool {
    row.op == "view_pairs"
}

fn single_device(rows: &[Row]) -> bool {
    let mut devices = rows.iter().filter(|r| !is_data(r)).map(|r| &r.place.device);
    let first = devices.next();
    devices.all(|d| Some(d) == first)
}

/// Pairs the rows of `a` and `b` by case and device, or by case alone where each result has only
/// one device.
pub fn compare(a: &[Row], b: &[Row]) -> Comparison {
    let across = single_device(a) && single_device(b);
    let same = |a: &Row, b: &Row| a.same_case(b) && (across || a.place.device == b.place.device);
    let name = |row: &Row| format!("{}: {}", row.place.device, row.name());
    let missing = |of: &[Row], from: &[Row]| {
        of.iter().filter(|r| !from.iter().any(|o| same(r, o))).map(name).collect()
    };
    let pair = |r: &Row| {
        let other = b.iter().find(|o| same(r, o))?;
        let median_ms = [r.median_ms?, other.median_ms?];
        let devices = [r, other].map(|r| r.place.device.clone());
        Some(Pair { name: r.name(), devices, median_ms, ratio: median_ms[0] / median_ms[1] })
    };
    Comparison {
        rows: a.iter().filter_map(pair).collect(),
        only_a: missing(a, b),
        only_b: missing(b, a),
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Place;
    use super::*;

    fn row(op: &str, device: &str, median_ms: f64) -> Row {
        let place = Place { device: device.into(), ..Place::default() };
        Row { shape: Some(vec![2, 3]), median_ms: Some(median_ms), ..Row::new(op, &place) }
    }

    #[test]
    fn ratios_above_1_mean_that_b_is_faster_and_missing_rows_are_named() {
        let a = [row("copy", "cpu", 10.0), row("ada_gn_forward", "cpu", 3.0)];
        let b = [row("copy", "cpu", 4.0), row("multiply_add", "cpu", 3.0)];
        let c = compare(&a, &b);
        assert_eq!((c.rows.len(), c.rows[0].ratio, c.rows[0].median_ms), (1, 2.5, [10.0, 4.0]));
        assert_eq!(c.only_a, ["cpu: ada_gn_forward 2x3"]);
        assert_eq!(c.only_b, ["cpu: multiply_add 2x3"]);
        let other = [Row { shape: Some(vec![2, 4]), ..row("copy", "cpu", 4.0) }];
        assert!(compare(&a, &other).rows.is_empty(), "a different shape is a different case");
    }

    #[test]
    fn different_devices_are_compared_only_where_each_result_has_one() {
        let (cpu, gpu) = ([row("copy", "cpu", 10.0)], row("copy", "vulkan:0", 1.0));
        assert_eq!(compare(&cpu, std::slice::from_ref(&gpu)).rows[0].devices, ["cpu", "vulkan:0"]);
        let both = [row("copy", "cpu", 5.0), gpu];
        let c = compare(&cpu, &both);
        assert_eq!((c.rows.len(), c.rows[0].ratio), (1, 2.0));
        assert_eq!(c.only_b, ["vulkan:0: copy 2x3"]);
    }
}
