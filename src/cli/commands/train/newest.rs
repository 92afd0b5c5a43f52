//! `soda train --resume` without `--run`: resumes the newest unfinished run.

use indicatif::HumanCount;
use soda::error::{Error, Result};
use soda::progress::say;
use soda::run_dir::RunDir;
use soda::train::survey::{State, Survey, below};
use std::path::Path;

/// Finds the newest unfinished run below runs/ that no process is training. If there is none,
/// reports that and returns `None`.
///
/// # Errors
/// If there is no run at all.
pub fn unfinished() -> Result<Option<RunDir>> {
    let runs = below(Path::new("runs")).unwrap_or_default();
    let Some(newest) = runs.first() else {
        return Err(Error::usage(
            "--resume: there is no run below runs/; start one (`soda train`), or name one \
             elsewhere with --run DIR",
        ));
    };
    // A run without a recipe can't be resumed; `soda runs` reports it.
    let resumable = |survey: &&Survey| {
        !matches!(survey.state, State::Finished | State::Training) && survey.run.exists()
    };
    if let Some(found) = runs.iter().find(resumable) {
        say(&format!(
            "resuming {}, the newest unfinished run below runs/",
            found.run.path.display()
        ));
        return Ok(Some(found.run.clone()));
    }
    if let Some(survey) = runs.iter().find(|survey| survey.state == State::Training) {
        let path = survey.run.path.display();
        outln!("another process is training {path}, and no other run is unfinished");
        return Ok(None);
    }
    let (path, step) = (newest.run.path.display(), HumanCount(newest.step));
    outln!(
        "all runs below runs/ are finished ({path}, the newest, at step {step}); nothing to resume"
    );
    Ok(None)
}
