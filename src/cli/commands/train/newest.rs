//! `soda train --resume` without `--run`.

use indicatif::HumanCount;
use soda::error::{Error, Result};
use soda::progress::say;
use soda::run_dir::RunDir;
use soda::train::survey::{State, below};
use std::path::Path;

/// The newest run below runs/ that isn't finished. Where all are, that is said; the result is then
/// `None`.
///
/// # Errors
/// If there is no run at all.
pub fn unfinished() -> Result<Option<RunDir>> {
    let runs = below(Path::new("runs")).unwrap_or_default();
    let Some(newest) = runs.first() else {
        return Err(Error::usage(
            "--resume: there is no run below runs/; start one (`soda train`), or name one elsewhere with --run DIR",
        ));
    };
    // Without a recipe it can't be gone on with; `soda runs` tells.
    if let Some(found) =
        runs.iter().find(|survey| survey.state != State::Finished && survey.run.exists())
    {
        say(&format!(
            "going on with {}, the newest run below runs/ that isn't finished",
            found.run.path.display()
        ));
        return Ok(Some(found.run.clone()));
    }
    let (path, step) = (newest.run.path.display(), HumanCount(newest.step));
    outln!(
        "all runs below runs/ have ended ({path}, the newest, at step {step}); nothing to resume"
    );
    Ok(None)
}
