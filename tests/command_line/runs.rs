//! What runs record, and `soda runs`.

use crate::common::program::{fails, json, program, recipe, soda, succeeds, text, train};
use safetensors::SafeTensors;
use serde_json::Value;
use soda::model::shipped;
use soda::run_dir::RunDir;
use std::path::Path;
use std::process::Output;

/// Writes 60 images of either class to the folder `photos`.
fn photos(at: &Path) {
    for i in 0..120u8 {
        let folder = at.join("photos").join(if i % 2 == 0 { "a" } else { "b" });
        std::fs::create_dir_all(&folder).expect("writable");
        let pixel = |x: u32, y: u32| image::Rgb([(x * 8) as u8, (y * 8) as u8, 2 * i]);
        image::RgbImage::from_fn(32, 32, pixel)
            .save(folder.join(format!("{i:03}.png")))
            .expect("writable");
    }
}

fn remembered(output: &Output) -> bool {
    text(&output.stderr).contains("the run's own data")
}

#[test]
fn every_command_opens_the_data_of_its_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    photos(at);
    let out = succeeds(&train(at, &["--run", "runs/r", "--data", "photos"]));
    assert!(out.trim_end().ends_with("next: soda probe --run runs/r"), "{out}");
    let run = RunDir::new(at.join("runs/r"));
    let start = run.read_starts().remove(0);
    let place = start.data_location.expect("noted");
    assert!(Path::new(&place).is_absolute() && place.ends_with("photos"), "{place}");
    assert_eq!(start.command[1..4], ["train".to_owned(), "--config".into(), recipe()]);

    // The run takes precedence over the environment.
    let data = |args: &[&str]| -> (Value, bool) {
        let mut command = program(at);
        command
            .args(args)
            .args(["--device", "cpu", "--json", "out.json"])
            .env("SODA_DATA", at.join("nowhere"));
        let output = command.output().expect("starts");
        succeeds(&output);
        (json(&at.join("out.json"))["data"]["sha256"].clone(), remembered(&output))
    };
    let own = (Value::from(start.data_sha256.clone()), true);
    for args in [
        &["probe", "--protocol", "knn"][..],
        &["probe", "--grid", "--times", "100", "--limit", "20"],
        &["reconstruct", "-n", "2"],
        &["sample", "-n", "4", "--components", "2"],
        &["interpolate", "test:0", "test:1", "-n", "3"],
        &["neighbours", "test:0", "-k", "2"],
        &["map", "--method", "pca"],
        &["health", "--k", "2"],
        &["diagnose", "-n", "4", "--bins", "2"],
        &["embed", "--split", "test"],
        &["export", "--half", "--out", "half.safetensors"],
        &["replay", "--step", "1"],
    ] {
        assert_eq!(data(&[args, &["--run", "runs/r"]].concat()), own, "{args:?}");
    }
    for weights in ["latest", "runs/r/checkpoints/step_2/ema.safetensors"] {
        assert_eq!(data(&["reconstruct", "-n", "1", "--weights", weights]), own, "{weights}");
    }
    let (other, said) = data(&["reconstruct", "-n", "1", "--run", "runs/r", "--data", "bundled"]);
    assert!(other != own.0 && !said, "--data doesn't take precedence over the run");
    // Weights elsewhere don't lead to the run.
    let output =
        soda(at, &["reconstruct", "-n", "1", "--weights", "half.safetensors", "--device", "cpu"]);
    succeeds(&output);
    assert!(!remembered(&output) && text(&output.stderr).contains("CIFAR-10 subset"));

    // A folder that has changed or is gone.
    let probe = ["probe", "--protocol", "knn", "--run", "runs/r", "--device", "cpu"];
    std::fs::copy(at.join("photos/a/000.png"), at.join("photos/b/999.png")).expect("writable");
    fails(&soda(at, &probe), 2, &["runs/r", &place, "has changed", "--data DIR"]);
    succeeds(&soda(at, &[&probe[..], &["--data", "photos"]].concat()));
    std::fs::remove_file(at.join("photos/b/999.png")).expect("there");
    std::fs::rename(at.join("photos"), at.join("moved")).expect("there");
    fails(&soda(at, &probe), 2, &["runs/r", &place, "isn't there now", "--data DIR"]);
    let more = [
        "train",
        "--resume",
        "--run",
        "runs/r",
        "--device",
        "cpu",
        "--allow-change",
        "--set",
        "train.steps=3",
    ];
    fails(&soda(at, &more), 2, &["runs/r", &place, "--data DIR"]);
    // The run records where it is now.
    succeeds(&soda(at, &[&more[..], &["--data", "moved"]].concat()));
    assert!(remembered(&soda(at, &probe)));
}

/// Creates a run of two steps below runs/ and removes its last checkpoint.
fn stopped(at: &Path, name: &str, more: &[&str]) -> RunDir {
    let path = format!("runs/{name}");
    let often =
        ["--run", &path, "--set", "train.checkpoint_every=1", "--set", "train.keep_checkpoints=0"];
    succeeds(&train(at, &[&often[..], more].concat()));
    let run = RunDir::new(at.join(path));
    std::fs::remove_dir_all(run.checkpoint(2)).expect("there");
    run
}

#[test]
fn resume_without_a_run_resumes_the_newest_unfinished_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let resume = || soda(at, &["train", "--resume", "--device", "cpu"]);
    fails(&resume(), 2, &["no run below runs/", "soda train", "--run DIR"]);
    let old = stopped(at, "old", &[]);
    let from = ["--from", "runs/old/checkpoints/step_1/ema.safetensors"];
    let new = stopped(at, "new", &from);
    succeeds(&train(at, &["--run", "runs/finished"]));
    // As after a kill before the first checkpoint: the run knows what it started from.
    std::fs::remove_dir_all(new.checkpoint(1)).expect("there");
    let start = new.read_starts().remove(0);
    assert!(
        Path::new(start.from_name.as_deref().expect("noted")).is_absolute()
            && start.from_images == Some(8),
        "{start:?}"
    );

    let output = resume();
    assert!(succeeds(&output).contains("next: soda probe --run runs/new"));
    let said = text(&output.stderr);
    assert!(said.contains("resuming runs/new") && remembered(&output), "{said}");
    assert_eq!((new.checkpoints(), old.checkpoints()), (vec![1, 2], vec![1]));
    assert_eq!(new.read_starts()[1].from, start.from);
    assert!(succeeds(&resume()).contains("next: soda probe --run runs/old"));
    let out = succeeds(&resume());
    assert!(out.contains("all runs below runs/ are finished") && out.contains("runs/old"), "{out}");

    // Exported weights state how they were made.
    succeeds(&soda(at, &["export", "--run", "runs/new", "--out", "w.safetensors"]));
    let bytes = std::fs::read(at.join("w.safetensors")).expect("written");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("safetensors");
    let metadata = header.metadata().clone().expect("metadata");
    let command = shlex::split(&metadata["command"]).expect("a command line");
    assert!(
        command[..2] == ["soda", "train"] && command.windows(2).any(|words| words == from),
        "{command:?}"
    );
    assert_eq!((metadata["images"].as_str(), metadata["images_before"].as_str()), ("16", "8"));
}

#[test]
fn runs_are_listed_with_their_problems() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    assert!(succeeds(&soda(at, &["runs"])).contains("no runs in runs"));
    fails(&soda(at, &["runs", "nowhere"]), 2, &["nowhere"]);
    let name = format!("{}-7", "long".repeat(20));
    let busy = stopped(at, &name, &[]);
    let scored = ["--set", "train.evaluate_every=2", "--set", "train.evaluate_images=100"];
    succeeds(&train(at, &[&["--run", "runs/scored"][..], &scored].concat()));
    let damaged = stopped(at, "damaged", &[]);
    std::fs::write(damaged.config(), "nonsense").expect("writable");
    let before = std::fs::read(busy.path.join("lock")).expect("there");

    let lock = busy.lock().expect("free");
    let out = succeeds(&soda(at, &["runs", "--json", "runs.json"]));
    drop(lock);
    let (wrong, table): (Vec<&str>, Vec<&str>) =
        out.lines().partition(|line| line.starts_with("damaged: "));
    assert!(wrong.len() == 1 && wrong[0].contains("config.toml"), "{out}");
    assert!(table.len() == 4 && table.iter().all(|line| line.chars().count() <= 100), "{out}");
    for (line, parts) in table[1..].iter().zip([
        &["damaged ", "stopped", "bundled"][..],
        &["scored ", "finished", "bundled", "MB"],
        &["..", "-7 ", "training now"],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?} in {line}");
    }
    let listed = json(&at.join("runs.json"))["runs"].clone();
    let states: Vec<_> = listed
        .as_array()
        .expect("rows")
        .iter()
        .map(|run| run["state"].as_str().expect("a state"))
        .collect();
    assert_eq!(states, ["stopped", "finished", "training"]);
    let run = &listed[1];
    assert_eq!(
        (&run["step"], &run["planned_steps"], &run["images"]),
        (&2.into(), &2.into(), &16.into())
    );
    assert!(run["best"]["knn"].as_f64().is_some_and(|knn| (0.0..=100.0).contains(&knn)), "{run}");
    assert!(
        run["bytes"].as_u64().is_some_and(|bytes| bytes > 100_000)
            && run["data"]["location"] == "bundled",
        "{run}"
    );
    assert!(run["loss"].as_f64().is_some_and(f64::is_finite), "{run}");

    // A single run, which no process trains any more; listing it changes nothing.
    let out = succeeds(&soda(at, &["runs", busy.path.to_str().expect("a path")]));
    assert!(out.lines().count() == 2 && out.contains("stopped"), "{out}");
    assert_ne!(
        std::fs::read(busy.path.join("lock")).expect("there"),
        before,
        "the test didn't hold the lock"
    );
}

#[test]
fn a_run_from_the_shipped_weights_is_listed_as_such() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let sets = ["train.steps=1", "train.batch_size=2", "train.evaluate_every=0", "sample.steps=2"];
    let mut args = vec!["train", "--from", "shipped", "--run", "runs/s", "--device", "cpu"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    succeeds(&soda(at, &args));
    let start = RunDir::new(at.join("runs/s")).read_starts().remove(0);
    let behind =
        shipped::open().expect("the shipped weights").trained().expect("their training").images;
    assert_eq!((start.from_name.as_deref(), start.from_images), (Some("shipped"), Some(behind)));
    assert!(succeeds(&soda(at, &["runs"])).contains("shipped"));
}

/// Checks whether a line of the command line's source file `name` opens data without asking for the
/// run's.
fn opens_by_itself(name: &str, text: &str) -> bool {
    // These open data that belongs to no run: imported data, raw pixels, and quickstart's data.
    let allowed = [
        "src/cli/args/images.rs",
        "src/cli/commands/data.rs",
        "src/cli/commands/probe.rs",
        "src/cli/commands/quickstart.rs",
    ];
    !allowed.contains(&name)
        && ["data::open(", "data::reopen(", "data::bundled(", "images::named("]
            .iter()
            .any(|call| text.contains(call))
}

#[test]
fn no_command_forgets_the_data_of_its_run() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(env!("CARGO_MANIFEST_DIR"))
                .expect("below")
                .to_string_lossy()
                .replace('\\', "/");
            let text = std::fs::read_to_string(&path).expect("readable");
            assert!(
                !opens_by_itself(&name, &text),
                "{name} opens data directly; images::open asks the run first"
            );
            seen += 1;
        }
    }
    assert!(
        seen > 30 && opens_by_itself("src/cli/commands/map.rs", "let d = data::open(None, 32)?;")
    );
}
