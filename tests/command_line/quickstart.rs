//! `soda quickstart`: its scores are comparable and agree with other commands, and nothing that
//! exists is done again.

use crate::common::program::{TINY, fails, json, program, soda, succeeds, text};
use serde_json::Value;
use soda::data::{self, Images};
use soda::model::shipped;
use std::path::Path;

/// Writes the first `n` images of each class as PNG files below `folder`, one folder per class.
fn write(images: &Images, classes: &[String], n: usize, folder: &Path) {
    let mut written = vec![0; classes.len()];
    for i in 0..images.len() {
        let class = usize::from(images.label(i));
        if written[class] == n {
            continue;
        }
        written[class] += 1;
        let place = folder.join(&classes[class]);
        std::fs::create_dir_all(&place).expect("a folder");
        let (image, side) = (images.image(i).expect("in memory"), images.side());
        let pixel = |x: u32, y: u32| {
            image::Rgb([0, 1, 2].map(|c| image[(c * side + y as usize) * side + x as usize]))
        };
        let picture = image::RgbImage::from_fn(side as u32, side as u32, pixel);
        picture.save(place.join(format!("{i:05}.png"))).expect("a PNG");
    }
}

/// Returns a home with 200 training and 100 test images of the bundled subset in `pictures`.
fn home() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let bundled = data::bundled().expect("whole");
    write(&bundled.train, &bundled.classes, 20, &folder.path().join("pictures/train"));
    write(&bundled.test, &bundled.classes, 10, &folder.path().join("pictures/test"));
    folder
}

#[track_caller]
fn number(value: &Value, path: &str) -> f64 {
    let number = value
        .pointer(path)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("{path} isn't a number"));
    assert!(number.is_finite(), "{path}: {number}");
    number
}

#[test]
fn everything_is_scored_alike_and_a_second_call_repeats_nothing() {
    let folder = home();
    let at = folder.path();
    let base =
        ["quickstart", "--device", "cpu", "--data", "pictures", "--out", "q", "--json", "j.json"];
    let first = [
        &base[..],
        &["--set", "train.steps=20", "--set", "sample.steps=2", "--set", "probe.epochs=2"],
    ]
    .concat();
    let out = succeeds(&soda(at, &first));
    assert_eq!(out.lines().count(), 5, "{out}");
    assert!(
        out.starts_with("The shipped weights")
            && out.contains("raw pixels")
            && out.contains("untrained encoder"),
        "{out}"
    );
    // One score of z, that of the shipped weights; the new training has only a loss.
    assert_eq!(out.matches("unseen images").count(), 1, "{out}");
    assert!(out.contains("from random weights: loss") && out.contains("in 20 steps"), "{out}");

    let file = at.join("q/summary.json");
    let summary = json(&file);
    let blocks = ["/probe", "/baselines/pixels", "/baselines/random_encoder"]
        .map(|path| summary.pointer(path).expect("a block"));
    for key in ["epochs", "seeds", "protocol", "split", "train_views", "n_train", "n_test"] {
        assert!(
            !blocks[0][key].is_null() && blocks.iter().all(|block| block[key] == blocks[0][key]),
            "{key}: {summary:#}"
        );
    }
    // 1,000 steps on 400 views in batches of 128, the last of which isn't full; the recipe's probe
    // section has no effect.
    assert_eq!((&blocks[0]["epochs"], &blocks[0]["seeds"]), (&250.into(), &3.into()));
    let [z, pixels, _] = blocks.map(|block| number(block, "/top1"));
    assert!(z > pixels, "z {z} %, raw pixels {pixels} %");
    assert_eq!(summary["baselines"]["pixels_top1"], blocks[1]["top1"]);
    assert_eq!(summary["baselines"]["random_encoder_top1"], blocks[2]["top1"]);
    assert_eq!(summary["weights"]["path"], shipped::PATH);
    assert_ne!(summary["train"]["weights"]["sha256"], summary["weights"]["sha256"]);
    assert!(number(&summary, "/train/loss_last") < number(&summary, "/train/loss_first"));
    let [early, all] =
        ["/processor_seconds_first", "/processor_seconds"].map(|path| number(&summary, path));
    assert!(0.0 < early && early < all, "{early} and {all} processor seconds");
    for path in ["/seconds", "/train/images_per_s", "/probe/top3", "/reconstruction/psnr"] {
        number(&summary, path);
    }
    for picture in ["loss.png", "reconstruction.png"] {
        assert!(image::image_dimensions(at.join("q").join(picture)).is_ok(), "{picture}");
    }

    // Other commands, `soda report` among them, give the same results.
    let probe = |name: &str, more: &[&str]| {
        succeeds(&soda(
            at,
            &[&["probe", "--device", "cpu", "--data", "pictures", "--json", name], more].concat(),
        ));
        json(&at.join(name))
    };
    let of_run = probe("run.json", &["--run", "q"]);
    assert_eq!(of_run["weights"]["sha256"], summary["train"]["weights"]["sha256"]);
    let of_shipped = probe("shipped.json", &["--baselines"]);
    assert_eq!(of_shipped["top1"], blocks[0]["top1"]);
    assert_eq!(of_shipped["baselines"]["pixels"]["top1"], blocks[1]["top1"]);
    assert_eq!(of_shipped["baselines"]["random_encoder"]["top1"], blocks[2]["top1"]);

    let bytes = std::fs::read(&file).expect("readable");
    let output = soda(at, &base);
    assert_eq!(succeeds(&output), out);
    let said = text(&output.stderr);
    assert!(
        said.contains("already there")
            && said.contains("delete q or choose --out")
            && !said.contains("scoring"),
        "{said}"
    );
    assert_eq!(std::fs::read(&file).expect("readable"), bytes, "it was written again");
    assert!((number(&json(&at.join("j.json")), "/probe/top1") - z).abs() < 1e-9);

    fails(
        &soda(at, &[&base[..], &["--from-scratch"]].concat()),
        2,
        &["trains 200 steps", "leave --from-scratch out"],
    );
    fails(&soda(at, &[&base[..], &["--set", "seed=2"]].concat()), 2, &["--set", "another --out"]);
    fails(
        &soda(at, &["quickstart", "--device", "cpu", "--out", "q"]),
        2,
        &["q holds a quickstart on", "--data"],
    );
}

#[test]
fn from_scratch_it_also_scores_what_it_trained_and_resumes_when_interrupted() {
    let folder = home();
    let at = folder.path();
    let call = |out: &str, more: &[&str]| {
        let mut command = program(at);
        command
            .args([
                "quickstart",
                "--from-scratch",
                "--device",
                "cpu",
                "--data",
                "pictures",
                "--out",
                out,
            ])
            .args(more);
        command
    };
    let mut sets: Vec<&str> = TINY.iter().flat_map(|set| ["--set", *set]).collect();
    sets.extend(["--set", "train.steps=1000000", "--set", "train.log_every=1"]);
    let run =
        |out: &str, more: &[&str]| succeeds(&call(out, more).output().expect("the program starts"));

    let out = run("q", &[&sets[..], &["--max-minutes", "0.01"]].concat());
    assert!(
        out.contains("It ended after 0.01 minutes (--max-minutes), at step ")
            && out.contains("of 1000000"),
        "{out}"
    );
    let summary = json(&at.join("q/summary.json"));
    let own = &summary["from_scratch"]["probe"];
    assert_eq!(
        (&own["epochs"], &own["seeds"]),
        (&summary["probe"]["epochs"], &summary["probe"]["seeds"])
    );
    number(&summary, "/from_scratch/reconstruction/psnr");
    assert!(image::image_dimensions(at.join("q/from_scratch.png")).is_ok());
    let worse = number(own, "/top1") < number(&summary, "/baselines/pixels_top1");
    assert_eq!(out.contains("below raw pixels"), worse, "{out}");
    assert_eq!(run("q", &[]), out);
    fails(&soda(at, &["quickstart", "--out", "q"]), 2, &["from scratch", "add --from-scratch"]);

    // The scores of the shipped weights exist: only training is left.
    #[cfg(unix)]
    {
        use crate::common::run::{newest, signal, wait_for};
        use soda::run_dir::RunDir;
        use std::process::Stdio;
        std::fs::create_dir(at.join("i")).expect("writable");
        for file in ["summary.json", "reconstruction.png"] {
            std::fs::copy(at.join("q").join(file), at.join("i").join(file)).expect("a copy");
        }
        let child = call("i", &sets)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        wait_for("a step", || {
            std::fs::metadata(at.join("i/metrics.jsonl")).is_ok_and(|m| m.len() > 0)
        });
        signal(&child, "INT");
        let output = child.wait_with_output().expect("it ends");
        assert!(succeeds(&output).contains("stopped at step"), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("scoring"), "{}", text(&output.stderr));
        let stopped = newest(&RunDir::new(at.join("i")));
        assert!(stopped > 0);
        run("i", &["--max-minutes", "0.01"]);
        let summary = json(&at.join("i/summary.json"));
        assert_eq!(
            number(&summary, "/train/steps"),
            stopped as f64 + number(&summary, "/train/trained")
        );
        assert!(number(&summary, "/train/trained") > 0.0);
    }
}
