//! `soda bench --config`: a training step of the user's recipe.

use super::{json, soda, succeeds};

#[test]
fn only_a_step_of_the_named_recipe_is_measured_with_its_changes() {
    let _alone = crate::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let args = [
        "bench",
        "--config",
        "tiny",
        "--set",
        "train.batch_size=6",
        "--set",
        "model.unet.base=24",
        "--device",
        "cpu",
        "--budget",
        "10",
        "--json",
        "r.json",
    ];
    let text = succeeds(&soda(folder.path(), &args));
    let report = json(&folder.path().join("r.json"));
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 1, "{text}");
    let name = "tiny, train.batch_size=6, model.unet.base=24";
    assert_eq!((&rows[0]["op"], &rows[0]["variant"]), (&"train_step".into(), &name.into()));
    assert_eq!((&rows[0]["width"], &rows[0]["batch"]), (&24.into(), &6.into()));
    assert!(rows[0]["images_per_s"].as_f64().is_some_and(|n| n.is_finite() && n > 0.0), "{text}");
    assert!(text.contains(name), "{text}");
    assert_eq!(report["recipe"]["config"], "tiny");
    // Another recipe of the same width and batch is another case.
    let other = ["bench", "--compare", "r.json", "o.json"];
    let renamed = report.to_string().replace(name, "small");
    std::fs::write(folder.path().join("o.json"), renamed).expect("a file");
    assert!(!succeeds(&soda(folder.path(), &other)).contains("1.00 x"));
}

#[test]
fn a_recipe_is_refused_where_it_has_no_effect_or_cannot_be_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |args: &[&str], code: i32, words: &str| {
        let output = soda(folder.path(), &[&["bench", "--device", "cpu"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{said}");
    };
    refused(&["--config", "tiny", "--suite", "kernels"], 2, "--suite");
    refused(&["--set", "train.batch_size=6"], 2, "add --config");
    refused(&["--config", "nowhere"], 1, "The built-in recipes are");
    refused(&["--config", "tiny", "--set", "train.batch_size=none"], 2, "train.batch_size");
    refused(&["--config", "tiny", "--set", "train.precision=mixed"], 2, "--precision f16");
}
