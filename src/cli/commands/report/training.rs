//! How a run was trained, from metrics.jsonl and starts.jsonl.

use super::comparison::Comparison;
use super::subcommands::Finished;
use super::words::scored;
use crate::cli::args::weights::began_with;
use crate::cli::summary as quickstart;
use serde_json::Value;
use soda::config::Config;
use soda::error::Result;
use soda::model::shipped;
use soda::model::weights::WeightsFile;
use soda::report::html::{Fact, Figure, Section};
use soda::report::plot::{CurveStyle, Series, Size, save_curve};
use soda::run_dir::{RunDir, Start};
use soda::train::checkpoint::{self, images_behind};
use soda::units::grouped;
use std::path::Path;

/// Describes the run in a sentence.
pub fn lead(run: &RunDir, config: &Config) -> Result<String> {
    let metrics = run.read_metrics()?;
    let images = metrics.rows.last().map_or(0, |r| r.images);
    let starts = run.read_starts();
    let on = starts.last().map_or(String::new(), |s| format!(" on {} ({})", s.data, s.adapter));
    let quickstart = match quickstart::read(&run.path)["command"] == "quickstart" {
        true => {
            " `soda quickstart` trained it from random weights; the scores and the picture it \
             shows first are those of the shipped weights, not of this run."
        }
        false => "",
    };
    let m = &config.model;
    Ok(format!(
        "A ResNet-18 encoder of base width {} that encodes an image as a z of {} dimensions, and a \
         UNet denoiser of base width {} that generates images from z, trained without labels{on}: \
         {} images seen{}.{quickstart}",
        m.encoder.base,
        m.z_dim,
        m.unet.base,
        grouped(images),
        starts
            .first()
            .and_then(beginning)
            .map_or(String::new(), |from| format!(", starting from {from}"))
    ))
}

/// Describes the starting weights of the run with this first `start`, such as "shipped weights
/// that had seen 559,872 images"; `None` for random weights.
pub fn beginning(start: &Start) -> Option<String> {
    let sha256 = start.from.as_ref()?;
    let named = match began_with(start).as_deref() {
        Some("shipped") => "shipped weights".into(),
        Some(file) => format!("the weights {file}"),
        None => format!("weights with checksum {sha256:.12}.."),
    };
    Some(match images_before(start) {
        Some(images @ 1..) => format!("{named} that had seen {} images", grouped(images)),
        _ => named,
    })
}

/// Returns the number of images that the starting weights of the run with this first `start` had
/// seen. Older versions did not record it, but for the shipped weights it is known.
fn images_before(start: &Start) -> Option<u64> {
    let is_shipped = |weights: &WeightsFile| start.from.as_ref() == Some(&weights.sha256);
    start.from_images.or_else(|| images_behind(&shipped::open().ok().filter(is_shipped)?))
}

/// Returns the key figures at the top of the page.
pub fn facts(
    run: &RunDir,
    config: &Config,
    probes: &[(&'static str, Finished)],
) -> Result<Vec<Fact>> {
    let metrics = run.read_metrics()?;
    let mut facts = Vec::new();
    let mut add = |value: String, name: &str| facts.push(Fact { value, name: name.into() });
    for (protocol, finished) in probes {
        let name = match *protocol {
            "linear" => "linear probe of z, top-1",
            "knn" => "k-NN on z, top-1",
            _ => continue,
        };
        if let Ok(v) = &finished.result {
            add(scored(&v["top1"], &v["top1_spread"]), name);
            if *protocol == "linear"
                && let Some(comparison) = Comparison::pixels(v)
            {
                let pixels = &v["baselines"]["pixels"];
                add(
                    scored(&pixels["top1"], &pixels["top1_spread"]),
                    "linear probe of raw pixels, top-1",
                );
                if comparison.is_measurable() {
                    add(comparison.points(), "points that z adds to raw pixels");
                }
            }
        }
    }
    if let Some(last) = metrics.rows.last() {
        add(grouped(last.step), &format!("steps of {} images", config.train.batch_size));
        if let Some(start) = run.read_starts().last() {
            add(format!("{:.1}", last.images as f64 / start.images as f64), "epochs");
        }
        if let Some(before) =
            run.read_starts().first().and_then(images_before).filter(|before| *before > 0)
        {
            add(grouped(before), "images seen by the weights it started from");
        }
        add(duration(last.seconds), "training time");
        // Without the images seen before --continue, which took none of this run's seconds.
        let newest = run
            .checkpoints()
            .last()
            .and_then(|step| checkpoint::position(&run.checkpoint(*step)).ok());
        let before =
            newest.and_then(|position| position.continued).map_or(0, |continued| continued.images);
        add(
            format!("{:.0}", last.images.saturating_sub(before) as f64 / last.seconds.max(1e-9)),
            "images per second",
        );
        add(format!("{:.4}", last.loss), &config.loss_in_words());
    }
    Ok(facts)
}

/// Builds the section with the training curves; the curve of scores also shows the baselines of
/// `probes`.
pub fn section(
    run: &RunDir,
    config: &Config,
    probes: &[(&'static str, Finished)],
    folder: &Path,
) -> Result<Section> {
    let metrics = run.read_metrics()?;
    let mut section =
        Section { id: "training".into(), title: "Training".into(), ..Default::default() };
    let by_images = |of: fn(&soda::run_dir::Row) -> f64| {
        metrics.rows.iter().map(|r| (r.images as f64, of(r))).collect::<Vec<_>>()
    };
    let mut draw =
        |name: &str, title: &str, y: &str, series: &[Series], style: CurveStyle, caption: &str| {
            let path = folder.join(format!("{name}.png"));
            let drawn = save_curve(&path, title, "images seen", y, series, style)
                .and_then(|()| Figure::read(&path, caption, true));
            match drawn {
                Ok(figure) => section.figures.push(figure),
                Err(reason) => section.missing.push(format!("{title}: {reason}")),
            }
        };
    let style = CurveStyle { size: Size::Phone, ..Default::default() };
    let one = |points| [Series { name: "each row of the log", points }];
    let (losses, speeds) = (by_images(|r| r.loss), by_images(|r| r.images_per_s));
    let of_log =
        |points: &[(f64, f64)]| CurveStyle { size: Size::Phone, ..CurveStyle::of_log(points) };
    let log = CurveStyle { log_y: true, ..of_log(&losses) };
    draw(
        "loss",
        "Loss",
        "mean squared error",
        &one(losses.clone()),
        log,
        &format!("The {}; {}", config.loss_in_words(), rows_shown(log, losses.len())),
    );
    draw(
        "lr",
        "Learning rate",
        "learning rate",
        &one(by_images(|r| r.lr)),
        style,
        &match config.train.encoder_lr_ratio {
            1.0 => "Learning rate of both networks.".to_owned(),
            ratio => {
                format!("Learning rate of the denoiser; the encoder's is {ratio} times as high.")
            }
        },
    );
    let scores = &metrics.evaluations;
    if let (Some(first), Some(last)) = (scores.first(), scores.last()) {
        let series = |name, of: fn(&soda::run_dir::Evaluation) -> f64| Series {
            name,
            points: scores.iter().map(|e| (e.images as f64, of(e))).collect(),
        };
        let mut lines = vec![series("linear probe", |e| e.linear), series("k-NN", |e| e.knn)];
        let linear =
            probes.iter().find(|(p, _)| *p == "linear").and_then(|(_, d)| d.result.as_ref().ok());
        let baseline =
            |key: &str| linear.and_then(|v: &Value| v["baselines"][key]["top1"].as_f64());
        for (name, key) in [("raw pixels", "pixels"), ("untrained encoder", "random_encoder")] {
            if let Some(value) = baseline(key) {
                // A horizontal line across the whole chart.
                let ends = [0.0, last.images as f64];
                lines.push(Series { name, points: ends.map(|x| (x, value)).to_vec() });
            }
        }
        let caption = format!(
            "Top-1 of z on {} held-out training images; probe and k-NN are fitted on {} others. \
             Raw pixels and the untrained encoder are scored under `linear` on the test set.",
            grouped(last.n_validation as u64),
            grouped(first.n_train as u64)
        );
        draw("scores", "Scores of z", "per cent", &lines, style, &caption);
    }
    let log = of_log(&speeds);
    draw(
        "speed",
        "Throughput",
        "images per second",
        &one(speeds.clone()),
        log,
        &format!(
            "Training only, without pictures, scores and checkpoints; {}",
            rows_shown(log, speeds.len())
        ),
    );
    Ok(section)
}

/// Describes the lines of a chart of `rows` rows of the log.
fn rows_shown(style: CurveStyle, rows: usize) -> &'static str {
    match style.smooths(rows) {
        true => "pale: each row of the log, bold: their running mean.",
        false => "each row of the log.",
    }
}

/// Formats a duration as "2 h 05 min", "6 min" or "40 s".
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
    fn the_lead_names_the_starting_weights_and_the_images_they_had_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::new(folder.path());
        let shipped = shipped::open().expect("the shipped weights");
        let says = |from: Option<&str>, name: Option<&str>, images: Option<u64>| {
            let start = serde_json::json!({
                "time": "", "step": 0, "from": from, "from_name": name, "from_images": images, "command": [], "version": "", "commit": null,
                "device": "cpu", "adapter": "a", "machine": {}, "data": "CIFAR-10", "data_sha256": "ab", "images": 9,
            });
            std::fs::write(run.starts(), format!("{start}\n")).expect("writable");
            lead(&run, &shipped.config).expect("a sentence")
        };
        assert!(says(None, None, None).ends_with(": 0 images seen."));
        let file = says(Some("ab"), Some("/w.safetensors"), Some(1_920));
        assert!(
            file.ends_with(
                ": 0 images seen, starting from the weights /w.safetensors that had seen 1,920 \
                 images."
            ),
            "{file}"
        );
        // As recorded by an older version.
        let behind = grouped(shipped.trained().expect("its training").images);
        let old = says(Some(&shipped.sha256), None, None);
        assert!(
            old.ends_with(&format!(
                "images seen, starting from shipped weights that had seen {behind} images."
            )),
            "{old}"
        );
        assert!(
            says(Some("ab"), None, None).ends_with("starting from weights with checksum ab...")
        );
    }

    #[test]
    fn captions_describe_the_lines() {
        let points: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), 1.0)).collect();
        let caption = |n: usize| rows_shown(CurveStyle::of_log(&points[..n]), n);
        assert!(
            caption(100).contains("running mean")
                && !caption(3).contains("running mean")
                && !caption(3).contains("bold")
        );
    }

    #[test]
    fn the_lead_explains_the_scores_of_a_quickstart() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::new(folder.path());
        let config = Config::load(Path::new("configs/tiny.toml"), &[]).expect("a recipe");
        assert!(!lead(&run, &config).expect("a sentence").contains("quickstart"));
        std::fs::write(folder.path().join("summary.json"), r#"{"command": "quickstart"}"#)
            .expect("writable");
        assert!(
            lead(&run, &config)
                .expect("two sentences")
                .contains("those of the shipped weights, not of this run")
        );
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(
            [0.4, 99.0, 100.0, 3599.0, 7500.0].map(duration),
            ["0 s", "99 s", "2 min", "60 min", "2 h 05 min"]
        );
    }
}
