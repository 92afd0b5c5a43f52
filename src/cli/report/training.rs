//! How a run was trained: what metrics.jsonl and starts.jsonl tell.

use super::kitchen::Dish;
use super::{per_cent, scored};
use crate::cli::quickstart::summary as quickstart;
use crate::config::Config;
use crate::error::Result;
use crate::report::html::{Fact, Figure, Section};
use crate::report::plot::{CurveStyle, Series, Size, save_curve};
use crate::run_dir::RunDir;
use indicatif::HumanCount;
use serde_json::Value;
use std::path::Path;

/// One sentence about the run.
pub fn lead(run: &RunDir, config: &Config) -> Result<String> {
    let metrics = run.read_metrics()?;
    let images = metrics.rows.last().map_or(0, |r| r.images);
    let starts = run.read_starts();
    let on = starts.last().map_or(String::new(), |s| format!(" on {} ({})", s.data, s.adapter));
    let began = match starts.first().and_then(|s| s.from.as_ref()) {
        Some(sha256) => format!(", beginning from trained weights (SHA-256 {sha256:.16}..)"),
        None => String::new(),
    };
    let quickstart = match quickstart::read(&run.path)["command"] == "quickstart" {
        true => {
            " `soda quickstart` trained it from random weights; the scores and the picture that it shows first are those of the shipped weights, not of this run."
        }
        false => "",
    };
    let m = &config.model;
    Ok(format!(
        "A ResNet-18 encoder of base width {} that distils an image into {} numbers, and a UNet of base width {} that draws images from them, trained without labels{on}{began}: {} images seen.{quickstart}",
        m.encoder.base,
        m.z_dim,
        m.unet.base,
        grouped(images)
    ))
}

/// The numbers at the top.
pub fn facts(run: &RunDir, config: &Config, probes: &[(&'static str, Dish)]) -> Result<Vec<Fact>> {
    let metrics = run.read_metrics()?;
    let mut facts = Vec::new();
    let mut add = |value: String, name: &str| facts.push(Fact { value, name: name.into() });
    for (protocol, dish) in probes {
        let name = match *protocol {
            "linear" => "linear probe of z, top-1",
            "knn" => "k-NN on z, top-1",
            _ => continue,
        };
        if let Ok(v) = &dish.result {
            add(scored(&v["top1"], &v["top1_spread"]), name);
            if *protocol == "linear" && v["baselines"]["pixels"]["top1"].is_number() {
                add(per_cent(&v["baselines"]["pixels"]["top1"]), "the same on raw pixels");
            }
        }
    }
    if let Some(last) = metrics.rows.last() {
        add(grouped(last.step), &format!("steps of {} images", config.train.batch_size));
        if let Some(start) = run.read_starts().last() {
            add(format!("{:.1}", last.images as f64 / start.images as f64), "passes over the training images");
        }
        add(duration(last.seconds), "of training");
        add(format!("{:.0}", last.images as f64 / last.seconds.max(1e-9)), "images a second");
        add(format!("{:.4}", last.loss), "mean squared error on the noise");
    }
    Ok(facts)
}

/// Curves, with the baselines of `probes` beside the scores of z.
pub fn section(run: &RunDir, config: &Config, probes: &[(&'static str, Dish)], folder: &Path) -> Result<Section> {
    let metrics = run.read_metrics()?;
    let mut section = Section { id: "training".into(), title: "Training".into(), ..Default::default() };
    let smooth = (metrics.rows.len() / 20).max(1);
    let by_images =
        |of: fn(&crate::run_dir::Row) -> f64| metrics.rows.iter().map(|r| (r.images as f64, of(r))).collect::<Vec<_>>();
    let mut draw = |name: &str, title: &str, y: &str, series: &[Series], style: CurveStyle, caption: &str| {
        let path = folder.join(format!("{name}.png"));
        let drawn = save_curve(&path, title, "images seen", y, series, style).and_then(|()| Figure::read(&path, caption, true));
        match drawn {
            Ok(figure) => section.figures.push(figure),
            Err(reason) => section.missing.push(format!("{title}: {reason}")),
        }
    };
    let style = CurveStyle { size: Size::Phone, ..Default::default() };
    let log = CurveStyle { log_y: true, smooth, ..style };
    let one = |points| [Series { name: "", points }];
    draw(
        "loss",
        "Loss",
        "mean squared error",
        &one(by_images(|r| r.loss)),
        log,
        "Mean squared error on the noise; pale: each row of the log, bold: their running mean.",
    );
    draw(
        "lr",
        "Learning rate",
        "of the denoiser",
        &one(by_images(|r| r.lr)),
        style,
        &match config.train.encoder_lr_ratio {
            1.0 => "Learning rate of both networks.".to_owned(),
            ratio => format!("Learning rate of the denoiser; the encoder's is {ratio} times as high."),
        },
    );
    draw(
        "speed",
        "Throughput",
        "images a second",
        &one(by_images(|r| r.images_per_s)),
        CurveStyle { smooth, ..style },
        "Training alone; pictures, scores and checkpoints are not counted.",
    );
    let scores = &metrics.evaluations;
    if let (Some(first), Some(last)) = (scores.first(), scores.last()) {
        let series = |name, of: fn(&crate::run_dir::Evaluation) -> f64| Series {
            name,
            points: scores.iter().map(|e| (e.images as f64, of(e))).collect(),
        };
        let mut lines = vec![series("linear probe", |e| e.linear), series("k-NN", |e| e.knn)];
        let linear = probes.iter().find(|(p, _)| *p == "linear").and_then(|(_, d)| d.result.as_ref().ok());
        let baseline = |key: &str| linear.and_then(|v: &Value| v["baselines"][key]["top1"].as_f64());
        for (name, key) in [("raw pixels", "pixels"), ("untrained encoder", "random_encoder")] {
            if let Some(value) = baseline(key) {
                // A line that goes through the whole chart.
                let ends = [0.0, last.images as f64];
                lines.push(Series { name, points: ends.map(|x| (x, value)).to_vec() });
            }
        }
        let caption = format!(
            "Top-1 of z on {} training images held out from probe and k-NN, which learn from {}. Raw pixels and the untrained encoder under `linear` on the test set.",
            grouped(last.n_validation as u64),
            grouped(first.n_train as u64)
        );
        draw("scores", "What z is worth", "per cent", &lines, style, &caption);
    }
    Ok(section)
}

/// "1,280,000".
fn grouped(n: u64) -> String {
    HumanCount(n).to_string()
}

/// "2 h 05 min", "6 min", "40 s".
fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..=99 => format!("{s} s"),
        100..=5999 => format!("{} min", (s + 30) / 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_says_whose_scores_a_quickstart_shows() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::new(folder.path());
        let config = Config::load(Path::new("configs/tiny.toml"), &[]).expect("a recipe");
        assert!(!lead(&run, &config).expect("a sentence").contains("quickstart"));
        std::fs::write(folder.path().join("summary.json"), r#"{"command": "quickstart"}"#).expect("writable");
        assert!(lead(&run, &config).expect("two sentences").contains("those of the shipped weights, not of this run"));
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 7, 999, 1000, 50_000, 1_234_567].map(grouped), ["0", "7", "999", "1,000", "50,000", "1,234,567"]);
        assert_eq!([0.4, 99.0, 100.0, 3599.0, 7500.0].map(duration), ["0 s", "99 s", "2 min", "60 min", "2 h 05 min"]);
    }
}
