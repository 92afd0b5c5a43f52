//! `--precision` and mixed training through the program.

use crate::common::program::{fails, json, soda, succeeds, train};
use soda::eval::table;
use std::path::Path;

/// Returns z of the first test images with the shipped weights.
fn z(folder: &Path, device: &str, precision: &str) -> Vec<f32> {
    let out = format!("{device}-{precision}.safetensors");
    let args = [
        "embed",
        "--split",
        "test",
        "--limit",
        "24",
        "--data",
        "bundled",
        "--device",
        device,
        "--precision",
        precision,
    ];
    succeeds(&soda(folder, &[&args[..], &["--out", &out, "--json", "e.json"]].concat()));
    let noted = json(&folder.join("e.json"));
    assert_eq!(noted["precision"].as_str(), (precision != "f32").then_some(precision));
    table::read(&folder.join(out), None).expect("readable").values
}

/// Returns |a - b| / |b|.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert!(a.len() == b.len() && a.iter().chain(b).all(|v| v.is_finite()));
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
    (square(&mut a.iter().zip(b).map(|(a, b)| a - b)) / square(&mut b.iter().copied())).sqrt()
}

#[test]
fn z_in_f16_agrees_with_f32_within_two_thousandths() {
    let folder = tempfile::tempdir().expect("a folder");
    let exact = z(folder.path(), "cpu", "f32");
    for (device, precision) in [("wgpu", "f16"), ("cpu", "f16-emulated")] {
        let half = distance(&z(folder.path(), device, precision), &exact);
        assert!((1e-5..2e-3).contains(&half), "{device}: {half}");
    }
    let other: Vec<f32> = exact.iter().rev().copied().collect();
    assert!(distance(&other, &exact) > 0.1, "another z would pass");
}

/// Cached features are used by the next command, unless it computes in another precision.
#[test]
fn cached_features_belong_to_a_precision() {
    let distances = |folder: &Path, precision: &str| {
        let args = [
            "neighbours",
            "test:0",
            "-k",
            "3",
            "--data",
            "bundled",
            "--device",
            "cpu",
            "--precision",
            precision,
        ];
        succeeds(&soda(folder, &[&args[..], &["--json", "n.json"]].concat()));
        json(&folder.join("n.json"))["queries"].to_string()
    };
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let exact = distances(one.path(), "f32");
    let half = distances(one.path(), "f16-emulated");
    assert_ne!(exact, half, "f32's features were used for f16");
    assert_eq!(
        distances(other.path(), "f16-emulated"),
        half,
        "the result depends on a cache of f32"
    );
    assert_eq!(distances(one.path(), "f32"), exact);
}

#[test]
fn precisions_that_a_device_lacks_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let embed = |device, precision| {
        let args = [
            "embed",
            "--split",
            "test",
            "--limit",
            "2",
            "--data",
            "bundled",
            "--device",
            device,
            "--precision",
            precision,
        ];
        soda(folder.path(), &args)
    };
    fails(&embed("cpu", "f16"), 2, &["--precision f16", "the CPU computes in f32", "f16-emulated"]);
    fails(&embed("wgpu", "f16-emulated"), 2, &["--device cpu", "--precision f16"]);
    let drawn = soda(
        folder.path(),
        &["reconstruct", "--data", "bundled", "--device", "cpu", "--precision", "f16"],
    );
    fails(&drawn, 2, &["the CPU computes in f32"]);
    assert_eq!(
        std::fs::read_dir(folder.path())
            .expect("a folder")
            .flatten()
            .filter(|e| e.path().is_file())
            .count(),
        0
    );
}

#[test]
fn mixed_training_reports_its_precision_and_logs_its_loss_scale() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = train(
        folder.path(),
        &["--run", "run", "--set", "train.precision=mixed", "--set", "train.log_every=1"],
    );
    succeeds(&out);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("mixed precision: the CPU rounds as f16 does"), "{said}");
    let metrics =
        std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).expect("metrics");
    let first: serde_json::Value =
        serde_json::from_str(metrics.lines().next().expect("a row")).expect("JSON");
    assert_eq!((&first["loss_scale"], &first["left_out"]), (&65_536.0.into(), &0.into()));
    succeeds(&soda(folder.path(), &["replay", "--run", "run", "--step", "2", "--device", "cpu"]));
}
