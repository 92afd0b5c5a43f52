//! The commands that use the distribution of z: sample, directions, interpolate.

use crate::common::program::{fails, json, soda, succeeds, train};
use std::path::Path;

/// Returns a folder with tiny trained networks in r/.
fn trained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(&train(folder.path(), &["--run", "r"]));
    folder
}

/// Runs `soda` on the CPU with the weights in r/.
fn run(at: &Path, args: &[&str]) -> std::process::Output {
    soda(at, &[args, &["--device", "cpu", "--run", "r"]].concat())
}

fn bytes(path: std::path::PathBuf) -> Vec<u8> {
    std::fs::read(path).expect("the picture")
}

#[test]
fn sample_directions_and_interpolate_draw_from_a_run_directory() {
    let folder = trained();
    let at = folder.path();

    let sample = |out: &str, seed: &str| {
        let args = [
            "sample",
            "-n",
            "9",
            "--components",
            "3",
            "--out",
            out,
            "--seed",
            seed,
            "--json",
            "s.json",
        ];
        let text = succeeds(&run(at, &args));
        assert!(
            text.lines().count() == 1
                && text.contains("9 images in")
                && text.contains("nats per dimension"),
            "{text}"
        );
    };
    sample("a.png", "1");
    let report = json(&at.join("s.json"));
    assert_eq!(
        (&report["command"], &report["n"], &report["device"]),
        (&"sample".into(), &9.into(), &"cpu".into())
    );
    assert_eq!(
        (&report["prior"]["fitted_images"], &report["prior"]["held_out_images"]),
        (&4500.into(), &500.into())
    );
    for path in [
        "/prior/held_out",
        "/prior/held_out_gaussian",
        "/nearest_train/mean",
        "/nearest_train/mean_of_test_images",
    ] {
        assert!(report.pointer(path).is_some_and(|v| v.is_f64()), "{path} in {report}");
    }
    // The second one reads the cached prior, and generates the same images.
    let cached = std::fs::read_dir(at.join("cache/soda/priors")).expect("the cache").count();
    sample("b.png", "1");
    sample("c.png", "2");
    assert_eq!(
        (cached, std::fs::read_dir(at.join("cache/soda/priors")).expect("the cache").count()),
        (1, 1)
    );
    assert_eq!(bytes(at.join("a.png")), bytes(at.join("b.png")));
    assert_ne!(bytes(at.join("a.png")), bytes(at.join("c.png")));
    assert_eq!(json(&at.join("s.json"))["weights"]["sha256"], report["weights"]["sha256"]);

    let args = [
        "directions",
        "--pca",
        "2",
        "--classes",
        "--image",
        "test:3",
        "--image",
        "train:4",
        "--json",
        "d.json",
    ];
    let text = succeeds(&run(at, &args));
    assert!(
        text.contains("24 strips in directions.png") && text.contains("effective rank"),
        "{text}"
    );
    let report = json(&at.join("d.json"));
    let directions = report["directions"].as_array().expect("directions");
    assert_eq!(
        (directions.len(), &directions[0]["name"], &directions[3]["name"]),
        (12, &"PC 1".into(), &"automobile".into())
    );
    let shares: Vec<f64> =
        directions.iter().map(|d| d["share"].as_f64().expect("a share")).collect();
    assert!(
        shares[0] >= shares[1] && shares.iter().all(|s| (0.0..=100.0).contains(s)),
        "{shares:?}"
    );
    assert_eq!(directions[4]["probability"].as_array().map(Vec::len), Some(7));
    assert!((0.0..=100.0).contains(&report["probe"]["top1"].as_f64().expect("a score")));
    assert!((1.0..=8.0).contains(&report["effective_rank"].as_f64().expect("a rank")));
    // Two originals and 24 strips.
    let size = image::image_dimensions(at.join("directions.png")).expect("a PNG");
    assert!(size.0 > 7 * 64 && size.1 > 26 * 64, "{size:?}");

    image::save_buffer(at.join("grey.png"), &[128; 40 * 50], 40, 50, image::ExtendedColorType::L8)
        .expect("writable");
    let args = [
        "interpolate",
        "test:0",
        "grey.png",
        "-n",
        "4",
        "--invert",
        "--steps",
        "3",
        "--out",
        "i.png",
        "--json",
        "i.json",
    ];
    let text = succeeds(&run(at, &args));
    assert!(text.contains("4 images in a row from test:0 (cat) to grey.png"), "{text}");
    let report = json(&at.join("i.json"));
    let strips = report["strips"].as_array().expect("strips");
    let kinds: Vec<_> = strips
        .iter()
        .map(|s| (s["path"].as_str().expect("a path"), s["inverted"] == true))
        .collect();
    assert_eq!(
        kinds,
        [("linear", false), ("spherical", false), ("linear", true), ("spherical", true)]
    );
    // With networks of three steps, linear and spherical interpolation look the same: the picture
    // has one row for each x_T.
    assert_eq!(report["rows"], serde_json::json!(["in z", "in z, inverted x_T"]), "{report}");
    assert!(text.contains("one row shows both"), "{text}");
    // Linear or spherical, the ends are the same.
    assert_eq!(
        (&strips[0]["psnr_a"], &strips[0]["psnr_b"]),
        (&strips[1]["psnr_a"], &strips[1]["psnr_b"])
    );
    assert_ne!(strips[0]["psnr_a"], strips[2]["psnr_a"]);
    let size = image::image_dimensions(at.join("i.png")).expect("a PNG");
    assert!(size.0 > 6 * 64 && (2 * 64..3 * 64).contains(&size.1), "{size:?}");
}

#[test]
fn fails_for_impossible_requests() {
    let folder = trained();
    let at = folder.path();
    fails(&run(at, &["sample", "--temperature", "nan"]), 2, &["--temperature NaN"]);
    fails(&run(at, &["sample", "--steps", "0"]), 2, &["--steps 0"]);
    fails(&run(at, &["directions", "--pca", "0"]), 2, &["--pca 0", "--classes"]);
    fails(&run(at, &["directions", "--pca", "9"]), 2, &["--pca 9", "between 1 and 8"]);
    fails(&run(at, &["directions", "--image", "test:1000"]), 2, &["test:1000", "1,000 images"]);
    fails(&run(at, &["interpolate", "test:0", "train:x"]), 2, &["train:x", "train:17"]);
    fails(&run(at, &["interpolate", "gone.png", "test:1"]), 1, &["gone.png"]);
    std::fs::write(at.join("bad.png"), "no picture").expect("writable");
    fails(&run(at, &["interpolate", "test:0", "bad.png"]), 1, &["bad.png"]);
    for args in [
        &["sample", "-n", "0"][..],
        &["sample", "--components", "0"],
        &["interpolate", "test:0", "test:1", "-n", "1"],
    ] {
        assert_eq!(run(at, args).status.code(), Some(2), "{args:?}");
    }
    assert!(!at.join("samples.png").exists() && !at.join("interpolation.png").exists());
}
