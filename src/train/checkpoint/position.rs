//! The progress of a run, in a checkpoint's state.json, and the training behind a weights file.

use crate::error::{Error, Result};
use crate::files;
use crate::model::weights::{Trained, WeightsFile};
use crate::run_dir::{RunDir, Start};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The progress of a run, apart from its tensors. Random streams need no position, because they are
/// numbered by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// The number of optimizer steps so far.
    pub step: u64,
    /// The number of images seen.
    pub images: u64,
    /// The number of updates of the optimizer and the EMA.
    pub updates: u64,
    /// The seconds of training so far.
    pub seconds: f64,
    /// The completed fraction of the run, which the learning rate follows: in steps or in time,
    /// whichever ends first.
    pub progress: f64,
    /// The mean loss of the first row of the log.
    pub loss_first: Option<f64>,
    /// Whether the run has reached its end.
    pub finished: bool,
    /// The planned number of steps of the whole run; 0 before the first step.
    pub planned: u64,
    /// The SHA-256 of the training data.
    pub data_sha256: String,
    /// The step and images behind the weights that the run continues from without their moments.
    /// `step` and `images` count on from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<Continued>,
}

/// The counts that a run takes over from the weights file whose training it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continued {
    /// The number of optimizer steps behind the weights.
    pub step: u64,
    /// The number of images seen by then.
    pub images: u64,
}

impl Position {
    /// Returns the number of images that this run itself has seen.
    pub fn own_images(&self) -> u64 {
        self.images - self.continued.map_or(0, |continued| continued.images)
    }

    /// Returns the number of EMA updates, including those behind the weights that the run continues
    /// from.
    pub(super) fn ema_updates(&self) -> u64 {
        self.updates + self.continued.map_or(0, |continued| continued.step)
    }

    /// Returns the completed fraction of a run of `steps` steps after step number `step`, in a call
    /// that began at this position and has used `share` of its time (0 without a limit). What was
    /// left of the run at the beginning of the call is done by steps or by time, whichever is ahead.
    pub fn progress_at(&self, step: u64, steps: u64, share: f64) -> f64 {
        let by_steps = |step: u64| step as f64 / steps as f64;
        let begun = self.progress.max(by_steps(self.step));
        if share == 0.0 && begun == by_steps(self.step) {
            // Without rounding, so that an interrupted run repeats the same values.
            return by_steps(step);
        }
        let done = (step - self.step) as f64 / (steps - self.step) as f64;
        begun + (1.0 - begun) * done.max(share)
    }

    /// Adjusts progress and end to a run of `steps` steps, whose recipe may have `changed`: a
    /// longer run is no longer finished, nor as far along.
    pub fn replan(&mut self, steps: u64, changed: bool) {
        let other_end = ![0, steps].contains(&self.planned);
        if other_end || (changed && self.finished) {
            self.progress = self.step as f64 / steps as f64;
            self.finished = false;
        }
        self.finished |= self.step >= steps;
    }

    /// Returns what the weights files record of the training.
    pub fn trained(&self) -> Trained {
        Trained { data_sha256: self.data_sha256.clone(), step: self.step, images: self.images }
    }
}

/// Encodes `position` as the contents of state.json.
pub(super) fn encoded(position: &Position) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(position)
        .map_err(|e| Error::failed(format!("cannot encode the state: {e}")))
}

/// Reads the position of the run from the checkpoint in the folder `path`.
///
/// # Errors
/// If its state.json is missing or damaged.
pub fn position(path: &Path) -> Result<Position> {
    let path = path.join("state.json");
    let json = files::read(&path).map_err(|e| Error::io("read", &path, &e))?;
    serde_json::from_slice(&json)
        .map_err(|e| Error::failed(format!("{} is damaged ({e})", path.display())))
}

/// Reads the training of the weights file `weights` from the state.json next to it in a checkpoint;
/// `None` if there is none.
pub fn trained_beside(weights: &Path) -> Option<Trained> {
    position(weights.parent()?).ok().map(|position| position.trained())
}

/// The metadata key of a weights file for the number of images seen before the training that made
/// the weights.
pub const IMAGES_BEFORE: &str = "images_before";

/// Returns the number of all images behind `weights`: those of their own training, and those behind
/// the weights that it started from. `None` if either is unknown.
pub fn images_behind(weights: &WeightsFile) -> Option<u64> {
    let own = weights.trained().or_else(|| trained_beside(&weights.path))?.images;
    let first =
        RunDir::of_weights(&weights.path).and_then(|run| run.read_starts().into_iter().next());
    let before = match (weights.metadata.get(IMAGES_BEFORE), first) {
        (Some(before), _) => before.parse().ok()?,
        (None, Some(Start { from: Some(_), from_images, .. })) => from_images?,
        (None, _) => 0,
    };
    own.checked_add(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64, progress: f64) -> Position {
        Position {
            step,
            images: 32 * step,
            updates: step,
            seconds: 0.0,
            progress,
            loss_first: None,
            finished: false,
            planned: 100,
            data_sha256: String::new(),
            continued: None,
        }
    }

    #[test]
    fn steps_alone_give_the_same_progress_whether_or_not_a_run_was_interrupted() {
        for step in 31..=100 {
            let whole = at(0, 0.0).progress_at(step, 100, 0.0);
            assert_eq!(whole, step as f64 / 100.0);
            assert_eq!(at(30, 30.0 / 100.0).progress_at(step, 100, 0.0), whole);
        }
    }

    #[test]
    fn what_is_left_is_done_by_steps_or_time_and_never_stands_still() {
        // 92 % of the time of an earlier call were over after 10 of 100 steps.
        let ahead = at(10, 0.92);
        let (by_steps, by_time) =
            (ahead.progress_at(55, 100, 0.0), ahead.progress_at(11, 100, 0.5));
        assert!((by_steps - 0.96).abs() < 1e-12 && (by_time - 0.96).abs() < 1e-12);
        assert!((ahead.progress_at(100, 100, 0.0) - 1.0).abs() < 1e-12);
        let mut before = ahead.progress;
        for step in 11..=100 {
            let now = ahead.progress_at(step, 100, 0.0);
            assert!(now > before, "{now} after step {step}");
            before = now;
        }
        // A first call with a limit: whichever is ahead.
        assert_eq!(at(0, 0.0).progress_at(40, 100, 0.3), 0.4);
        assert_eq!(at(0, 0.0).progress_at(40, 100, 0.7), 0.7);
    }
}
