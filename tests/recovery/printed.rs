//! Commands that the program prints do what they promise when pasted into a shell, whatever the
//! names of the folder and the run.

#![cfg(unix)]

use crate::common::program::{fails, shell, succeeds, text, train};
use crate::common::run::{command, newest, signal, wait_for};
use soda::run_dir::RunDir;
use std::process::Stdio;
use tempfile::TempDir;

/// A name that needs quoting in a shell.
const RUN: &str = "it's a run & $more";

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("it's a folder ").tempdir().expect("a folder")
}

#[test]
fn the_command_that_an_interrupted_run_prints_resumes_it() {
    let folder = folder();
    let at = folder.path();
    let run = RunDir::new(at.join(RUN));
    let step = || {
        run.read_metrics()
            .ok()
            .and_then(|metrics| metrics.rows.last().map(|row| row.step))
            .unwrap_or(0)
    };
    let mut first = command(at, RUN, &["train.checkpoint_every=1000000"]);
    let child = first.stdout(Stdio::piped()).spawn().expect("starts");
    wait_for("a step", || step() > 0);
    signal(&child, "INT");
    let out = succeeds(&child.wait_with_output().expect("it ends"));
    let (_, printed) = out.trim_end().split_once("resume with: ").expect("a command");
    let before = newest(&run);

    let mut again = shell(at, &format!("exec {printed}"));
    let child = again.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    wait_for("more steps", || step() > before);
    signal(&child, "INT");
    succeeds(&child.wait_with_output().expect("it ends"));
    assert!(newest(&run) > before);

    // Negative control: the unquoted path names nothing.
    let plain = printed.split(" --run ").next().expect("its beginning").to_owned()
        + &format!(" --run {RUN} --device cpu");
    assert!(!shell(at, &plain).output().expect("a shell").status.success());
}

#[test]
fn commands_named_at_the_end_of_a_run_and_in_its_errors_find_it() {
    let folder = folder();
    let at = folder.path();
    let out = succeeds(&train(at, &["--run", RUN]));
    let (_, printed) = out.trim_end().split_once("next: ").expect("a command");
    assert!(
        succeeds(&shell(at, printed).output().expect("a shell")).contains("top-1"),
        "{printed}"
    );

    let broken = [
        "--run",
        "it's broken",
        "--set",
        "train.lr=1e30",
        "--set",
        "train.steps=50",
        "--set",
        "train.clip_norm=0",
    ];
    let output = train(at, &broken);
    fails(&output, 1, &["soda replay"]);
    let said = text(&output.stderr);
    let printed = said.split('`').nth(1).expect("a command");
    assert!(
        succeeds(&shell(at, printed).output().expect("a shell")).contains("step "),
        "{printed}"
    );
}
