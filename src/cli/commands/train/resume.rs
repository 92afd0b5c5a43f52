//! The commands that follow on a run: the one that resumes it, and the one that scores it.

use super::args::Args;
use crate::cli::args::Common;
use crate::cli::launcher;
use soda::run_dir::RunDir;
use soda::shell::quoted;

/// Names the directory of a finished run and the command that scores it.
pub(super) fn finished(run: &RunDir) -> String {
    format!("run directory {}; next: soda probe --run {}", run.path.display(), quoted(&run.path))
}

/// Returns the command that resumes `run` on the same device; the run records its data and its
/// starting weights.
pub(super) fn resume_command(run: &RunDir, args: &Args, common: &Common) -> String {
    let mut command =
        format!("{}soda train --resume --run {}", launcher::prefix(), quoted(&run.path));
    if common.device != "auto" {
        command += &format!(" --device {}", quoted(&common.device));
    }
    if let Some(minutes) = args.max_minutes {
        command += &format!(" --max-minutes {minutes}");
    }
    command + &args.several.given()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{OnImages, With};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: With<Args, OnImages>,
    }

    #[test]
    fn the_command_that_resumes_a_run_keeps_each_flag_and_path_as_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::new(folder.path().join("it's a run"));
        let resume = |more: &[&str]| {
            let With { own, shared } = Line::parse_from(["train"].iter().chain(more)).flags;
            shlex::split(&resume_command(&run, &own, &shared.into())).expect("whole quotes")
        };
        let path = run.path.to_string_lossy();
        let plain = ["soda", "train", "--resume", "--run", &*path];
        assert_eq!(resume(&[]), plain);
        let more = ["--device", "vulkan:Radeon RX", "--max-minutes", "1.5"];
        assert_eq!(resume(&more), [&plain[..], &more].concat());
        // The run records its data and starting weights.
        let own = ["--from", "old weights/'a'.safetensors", "--data", "my \"data\""];
        assert_eq!(resume(&[&own[..], &more].concat()), [&plain[..], &more].concat());
    }

    #[test]
    fn a_finished_run_names_the_command_that_scores_it() {
        let line = finished(&RunDir::new("it's a run"));
        let (_, command) = line.split_once("next: ").expect("a command");
        assert_eq!(
            shlex::split(command).expect("whole quotes"),
            ["soda", "probe", "--run", "it's a run"]
        );
    }
}
