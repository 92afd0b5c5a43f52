//! Progress of commands: a line now and then on a pipe, nothing with --quiet.

use crate::common::program::{program, succeeds, text, train};
use std::path::Path;
use std::process::Output;

/// Runs `command` with a progress line every millisecond, and one at the end of each label.
fn run(at: &Path, command: &str) -> Output {
    let mut program = program(at);
    program
        .args(command.split(' '))
        .args(["--run", "r", "--device", "cpu"])
        .env("SODA_PROGRESS", "1");
    program.output().expect("the program starts")
}

/// Returns standard error without messages of drivers.
fn said(output: &Output) -> String {
    text(&output.stderr)
        .lines()
        .filter(|line| !line.contains("XDG_RUNTIME_DIR"))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn every_long_command_reports_its_progress_and_none_does_with_quiet() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let trained = train(at, &["--run", "r", "--quiet"]);
    assert!(!succeeds(&trained).is_empty());
    assert_eq!(said(&trained), "", "soda train");
    // The labels of each command; the features of the first are cached for the others.
    let of_probe = [
        "encoding training images",
        "encoding training images, mirrored",
        "encoding test images",
        "linear probe, seed 2 of 2",
    ];
    let commands: [(&str, &[&str]); 6] = [
        ("probe --seeds 2", &of_probe),
        ("probe --protocol knn", &["finding nearest neighbours"]),
        ("reconstruct -n 1 --steps 40", &["generating 1 image in 40 steps"]),
        (
            "sample -n 1 --components 3",
            &["fitting 3 Gaussians to z, rounds", "searching training images"],
        ),
        ("diagnose -n 40 --bins 2", &["measuring losses, images at each noise level"]),
        ("map --limit 60", &["t-SNE, iterations"]),
    ];
    for (command, labels) in commands {
        let output = run(at, command);
        succeeds(&output);
        let said = said(&output);
        for label in labels {
            let status = said.lines().find_map(|line| line.strip_prefix(&format!("{label}: ")));
            let status =
                status.unwrap_or_else(|| panic!("soda {command} doesn't say {label:?}: {said}"));
            assert!(status.starts_with(|c: char| c.is_ascii_digit()), "{label}: {status}");
        }
        // Negative control: a label of another command.
        assert!(!said.contains("downloading"), "{said}");
    }
    for command in ["probe --protocol knn", "map --limit 60"] {
        let output = run(at, &format!("{command} --quiet"));
        assert!(!succeeds(&output).is_empty(), "soda {command} has no result");
        assert_eq!(said(&output), "", "soda {command}");
    }
    let wrong = run(at, "reconstruct -n 0 --quiet");
    assert!(text(&wrong.stderr).starts_with("error: ") && wrong.status.code() == Some(2));
}
