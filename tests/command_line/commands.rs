//! The commands that generate images from z: what they write, and one clear error message for each
//! mistake.

use crate::common::program::{fails, json, soda, succeeds, train};
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

/// Three runs of a few steps: with sections of z, without, and with view conditioning.
static RUNS: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = [
        "--run",
        "whole",
        "--set",
        "model.unet.layer_modulation=false",
        "--set",
        "train.layer_mask=0",
    ];
    let views = [
        "--run",
        "views",
        "--set",
        "model.unet.view_conditioning=true",
        "--set",
        "data.views=conditioned",
    ];
    for more in [&["--run", "sections"][..], &whole, &views] {
        succeeds(&train(folder.path(), more));
    }
    folder
});

fn at() -> &'static Path {
    RUNS.path()
}

fn run(args: &[&str]) -> std::process::Output {
    soda(at(), &[args, &["--device", "cpu"]].concat())
}

fn picture(name: &str) -> image::RgbImage {
    image::open(at().join(name)).expect("a PNG").into_rgb8()
}

fn finite(value: &serde_json::Value) -> f64 {
    let number = value.as_f64().unwrap_or_else(|| panic!("{value} isn't a number"));
    assert!(number.is_finite());
    number
}

#[test]
fn invert_writes_originals_and_both_ways_back() {
    let base =
        ["invert", "test:3", "train:5", "--run", "sections", "--out", "i.png", "--json", "i.json"];
    let out = succeeds(&run(&[&base[..], &["--steps", "20"]].concat()));
    assert!(out.contains("z and x_T: PSNR"), "{out}");
    let report = json(&at().join("i.json"));
    assert_eq!((&report["n"], &report["images"][1]), (&2.into(), &"train:5 (automobile)".into()));
    // The noise from an untrained network is almost the scaled image itself, so sampling inverts it
    // whatever the network predicts.
    assert!(finite(&report["psnr"]) > finite(&report["z_alone"]["psnr"]) + 3.0, "{report}");
    let (width, height) = picture("i.png").dimensions();
    assert!(width >= 2 * 96 && height >= 3 * 96, "{width} x {height}");
}

#[test]
fn mix_draws_a_matrix_of_sections_or_of_stages() {
    let base = [
        "mix", "test:0", "test:1", "--with", "test:2", "test:3", "test:4", "--out", "m.png",
        "--json", "m.json",
    ];
    let mixed = |more: &[&str]| run(&[&base[..], &["--run", "sections"], more].concat());
    succeeds(&mixed(&["--sections", "0,2"]));
    let report = json(&at().join("m.json"));
    assert_eq!(report["sections"], serde_json::json!([0, 2]));
    assert!(
        report["changes"].as_array().is_some_and(|rows| rows.len() == 2)
            && finite(&report["changes"][1][2]) > 0.0
    );
    fails(&mixed(&["--sampler", "ddpm"]), 2, &["--sampler ddpm", "dpm-solver"]);
    fails(&mixed(&["--eta", "0.5"]), 2, &["eta 0.5"]);
    let some = picture("m.png");
    succeeds(&mixed(&["--sections", "0,2"]));
    assert!(picture("m.png") == some, "the same seed draws another picture");
    succeeds(&mixed(&["--sections", "0,1,2"]));
    assert!(picture("m.png") != some);
    fails(&mixed(&["--sections", "3"]), 2, &["--sections 3", "sections 0 to 2"]);
    fails(&mixed(&["--sections", "x"]), 2, &["--sections", "expected numbers of sections"]);
    // Without sections, images are mixed by the stages of the denoiser.
    let whole = |which| run(&[&base[..], &["--run", "whole", "--sections", which]].concat());
    assert!(succeeds(&whole("0,2")).starts_with("stages 0, 2 of 3 from the columns"));
    fails(&whole("3"), 2, &["--sections 3", "stages 0 to 2"]);
    assert!(picture("m.png") != some);
}

#[test]
fn view_follows_its_box_and_refuses_weights_without_view_conditioning() {
    let base = ["view", "test:0", "--out", "v.png", "--json", "v.json"];
    let view = |more: &[&str]| run(&[&base[..], more].concat());
    succeeds(&view(&["--run", "views", "--crop", "0,0,16,24", "--flip"]));
    let report = json(&at().join("v.json"));
    assert_eq!(
        (&report["crop"], &report["flip"]),
        (&serde_json::json!([0, 0, 16, 24]), &true.into())
    );
    finite(&report["psnr"]);
    let some = picture("v.png");
    succeeds(&view(&["--run", "views", "--crop", "16,8,16,24"]));
    assert!(picture("v.png") != some);
    fails(&view(&["--run", "sections"]), 2, &["sections", "view_conditioning"]);
    for crop in ["20,0,16,16", "0,0,0,4", "0,0,18446744073709551615,4"] {
        assert_eq!(view(&["--run", "views", "--crop", crop]).status.code(), Some(2));
    }
}

#[test]
fn diagnose_measures_three_kinds_of_z() {
    let out = succeeds(&run(&[
        "diagnose", "--run", "sections", "-n", "60", "--bins", "4", "--out", "d.png", "--json",
        "d.json",
    ]));
    assert!(out.contains("effective rank"), "{out}");
    let report = json(&at().join("d.json"));
    let bins = report["bins"].as_array().expect("bins");
    assert_eq!(bins.len(), 4);
    assert_eq!(
        (&bins[0]["t"], &bins[3]["t"]),
        (&serde_json::json!([1, 250]), &serde_json::json!([751, 1000]))
    );
    for kind in ["own", "shuffled", "none"] {
        let mean = bins.iter().map(|b| finite(&b[kind])).sum::<f64>() / 4.0;
        assert!((mean - finite(&report["loss"][kind])).abs() < 1e-9);
    }
    for (bin, of) in bins
        .iter()
        .flat_map(|bin| [(bin, ["explained", "own"]), (bin, ["explained_by_another", "shuffled"])])
    {
        let share = 100.0 * (1.0 - finite(&bin[of[1]]) / finite(&bin["none"]));
        assert!((share - finite(&bin[of[0]])).abs() < 1e-9, "{bin}");
    }
    let rank = finite(&report["z"]["effective_rank"]);
    assert!((1.0..=8.0).contains(&rank), "{rank}");
    assert!(picture("d.png").dimensions().0 > 100);
    fails(
        &run(&["diagnose", "--run", "sections", "-n", "1"]),
        2,
        &["-n 1", "between 2 ", "and 1,000"],
    );
    fails(
        &run(&["diagnose", "--run", "sections", "--bins", "0"]),
        2,
        &["--bins 0", "between 1 and 1000"],
    );
}

#[test]
fn guidance_and_samplers_are_checked_and_change_the_picture() {
    let draw = |more: &[&str]| {
        run(&[&["reconstruct", "--run", "sections", "-n", "4", "--out", "g.png"], more].concat())
    };
    succeeds(&draw(&[]));
    let plain = picture("g.png");
    for more in [
        &["--sampler", "dpm-solver"][..],
        &["--sampler", "ddpm"],
        &["--guidance", "3,0,0"],
        &["--guidance", "0,0,3"],
        &["--eta", "1"],
    ] {
        succeeds(&draw(more));
        assert!(picture("g.png") != plain, "{more:?}");
    }
    fails(&draw(&["--steps", "0"]), 2, &["--steps 0", "between 1 and 1000"]);
    fails(&draw(&["--guidance", "1,2"]), 2, &["--guidance", "2 weights", "3 sections"]);
    fails(&draw(&["--guidance", "NaN"]), 2, &["--guidance", "finite"]);
    fails(&draw(&["--eta", "2"]), 2, &["--eta 2"]);
    for other in ["ddpm", "dpm-solver"] {
        fails(&draw(&["--sampler", other, "--eta", "0.5"]), 2, &["--eta 0.5", "--sampler ddim"]);
    }
    let whole = ["reconstruct", "--run", "whole", "--out", "g.png", "--guidance", "1,2"];
    fails(&run(&whole), 2, &["z has no sections"]);
    assert_eq!(draw(&["--sampler", "euler"]).status.code(), Some(2));
}

#[test]
fn unusable_images_are_reported_by_name() {
    let folder = at();
    image::RgbImage::new(1, 1).save(folder.join("one.png")).expect("a PNG");
    std::fs::write(folder.join("text.png"), "not an image").expect("a file");
    let invert = |image: &str| run(&["invert", image, "--run", "sections", "--out", "x.png"]);
    fails(&invert("gone.png"), 1, &["gone.png"]);
    fails(&invert("one.png"), 1, &["one.png", "1 x 1"]);
    fails(&invert("text.png"), 1, &["text.png"]);
    fails(&invert("test:1000"), 2, &["test:1000", "holds 1,000 images", "0 to 999"]);
    fails(&invert("test:x"), 2, &["test:x"]);
    let deep = image::ImageBuffer::<image::Rgb<u16>, Vec<u16>>::from_fn(40, 30, |x, y| {
        image::Rgb([1600 * x as u16, 2000 * y as u16, 0])
    });
    deep.save(folder.join("deep.png")).expect("a 16-bit PNG");
    succeeds(&invert("deep.png"));
    fails(&run(&["invert", "--run", "sections", "--out", "deep.png/x.png"]), 1, &["deep.png"]);
}
