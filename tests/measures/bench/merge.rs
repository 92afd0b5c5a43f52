//! `soda bench --merge`: results of several machines in one table.

use super::{json, soda, succeeds};
use serde_json::{Value, json};
use std::path::Path;

/// Writes a result with one training step and one kernel.
fn write(path: &Path, cpu: &str, version: &str, images_per_s: f64) {
    let row = |op: &str, images_per_s: Option<f64>| {
        json!({
            "op": op, "device": "vulkan:0", "backend": "vulkan", "adapter": format!("GPU of {cpu}"),
            "kind": "discrete GPU", "driver": "radv Mesa 25.0", "precision": "f32",
            "width": images_per_s.map(|_| 32), "batch": 16, "median_ms": 16e3 / 10.0,
            "min_ms": 1500.0, "max_ms": 1700.0, "repetitions": 5, "images_per_s": images_per_s,
        })
    };
    let result = json!({
        "command": "bench", "version": version, "commit": "880a804ee745",
        "date": "2026-11-29T12:00:00Z", "machine": { "cpu": cpu, "os": "linux" },
        "rows": [row("copy", None), row("train_step", Some(images_per_s))], "skipped": [],
    });
    std::fs::write(path, result.to_string()).expect("writable");
}

#[test]
fn results_of_two_machines_are_merged_and_other_files_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    write(&at.join("a.json"), "Slow", "0.1.0", 10.0);
    write(&at.join("b.json"), "Quick", "0.2.0", 30.0);

    let args = ["bench", "--merge", "a.json", "b.json", "--json", "both.json"];
    let text = succeeds(&soda(at, &args));
    let place =
        |text: &str, word: &str| text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
    assert!(place(&text, "GPU of Quick") < place(&text, "GPU of Slow"), "{text}");
    assert!(
        text.contains("driver radv Mesa 25.0; soda 0.2.0 (880a804ee745); 2026-11-29T12:00:00Z")
    );

    // The merged file keeps every row with its origin, and is itself a result.
    let merged = json(&at.join("both.json"));
    let rows = merged["rows"].as_array().expect("rows");
    let of =
        |row: &Value| (row["op"].clone(), row["machine"]["cpu"].clone(), row["version"].clone());
    assert_eq!(rows.len(), 4);
    assert_eq!(of(&rows[2]), ("train_step".into(), "Quick".into(), "0.2.0".into()));
    assert_eq!(of(&rows[3]), ("train_step".into(), "Slow".into(), "0.1.0".into()));
    for key in ["driver", "commit", "date"] {
        assert!(rows.iter().all(|row| row[key].is_string()), "{key} in {merged}");
    }
    let table = succeeds(&soda(at, &["bench", "--merge", "both.json", "--markdown"]));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 4 && lines.iter().all(|line| line.starts_with("| ")), "{table}");
    assert!(
        lines[2].contains("| GPU of Quick, vulkan |") && lines[3].contains("| 10.0 |"),
        "{table}"
    );

    std::fs::write(at.join("no.json"), r#"{"command": "probe", "rows": []}"#).expect("writable");
    let refused = soda(at, &["bench", "--merge", "a.json", "no.json", "--json", "c.json"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("no.json: not the result of soda bench; merge only"), "{said}");
    assert!(said.trim_end().lines().count() == 1 && !at.join("c.json").exists(), "{said}");
}
