//! `soda train --resume` without `--run`: resumes the newest unfinished run.

use indicatif::HumanCount;
use soda::error::{Error, Result};
use soda::progress::say;
use soda::run_dir::RunDir;
use soda::train::survey::{State, below};
use std::path::Path;

/// Finds the newest unfinished run below runs/. If all are finished, reports that and returns
/// `None`.
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
    if let Some(found) =
        runs.iter().find(|survey| survey.state != State::Finished && survey.run.exists())
    {
        say(&format!(
            "resuming {}, the newest unfinished run below runs/",
            found.run.path.display()
        ));
        return Ok(Some(found.run.clone()));
    }
    let (path, step) = (newest.run.path.display(), HumanCount(newest.step));
    outln!(
        "all runs below runs/ are finished ({path}, the newest, at step {step}); nothing to resume"
    );
    Ok(None)
}
