//! What commands say while they work: a line now and then on a pipe, nothing with --quiet.

use crate::common::program::{program, succeeds, text, train};
use std::path::Path;
use std::process::Output;

/// With a line for each part.
fn run(at: &Path, command: &str) -> Output {
    let mut program = program(at);
    program.args(command.split(' ')).args(["--run", "r", "--device", "cpu"]).env("SODA_PROGRESS", "0");
    program.output().expect("the program starts")
}

/// What is on stderr, but for what drivers say there.
fn said(output: &Output) -> String {
    text(&output.stderr).lines().filter(|line| !line.contains("XDG_RUNTIME_DIR")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_command_that_lasts_says_what_it_counts_and_none_with_quiet() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&train(at, &["--run", "r"]));
    // What is said of which command; the features of the first are kept for the others.
    let commands: [(&str, &[&str]); 12] = [
        ("health --k 3", &["encoding test images", "encoding training images, mirrored", "encoding views", "linear probe"]),
        ("probe --seeds 2", &["linear probe, seed 1 of 2", "linear probe, seed 2 of 2"]),
        ("probe --protocol linear-full", &["logistic regression, passes over the images"]),
        ("probe --protocol knn-lightly", &["finding nearest neighbours"]),
        (
            "probe --fraction 0.5 --seeds 1 --baselines",
            &["calibrating the untrained encoder, batches", "linear probe with 50 % of the labels, seed 1 of 1"],
        ),
        ("reconstruct -n 1 --steps 40", &["drawing 1 image in 40 steps"]),
        ("invert test:0 test:1 --steps 40", &["inverting 2 images in 40 steps", "drawing 2 images in 40 steps"]),
        ("sample -n 4 --components 3", &["fitting 3 Gaussians to z, rounds", "looking for the nearest training images"]),
        ("quality -n 60 --components 3 --steps 1", &["encoding images", "drawing 60 images in 1 step"]),
        ("diagnose -n 40 --bins 4", &["measuring losses, images at each noise level"]),
        ("map --limit 200", &["t-SNE, rounds"]),
        ("embed --split test", &["encoding images"]),
    ];
    for (command, labels) in commands {
        let output = run(at, command);
        succeeds(&output);
        let said = said(&output);
        for label in labels {
            let status = said.lines().find_map(|line| line.strip_prefix(&format!("{label}: ")));
            let status = status.unwrap_or_else(|| panic!("soda {command} doesn't say {label:?}: {said}"));
            assert!(status.starts_with(|c: char| c.is_ascii_digit()), "{label}: {status}");
        }
        // Negative control: other commands say that.
        assert!(!said.contains("downloading"), "{said}");
    }
    for command in ["probe --seeds 2", "reconstruct -n 1 --steps 40", "map --limit 200", "diagnose -n 40 --bins 4"] {
        let output = run(at, &format!("{command} --quiet"));
        assert!(!succeeds(&output).is_empty(), "soda {command} has a result");
        assert_eq!(said(&output), "", "soda {command}");
    }
    let wrong = run(at, "reconstruct -n 0 --quiet");
    assert!(text(&wrong.stderr).starts_with("error: ") && wrong.status.code() == Some(2));
}

#[test]
fn a_quiet_training_only_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = train(folder.path(), &["--run", "r", "-q"]);
    assert!(!succeeds(&output).is_empty());
    assert_eq!(said(&output), "");
}
