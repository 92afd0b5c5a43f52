//! Ending a run with a constant learning rate: a cooldown that starts from one of its checkpoints,
//! in a directory of its own, so that the run itself can still be resumed (Haegele et al. 2024,
//! arXiv 2405.18392: as good as a schedule that knew the end from the start).

use super::checkpoint::{self, Position};
use crate::config::{Config, LrSchedule};
use crate::error::{Error, Hint, Result};
use crate::files::{self, create_dir, write_atomically};
use crate::progress::warn;
use crate::run_dir::RunDir;
use crate::units::{counted, grouped};
use std::path::Path;
use std::str::FromStr;

/// The length of a cooldown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// A number of steps.
    Steps(u64),
    /// A fraction of the whole run, above 0 and below 1.
    Share(f64),
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match (text.parse(), text.parse()) {
            (Ok(steps @ 1..=0xff_ffff_ffff), _) => Ok(Self::Steps(steps)),
            (_, Ok(share)) if share > 0.0 && share < 1.0 => Ok(Self::Share(share)),
            _ => Err("expected a number of steps, or a fraction of the run between 0 and 1".into()),
        }
    }
}

impl Length {
    /// Returns the length in steps, at least one, after `step` steps of constant rate.
    fn steps(self, step: u64) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Share(share) => ((step as f64 * share / (1.0 - share)).round() as u64).max(1),
        }
    }
}

/// Creates the run directory DIR-cooldown-STEP next to `run`. The new run continues from the newest
/// intact checkpoint of `run`, that of step STEP, and ends `length` later; its learning rate falls
/// from its first step on. `run` itself isn't changed.
///
/// # Errors
/// If the learning rate of `run` isn't constant, it has no intact checkpoint, that cooldown exists
/// already, or the new directory can't be written.
pub fn cool_down(run: &RunDir, length: Length) -> Result<RunDir> {
    run.require()?;
    let path = run.path.display();
    let mut config = run.read_config()?;
    if config.train.lr_schedule != LrSchedule::Constant || config.train.cooldown > 0.0 {
        return Err(Error::usage(format!(
            "cooldown: the learning rate of {path} already falls (train.lr_schedule, \
            train.cooldown); a cooldown needs a run with a constant rate"
        )));
    }
    let mut whole = None;
    for step in run.checkpoints().into_iter().rev() {
        if checkpoint::damage(&run.checkpoint(step))?.is_none() {
            whole = Some(step);
            break;
        }
    }
    let Some(step) = whole else {
        return Err(Error::failed(format!(
            "cooldown: {path} holds no whole checkpoint yet; train it first"
        )));
    };
    let cooled = beside(run, step)?;
    let to = cooled.path.display();
    if cooled.exists() {
        return Err(Error::usage(format!(
            "cooldown: {to} already exists; {}, or move it away",
            Hint::Continue(cooled.path.clone())
        )));
    }
    if cooled.path.exists() {
        return Err(Error::usage(format!(
            "cooldown: {to} already exists and holds no run; move it away"
        )));
    }
    let steps = step + length.steps(step);
    config.train.steps = usize::try_from(steps).unwrap_or(usize::MAX);
    config.train.cooldown = (steps - step) as f64 / steps as f64;
    // Of the EMA, which is what is scored and exported, 1 - e^-2 = 86 % then come from the cooldown.
    let enough = (2.0 / (1.0 - config.train.ema_decay)).round();
    if ((steps - step) as f64) < enough {
        warn(&format!(
            "the cooldown of {} is short for the average of the weights, which is what is scored: \
             with train.ema_decay = {} it takes {} steps to show",
            counted((steps - step) as usize, "step"),
            config.train.ema_decay,
            grouped(enough as u64)
        ));
    }
    let before = checkpoint::position(&run.checkpoint(step))?;
    let progress = step as f64 / steps as f64;
    let position = Position { planned: steps, progress, finished: false, ..before };
    if let Err(e) = fill(&cooled, run, step, &position, &config) {
        let _ = std::fs::remove_dir_all(&cooled.path);
        return Err(e);
    }
    Ok(cooled)
}

/// Copies the checkpoint of `step` and the records of `run` to `cooled`, which has the given
/// position and recipe.
fn fill(
    cooled: &RunDir,
    run: &RunDir,
    step: u64,
    position: &Position,
    config: &Config,
) -> Result<()> {
    create_dir(&cooled.path.join("checkpoints"))?;
    checkpoint::copy(run, step, cooled, position)?;
    for (from, to) in [(run.starts(), cooled.starts()), (run.metrics(), cooled.metrics())] {
        let bytes = files::read_if_exists(&from)?;
        if !bytes.is_empty() {
            write_atomically(&to, &bytes)?;
        }
    }
    // The recipe comes last: it is what makes a directory a run.
    cooled.create(config)
}

/// Returns the directory of a cooldown of `run` from `step`, next to the run.
///
/// # Errors
/// If the run has no name of its own.
pub fn beside(run: &RunDir, step: u64) -> Result<RunDir> {
    let named = |path: &Path| {
        path.file_name()
            .map(|name| path.with_file_name(format!("{}-cooldown-{step}", name.to_string_lossy())))
    };
    let real = || std::fs::canonicalize(&run.path).map_err(|e| Error::io("read", &run.path, &e));
    let path = match named(&run.path) {
        Some(path) => path,
        None => named(&real()?).ok_or_else(|| {
            Error::usage(
                "cooldown: the run directory has no name to derive another from; name one that has",
            )
        })?,
    };
    Ok(RunDir::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_steps_or_fractions_of_the_whole_run() {
        assert_eq!("1500".parse(), Ok(Length::Steps(1500)));
        assert_eq!("0.2".parse(), Ok(Length::Share(0.2)));
        for wrong in ["0", "-3", "1.0", "1.5", "0.0", "nan", "20%", ""] {
            assert!(wrong.parse::<Length>().is_err(), "{wrong}");
        }
        assert_eq!(
            (
                Length::Share(0.2).steps(800),
                Length::Share(0.01).steps(1),
                Length::Steps(7).steps(800)
            ),
            (200, 1, 7)
        );
    }

    #[test]
    fn the_directory_is_named_after_the_run_and_the_step() {
        let path = |run: &str| beside(&RunDir::new(run), 40).expect("a name").path;
        assert_eq!(path("runs/tiny-1"), Path::new("runs/tiny-1-cooldown-40"));
        assert_eq!(path("runs/tiny-1/"), Path::new("runs/tiny-1-cooldown-40"));
        assert!(path(".").to_string_lossy().ends_with("-cooldown-40"));
    }
}
