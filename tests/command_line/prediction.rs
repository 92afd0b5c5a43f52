//! Weights that predict v at continuous noise levels, with a target of half the side, in every
//! command that generates or measures.

use crate::common::program::{fails, json, soda, succeeds, text, train};
use soda::config::{Levels, LossWeight, Prediction, Sides};
use soda::model::weights::WeightsFile;
use std::path::Path;

const V: [&str; 6] = [
    "diffusion.prediction=v",
    "diffusion.levels=continuous",
    "diffusion.high_noise=0.1",
    "train.loss_weight=one_minus_alpha_bar",
    "train.denoisings=2",
    "data.target.side=16",
];

fn trained(folder: &Path, run: &str, sets: &[&str]) {
    let mut more = vec!["--run", run];
    sets.iter().for_each(|set| more.extend(["--set", set]));
    succeeds(&train(folder, &more));
}

#[test]
fn every_command_works_with_weights_that_predict_v_and_a_smaller_target() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    trained(at, "v", &V);
    let run =
        |args: &[&str]| succeeds(&soda(at, &[args, &["--run", "v", "--device", "cpu"]].concat()));
    // From pure noise with each sampler, and from the linear decoder's image.
    for sampler in ["ddim", "ddpm", "dpm-solver"] {
        run(&[
            "sample",
            "-n",
            "2",
            "--components",
            "2",
            "--sampler",
            sampler,
            "--steps",
            "3",
            "--out",
            "s.png",
        ]);
    }
    run(&["reconstruct", "-n", "2", "--guidance", "1.5", "--json", "noise.json"]);
    run(&["reconstruct", "-n", "2", "--start", "0.3", "--json", "picture.json"]);
    let psnr = |file: &str| json(&at.join(file))["psnr"].as_f64().expect("a number");
    assert!(psnr("noise.json").is_finite() && psnr("picture.json") > 5.0);
    run(&["interpolate", "test:0", "test:1", "-n", "3", "--invert", "--steps", "3"]);
    run(&["quality", "-n", "8", "--components", "2"]);
    run(&["embed", "--split", "test", "--features", "denoiser:up0.0@300", "--out", "up.npy"]);
    let said = run(&["diagnose", "-n", "6", "--bins", "2", "--json", "d.json"]);
    assert!(said.contains("mean squared error on v"), "{said}");
    assert_eq!(json(&at.join("d.json"))["prediction"], "v");

    // Inversion and sampling give the image back, as well as with eps, and better with more steps.
    let inverted = |steps: &str| {
        run(&["invert", "test:0", "test:1", "--steps", steps, "--json", "i.json"]);
        psnr("i.json")
    };
    let (few, many) = (inverted("5"), inverted("100"));
    assert!(many > 20.0 && many > few + 3.0, "{few} dB, then {many} dB");

    // The file states what they predict, and keeps it.
    run(&["export", "--half", "--out", "half.safetensors"]);
    let config = WeightsFile::open(&at.join("half.safetensors")).expect("weights").config;
    assert_eq!(
        (config.diffusion.prediction, config.diffusion.levels),
        (Prediction::V, Levels::Continuous)
    );
    assert_eq!(
        (config.train.denoisings, config.train.loss_weight),
        (2, LossWeight::OneMinusAlphaBar)
    );
    assert_eq!(config.model.sides, Sides { source: 32, target: 16 });
    let other =
        ["train", "--run", "v", "--resume", "--device", "cpu", "--set", "diffusion.prediction=eps"];
    fails(
        &soda(at, &[&other[..], &["--allow-change"]].concat()),
        2,
        &["diffusion.prediction: \"v\" -> \"eps\"", "its weights depend on"],
    );
}

#[test]
fn weights_that_predict_eps_are_distinguished_from_those_that_predict_v() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    trained(at, "eps", &[]);
    let output = soda(
        at,
        &[
            "diagnose", "-n", "6", "--bins", "2", "--run", "eps", "--device", "cpu", "--json",
            "d.json",
        ],
    );
    assert!(
        succeeds(&output).contains("mean squared error on the noise"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(json(&at.join("d.json"))["prediction"], "eps");
}
