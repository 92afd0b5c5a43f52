//! `soda probe` as a user sees it: every protocol and kind of features, fractions of the labels,
//! the scan, and what is refused.

use crate::common::program::{fails, json, soda, succeeds, train};
use serde_json::Value;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

/// A run of a few steps.
static RUN: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(&train(folder.path(), &["--run", "r"]));
    folder
});

fn at() -> &'static Path {
    RUN.path()
}

/// Runs `soda probe` with `args` and a JSON file called `name`; returns its output and the file.
#[track_caller]
fn probed(name: &str, args: &[&str]) -> (String, Value) {
    let name = format!("{name}.json");
    let out =
        succeeds(&soda(at(), &[&["probe", "--device", "cpu", "--json", &name], args].concat()));
    (out, json(&at().join(name)))
}

#[track_caller]
fn per_cent(value: &Value) -> f64 {
    let number = value.as_f64().unwrap_or_else(|| panic!("{value} isn't a number"));
    assert!((0.0..=100.0).contains(&number), "{number}");
    number
}

/// Writes a `.npy` file of little-endian values.
fn npy(name: &str, dtype: &str, shape: &str, data: impl IntoIterator<Item = Vec<u8>>) {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(data.into_iter().flatten());
    std::fs::write(at().join(name), bytes).expect("writable");
}

/// Writes `n` features of 4 dimensions, of three well separated classes, as NAME.npy and
/// NAME_labels.npy; `odd` changes them.
fn write_features(name: &str, n: usize, odd: impl Fn(usize, &mut [f32; 4], &mut i64)) {
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for i in 0..n {
        let mut label = (i % 3) as i64;
        let mut row = [0, 1, 2, 3]
            .map(|j| ((i * 7 + j * 5) as f32 * 0.7).sin() + if j == i % 3 { 8.0 } else { 0.0 });
        odd(i, &mut row, &mut label);
        values.extend(row);
        labels.push(label);
    }
    npy(
        &format!("{name}.npy"),
        "<f4",
        &format!("({n}, 4)"),
        values.iter().map(|v| v.to_le_bytes().to_vec()),
    );
    npy(
        &format!("{name}_labels.npy"),
        "<i8",
        &format!("({n},)"),
        labels.iter().map(|v| v.to_le_bytes().to_vec()),
    );
}

#[test]
fn features_from_files_are_scored_without_weights_or_images() {
    write_features("train", 300, |_, _, _| {});
    write_features("test", 90, |_, _, _| {});
    // A third of the labels are wrong, which shows that these files are evaluated.
    write_features("lies", 90, |i, _, label| {
        if i < 30 {
            *label = (*label + 1) % 3
        }
    });
    let base = ["--features-from", "train.npy", "--labels-from", "train_labels.npy"];
    for protocol in ["linear", "linear-full", "knn", "knn-lightly"] {
        for (test, least, most) in [("test", 99.0, 100.0), ("lies", 60.0, 70.0)] {
            let labels = format!("{test}_labels.npy");
            let test = [
                "--test-features",
                &format!("{test}.npy"),
                "--test-labels",
                &labels,
                "--protocol",
                protocol,
            ];
            // Only linear has epochs.
            let epochs: &[&str] = if protocol == "linear" { &["--epochs", "500"] } else { &[] };
            let (_, report) = probed("files", &[&base[..], &test, epochs].concat());
            assert!((least..=most).contains(&per_cent(&report["top1"])), "{protocol}: {report}");
            assert_eq!(
                (&report["features"], &report["n_train"], &report["n_test"]),
                (&"train.npy".into(), &300.into(), &90.into())
            );
            assert_eq!(report["data"]["test"]["labels"]["sha256"].as_str().map(str::len), Some(64));
        }
    }
    let shares =
        ["--test-features", "test.npy", "--test-labels", "test_labels.npy", "--fraction", "0.1,1"];
    let (_, report) = probed("files", &[&base[..], &shares].concat());
    assert_eq!(report["curve"][0]["n_train"], 30);
}

#[test]
fn features_that_cannot_be_scored_are_refused_with_one_message() {
    let with = |train: &str, test: &str, more: &[&str]| {
        let name = |of: &str| [format!("{of}.npy"), format!("{of}_labels.npy")];
        let [[train, train_labels], [test, test_labels]] = [name(train), name(test)];
        let base = [
            "probe",
            "--protocol",
            "knn",
            "--features-from",
            &train,
            "--labels-from",
            &train_labels,
        ];
        soda(
            at(),
            &[&base[..], &["--test-features", &test, "--test-labels", &test_labels], more].concat(),
        )
    };
    write_features("good", 30, |_, _, _| {});
    succeeds(&with("good", "good", &[]));
    // With few rows fewer neighbours vote, and a warning is a sentence, not a log line.
    write_features("few", 15, |_, _, _| {});
    let few = succeeds(&with("few", "good", &[]));
    assert!(few.contains("(5 neighbours, limited to the average class size)"), "{few}");
    write_features("fewer", 3, |_, _, _| {});
    let fewer = with("fewer", "good", &["--whiten"]);
    succeeds(&fewer);
    let said = String::from_utf8_lossy(&fewer.stderr).into_owned();
    assert!(
        said.lines().any(|l| l.starts_with("warning: whitening is fitted to 3 images"))
            && !said.contains("WARN"),
        "{said}"
    );
    write_features("nan", 30, |i, row, _| {
        if i == 4 {
            row[1] = f32::NAN
        }
    });
    fails(&with("nan", "good", &[]), 1, &["nan.npy", "NaN in row 4, column 1"]);
    fails(&with("good", "nan", &[]), 1, &["nan.npy", "NaN in row 4, column 1"]);
    write_features("one", 30, |_, _, label| *label = 2);
    fails(&with("one", "good", &[]), 1, &["of one class, 2", "at least two"]);
    write_features("few", 30, |i, _, label| {
        if i == 0 {
            *label = 30
        }
    });
    fails(&with("few", "good", &[]), 1, &["30 training features are fewer than the 31 classes"]);
    write_features("short", 29, |_, _, _| {});
    std::fs::copy(at().join("short.npy"), at().join("uneven.npy")).expect("a copy");
    std::fs::copy(at().join("good_labels.npy"), at().join("uneven_labels.npy")).expect("a copy");
    fails(&with("uneven", "good", &[]), 1, &["uneven_labels.npy", "30 labels", "29 vectors"]);
    npy("narrow.npy", "<f4", "(30, 2)", (0..60u8).map(|i| f32::from(i).to_le_bytes().to_vec()));
    std::fs::copy(at().join("good_labels.npy"), at().join("narrow_labels.npy")).expect("a copy");
    fails(&with("good", "narrow", &[]), 1, &["4 values each", "test features 2"]);
    fails(&with("good", "gone", &[]), 1, &["gone.npy", "check the path"]);
    let cut = std::fs::read(at().join("good.npy")).expect("a file");
    std::fs::write(at().join("cut.npy"), &cut[..cut.len() - 1]).expect("writable");
    std::fs::copy(at().join("good_labels.npy"), at().join("cut_labels.npy")).expect("a copy");
    fails(&with("cut", "good", &[]), 1, &["cut.npy", "truncated"]);
    for more in [
        &["--run", "r"][..],
        &["--features", "z"],
        &["--split", "test"],
        &["--baselines"],
        &["--grid"],
    ] {
        assert_eq!(with("good", "good", more).status.code(), Some(2), "{more:?}");
    }
    let alone = ["probe", "--features-from", "good.npy", "--labels-from", "good_labels.npy"];
    assert_eq!(soda(at(), &alone).status.code(), Some(2), "accepted without test features");
}

#[test]
fn every_protocol_scores_z_and_reports_how() {
    for (protocol, views, runs) in
        [("linear", "2", 2), ("linear-full", "1", 1), ("knn", "1", 1), ("knn-lightly", "1", 1)]
    {
        let args = ["--run", "r", "--protocol", protocol, "--split", "selection", "--seeds", "2"];
        let (out, report) = probed(protocol, &args);
        assert!(
            out.starts_with(&format!("{protocol} on z: scored on 500 held-out training images")),
            "{out}"
        );
        assert_eq!((&report["protocol"], &report["features"]), (&protocol.into(), &"z".into()));
        assert_eq!(
            (&report["train_views"], &report["runs"], &report["seeds"]),
            (&views.into(), &runs.into(), &2.into())
        );
        assert_eq!(
            (&report["n_train"], &report["n_test"], &report["split_seed"]),
            (&4500.into(), &500.into(), &0.into())
        );
        assert_eq!(report["top1_spread"].is_null(), runs == 1, "{protocol}: one run has no spread");
        let top = ["top1", "top3", "top5"].map(|k| per_cent(&report[k]));
        assert!(top[0] > 0.0 && top.is_sorted() && top[2] > top[0], "{protocol}: {top:?}");
        for digest in ["/data/sha256", "/weights/sha256"] {
            assert_eq!(
                report.pointer(digest).and_then(Value::as_str).map(str::len),
                Some(64),
                "{digest}"
            );
        }
    }
}

#[test]
fn fractions_of_the_labels_give_a_curve_with_baselines_of_the_same_kind() {
    let args = [
        "--run",
        "r",
        "--protocol",
        "knn",
        "--split",
        "selection",
        "--fraction",
        "1,0.01,0.1",
        "--baselines",
    ];
    let (out, report) = probed("curve", &args);
    let counts = |value: &Value| -> Vec<u64> {
        value["curve"]
            .as_array()
            .expect("a curve")
            .iter()
            .map(|p| p["n_train"].as_u64().expect("a count"))
            .collect()
    };
    assert_eq!(
        (counts(&report), &report["n_train"], &report["fraction"]),
        (vec![50, 450, 4500], &4500.into(), &1.0.into())
    );
    assert_eq!(report["curve"][0]["runs"], 3);
    for name in ["pixels", "random_encoder"] {
        let baseline = &report["baselines"][name];
        assert_eq!(counts(baseline), [50, 450, 4500], "{name}");
        assert!(per_cent(&baseline["top1"]) > per_cent(&baseline["curve"][0]["top1"]), "{name}");
    }
    assert_eq!(out.lines().count(), 10, "{out}");

    // The cache gives the same results, and distinguishes protocols and features.
    assert_eq!(probed("again", &args).1["baselines"], report["baselines"]);
    let all = |more: &[&str]| {
        probed("other", &[&args[..5], &["selection", "--baselines"], more].concat()).1["baselines"]
            .clone()
    };
    let of_z = all(&[]);
    assert_eq!(of_z["pixels"]["top1"], report["baselines"]["pixels"]["top1"]);
    assert_ne!(
        all(&["--features", "backbone"])["random_encoder"]["top1"],
        of_z["random_encoder"]["top1"]
    );
}

#[test]
fn pixels_need_no_weights_and_beat_chance() {
    let (out, report) =
        probed("pixels", &["--protocol", "knn", "--features", "pixels", "--split", "selection"]);
    assert!(out.contains("raw pixels") && out.contains("(deterministic)"), "{out}");
    assert!(per_cent(&report["top1"]) > 20.0 && report.get("weights").is_none(), "{report}");
    let base = ["probe", "--features", "pixels"];
    for more in [&["--run", "r"][..], &["--baselines"], &["--train-views", "online"]] {
        fails(&soda(at(), &[&base, more].concat()), 2, &["--features pixels", "leave out"]);
    }
}

#[test]
fn features_of_the_denoiser_and_the_backbone_are_scored() {
    for features in ["backbone", "denoiser:up0.1@300"] {
        let args = [
            "--run",
            "r",
            "--protocol",
            "linear-full",
            "--features",
            features,
            "--split",
            "selection",
        ];
        let (_, report) = probed("kinds", &args);
        assert!(report["features"] == features && per_cent(&report["top1"]) > 15.0, "{report}");
    }
    let refused = |features: &str, parts: &[&str]| {
        fails(
            &soda(at(), &["probe", "--run", "r", "--features", features, "--device", "cpu"]),
            2,
            parts,
        );
    };
    refused("zz", &["\"zz\"", "denoiser:BLOCK@T", "or pixels"]);
    refused("denoiser:up0.1", &["@T is missing", "denoiser:up0.1@"]);
    refused("denoiser:up7.0@5", &["up7.0", "middle"]);
    refused("denoiser:middle@0", &["1 to 1000"]);
    let online = [
        "probe",
        "--run",
        "r",
        "--features",
        "backbone",
        "--train-views",
        "online",
        "--device",
        "cpu",
    ];
    fails(&soda(at(), &online), 2, &["online training views", "use --train-views 1 or 2"]);
    for share in ["0", "1.5", "many"] {
        assert_eq!(
            soda(at(), &["probe", "--run", "r", "--fraction", share]).status.code(),
            Some(2),
            "{share}"
        );
    }
}

#[test]
fn the_scan_draws_its_cells_and_reports_the_best() {
    let base = ["--run", "r", "--grid", "--limit", "200", "--seeds", "1"];
    let (out, report) =
        probed("grid", &[&base[..], &["--times", "500,10", "--out", "g/grid.png"]].concat());
    let cells = report["cells"].as_array().expect("cells");
    // The middle block, and two blocks at each of two resolutions in the up path.
    let blocks = report["blocks"].as_array().expect("blocks");
    assert_eq!((&report["times"], cells.len()), (&serde_json::json!([10, 500]), 2 * blocks.len()));
    assert!(blocks[0] == "middle" && blocks.len() >= 5, "{blocks:?}");
    assert_eq!(
        (&report["n_train"], &report["n_test"], &report["split"]),
        (&200.into(), &100.into(), &"selection".into())
    );
    assert_eq!(
        cells[3]["features"],
        format!("denoiser:{}@500", blocks[1].as_str().expect("a name"))
    );
    let best = cells.iter().map(|c| per_cent(&c["top1"])).fold(0.0, f64::max);
    assert_eq!(report["best"]["top1"], best);
    assert!(cells.iter().any(|c| per_cent(&c["top1"]) < best), "all cells are the same: {report}");
    let features = report["best"]["features"].as_str().expect("features");
    assert!(
        out.contains(&format!("soda probe --protocol linear --features {features} --weights")),
        "{out}"
    );
    let picture = image::open(at().join("g/grid.png")).expect("a PNG").into_rgb8();
    assert!(picture.width() > 250 && picture.height() > 250, "{:?}", picture.dimensions());

    let scan =
        |more: &[&str]| soda(at(), &[&["probe", "--device", "cpu"], &base[..], more].concat());
    fails(&scan(&["--times", "0"]), 2, &["--times 0", "1 to 1000"]);
    assert_eq!(
        scan(&["--split", "test"]).status.code(),
        Some(2),
        "the scan accepts the test split"
    );
    std::fs::write(at().join("file"), "in the way").expect("writable");
    fails(&scan(&["--out", "file/grid.png"]), 1, &["file"]);
}

#[test]
fn whitened_features_are_scored_next_to_the_original_ones() {
    // The variance between classes is small compared with the rest.
    let loud = |i: usize, row: &mut [f32; 4], label: &mut i64| {
        let hashed = |j: usize| (i * 4 + j) as u32;
        let noise = [0, 1, 2, 3]
            .map(|j| hashed(j).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 - 0.5);
        *row = [
            *label as f32 - 1.0 + 0.2 * noise[0],
            100.0 * noise[1],
            100.0 * noise[2],
            100.0 * noise[3],
        ];
    };
    write_features("loud", 300, loud);
    write_features("loud_test", 90, |i, row, label| loud(i + 1000, row, label));
    let files = [
        "--features-from",
        "loud.npy",
        "--labels-from",
        "loud_labels.npy",
        "--test-features",
        "loud_test.npy",
    ];
    let files =
        [&files[..], &["--test-labels", "loud_test_labels.npy", "--protocol", "knn"]].concat();
    let (out, report) = probed("loud", &[&files[..], &["--whiten"]].concat());
    let (plain, white) = (per_cent(&report["top1"]), per_cent(&report["whitened"]["top1"]));
    assert!(white > 95.0 && plain < 60.0, "{report}");
    assert!(out.contains("loud.npy (whitened)"), "{out}");
    let (_, without) = probed("plain", &files);
    assert_eq!((&without["top1"], &without["whitened"]), (&report["top1"], &Value::Null));

    let base = ["--run", "r", "--protocol", "linear", "--split", "selection", "--seeds", "1"];
    let (out, report) = probed("white", &[&base[..], &["--whiten"]].concat());
    assert!(
        out.contains("  z (whitened) ") && report["whitened"]["n_train"] == report["n_train"],
        "{out}"
    );
    per_cent(&report["whitened"]["top1"]);
    for more in [&["--train-views", "online"][..], &["--features", "pixels"], &["--grid"]] {
        assert_eq!(
            soda(at(), &[&["probe", "--run", "r", "--whiten"], more].concat()).status.code(),
            Some(2),
            "{more:?}"
        );
    }
}
