//! Tests of the tables.

use super::*;
use crate::bench::row::Place;
use crate::bench::timing::Timing;

#[test]
fn times_have_three_digits_and_a_suitable_unit() {
    assert_eq!(
        [0.0123, 0.85, 1.0, 12.34, 516.2, 22_500.0].map(time),
        ["12.3 us", "850 us", "1.00 ms", "12.3 ms", "516 ms", "22.5 s"]
    );
    assert_eq!(
        [0.00041, 0.0734, 0.21, 69_000.4].map(digits),
        ["0.00041", "0.073", "0.210", "69,000"]
    );
}

fn timed(mut row: Row, seconds: &[f64]) -> Row {
    row.timed(&Timing::of(seconds.to_vec()).expect("samples"));
    row
}

#[test]
fn columns_line_up_and_unknowns_are_dashes() {
    let place = Place {
        device: "vulkan:0".into(),
        adapter: "llvmpipe".into(),
        kind: "software, no GPU".into(),
        ..Place::default()
    };
    let known = Row {
        width: Some(32),
        batch: Some(16),
        images_per_s: Some(31.0),
        cold_start_s: Some(14.1),
        peak_memory_mib: Some(1024.0),
        launches: Some(2692),
        ..Row::new("train_step", &place)
    };
    let known = timed(known, &[0.4901, 0.5, 0.516, 0.56, 0.57]);
    let sampling =
        Row { variant: Some("100 DDIM steps".into()), cold_start_s: None, ..known.clone() };
    let sampling = timed(Row { op: "sample".into(), ..sampling }, &[10.1, 12.3]);
    let kernel = Row {
        shape: Some(vec![16, 64, 32, 32]),
        median_ms: Some(1.0),
        ..Row::new("ada_gn_forward", &place)
    };
    let text = rows(&[known, sampling, kernel]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "vulkan:0: llvmpipe (software, no GPU)");
    let end = |line: &str, cell: &str| line.find(cell).map(|at| at + cell.len());
    assert_eq!(end(lines[1], "min/median/max"), end(lines[2], "490/516/570 ms"), "{text}");
    assert!(lines[2].contains("train_step width 32, batch 16") && lines[2].ends_with("14.1 s"));
    assert_eq!(end(lines[1], "runs"), end(lines[2], "ms     5"), "{text}");
    assert_eq!(
        lines[3],
        "  train_step width 32, batch 16: throttled, the last run was 16 % slower than the first"
    );
    // Inference has no cold start, and its two runs are too few to tell.
    assert!(
        !lines[4].contains("cold start") && lines[5].contains("10.1/11.2/12.3 s     2"),
        "{text}"
    );
    assert!(lines[6].contains("median") && lines[7].ends_with('-'), "{text}");
    assert!(lines.iter().all(|l| l.chars().count() <= 100), "{text}");
}
