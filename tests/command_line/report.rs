//! `soda health`, `soda quality` and the page that `soda report` writes about a run.

use crate::common::program::{fails, json, soda, succeeds, train};
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

/// A run of three steps whose z was scored during training.
static RUN: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let more = ["--run", "run", "--set", "train.steps=3", "--set", "train.log_every=1"];
    let scored = ["--set", "train.evaluate_every=2", "--set", "train.evaluate_images=500"];
    succeeds(&train(folder.path(), &[&more[..], &scored].concat()));
    folder
});

fn at() -> &'static Path {
    RUN.path()
}

fn run(args: &[&str]) -> std::process::Output {
    soda(at(), &[args, &["--device", "cpu"]].concat())
}

fn number(value: &serde_json::Value) -> f64 {
    let number = value.as_f64().unwrap_or_else(|| panic!("{value} isn't a number"));
    assert!(number.is_finite());
    number
}

#[test]
fn a_report_holds_everything_in_one_file() {
    let page = at().join("page/report.html");
    succeeds(&run(&[
        "report",
        "--run",
        "run",
        "--out",
        "page/report.html",
        "--json",
        "report.json",
    ]));
    assert_eq!(json(&at().join("report.json"))["missing"], serde_json::json!([]));
    let html = std::fs::read_to_string(page).expect("the page");
    for id in [
        "training",
        "worth",
        "health",
        "reconstructions",
        "samples",
        "editing",
        "neighbours",
        "repeat",
    ] {
        assert!(html.contains(&format!("<section id=\"{id}\">")), "section {id} is missing");
    }
    for part in [
        "linear probe of z, top-1",
        "raw pixels",
        "untrained encoder",
        "soda probe --protocol knn",
        "Frechet distance",
        "SHA-256",
        "under `linear`: ",
        "points that z adds to raw pixels",
        "Each row is trained on 5,000 labels and is scored on 1,000 test images.",
        "<summary>The recipe</summary>",
        "Linear probe: accuracy ",
        "training started",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    // scripts/web_page.sh takes screenshots of it.
    if let Some(kept) = std::env::var_os("SODA_REPORT") {
        std::fs::write(kept, &html).expect("a place to keep it");
    }
    // With three rows in the log there is no running mean, and no caption that mentions one; nor
    // are there columns with one constant value.
    for part in ["running mean", "Z explains", "training labels</th>"] {
        assert!(!html.contains(part), "{part} is there");
    }
    // Four curves (loss, rate, throughput, scores) and ten pictures or more, and nothing that a
    // browser would fetch.
    let pictures = html.matches("src=\"data:image/png;base64,").count();
    assert!(pictures >= 13, "{pictures} pictures");
    assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("<script"));
    assert_eq!(html.matches("<img ").count(), pictures);
    fails(&run(&["report", "--run", "none"]), 2, &["none does not exist", "run directory"]);
}

#[test]
fn health_reports_the_distribution_of_z_and_what_a_probe_confuses() {
    let health = |name: &str| {
        let out = succeeds(&run(&["health", "--run", "run", "--out", "c.png", "--json", name]));
        assert!(out.contains("alignment") && out.contains("purity"), "{out}");
        json(&at().join(name))
    };
    let report = health("h.json");
    assert!(
        (0.0..4.0).contains(&number(&report["alignment"])) && number(&report["uniformity"]) <= 1e-6,
        "{report}"
    );
    assert!((1.0..=8.0).contains(&number(&report["effective_rank"])), "{report}");
    let row_sum =
        |row: &serde_json::Value| row.as_array().expect("a row").iter().map(number).sum::<f64>();
    let confusion = report["confusion"].as_array().expect("rows");
    assert!(confusion.len() == 10 && confusion.iter().all(|row| row_sum(row) == 100.0), "{report}");
    let diagonal: f64 = (0..10).map(|c| number(&confusion[c][c])).sum();
    assert!((number(&report["top1"]) - diagonal / 10.0).abs() < 1e-9, "{report}");
    assert!(number(&report["calibration"]["ece"]) <= 100.0);

    // The cached features give the same results, and a damaged cache file is replaced.
    let folder = at().join("cache/soda/features");
    let kept: Vec<_> =
        std::fs::read_dir(&folder).expect("features").flatten().map(|e| e.path()).collect();
    assert!(!kept.is_empty());
    for path in &kept {
        std::fs::write(path, "damaged").expect("writable");
    }
    let again = health("h2.json");
    for key in ["alignment", "uniformity", "effective_rank", "confusion", "calibration"] {
        assert_eq!(report[key], again[key], "{key}");
    }
    assert!(kept.iter().any(|p| std::fs::metadata(p).is_ok_and(|m| m.len() > 1000)));
}

#[test]
fn quality_measures_reconstructions_and_samples() {
    succeeds(&run(&[
        "quality",
        "-n",
        "12",
        "--components",
        "2",
        "--run",
        "run",
        "--out",
        "q.png",
        "--json",
        "q.json",
    ]));
    let report = json(&at().join("q.json"));
    assert!(number(&report["z_and_x_T"]["psnr"]) > number(&report["z_alone"]["psnr"]), "{report}");
    for set in ["drawn", "training_images"] {
        assert!(number(&report[set]["frechet"]) >= 0.0, "{report}");
        for share in ["precision", "recall"] {
            assert!((0.0..=100.0).contains(&number(&report[set][share])), "{report}");
        }
    }
    // Samples after three training steps are further from test images than training images are.
    assert!(
        number(&report["drawn"]["frechet"]) > number(&report["training_images"]["frechet"]),
        "{report}"
    );
    assert!(image::open(at().join("q.png")).expect("a PNG").width() > 300);
    fails(&run(&["quality", "-n", "3", "--run", "run"]), 2, &["-n 3", "between 4 and"]);
    fails(&run(&["quality", "-n", "2000", "--run", "run"]), 2, &["-n 2000", "1,000"]);
}
