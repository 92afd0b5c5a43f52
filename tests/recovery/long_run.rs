//! scripts/long_run.sh: it starts, pauses, resumes, ends with a checkpoint, and starts elsewhere
//! from its snapshot.

#![cfg(unix)]

use crate::common::program::{TINY, program, recipe, soda, succeeds, text};
use crate::common::run::{newest, signal, wait_for};
use soda::model::weights::WeightsFile;
use soda::run_dir::RunDir;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/long_run.sh");

/// Returns the script's command with `args`, in `folder`, which is also its home.
fn script(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("bash");
    // The same environment as for the program itself.
    for (name, value) in program(folder).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .env("SODA", env!("CARGO_BIN_EXE_soda"))
        .env("SNAPSHOT", folder.join("saved/snapshot.safetensors"));
    command.arg(SCRIPT).args(args).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A running script, which is ended on drop if a check fails.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            signal(&self.0, "TERM");
            let _ = self.0.wait();
        }
    }
}

/// Starts the script, which trains in `dir` until it is ended.
fn training(folder: &Path, dir: &str) -> Script {
    let args =
        ["--config", "long.toml", "--dir", dir, "--data", "bundled", "--", "--device", "cpu"];
    Script(script(folder, &args).spawn().expect("bash"))
}

fn ended(mut child: Script) {
    signal(&child.0, "TERM");
    let status = child.0.wait().expect("ends");
    assert!(status.success(), "{status}");
}

#[test]
fn a_long_run_pauses_resumes_ends_with_a_checkpoint_and_moves_with_its_snapshot() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let recipe = recipe();
    let mut args =
        vec!["train", "--dry-run", "--device", "cpu", "--data", "bundled", "--config", &recipe];
    let sets = [
        "train.lr_schedule=constant",
        "train.steps=1000000",
        "train.sample_every=0",
        "train.checkpoint_every=20",
    ];
    TINY.iter().chain(&sets).for_each(|set| args.extend(["--set", set]));
    std::fs::write(at.join("long.toml"), succeeds(&soda(at, &args))).expect("writable");

    let run = RunDir::new(at.join("state/run"));
    let child = training(at, "state");
    wait_for("a checkpoint", || newest(&run) > 0);
    std::fs::write(at.join("state/PAUSE"), "").expect("writable");
    wait_for("a pause", || run.trained_by().is_none());
    let paused = newest(&run);
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(newest(&run), paused, "it isn't paused");
    std::fs::remove_file(at.join("state/PAUSE")).expect("there");
    wait_for("more steps", || newest(&run) > paused);
    ended(child);
    assert!(run.trained_by().is_none() && run.read_starts().len() == 2);
    let last = newest(&run);
    let steps: Vec<u64> =
        run.read_metrics().expect("metrics").rows.iter().map(|row| row.step).collect();
    assert!(steps.is_sorted() && steps.last() == Some(&last), "{last} {steps:?}");

    let output = script(at, &["--dir", "state", "--snapshot", "--data", "bundled"])
        .stderr(Stdio::piped())
        .output()
        .expect("bash");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let saved = WeightsFile::open(&at.join("saved/snapshot.safetensors")).expect("weights");
    assert_eq!(saved.trained().expect("known").step, last);
    // Another machine has only the snapshot.
    let other = RunDir::new(at.join("other/run"));
    let child = training(at, "other");
    wait_for("more steps", || newest(&other) > last);
    ended(child);
    assert_eq!(other.read_starts()[0].step, last);
    // A folder in the work tree is refused.
    let tree =
        script(at, &["--dir", concat!(env!("CARGO_MANIFEST_DIR"), "/src")]).output().expect("bash");
    assert_eq!(tree.status.code(), Some(2));
    let inside = concat!(env!("CARGO_MANIFEST_DIR"), "/no such folder");
    assert_eq!(script(at, &["--dir", inside]).output().expect("bash").status.code(), Some(2));
    assert!(!Path::new(inside).exists(), "refused, but the folder was created");
}
