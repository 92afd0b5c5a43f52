//! Writing checkpoints, and what happens where that fails.

use super::log::Log;
use crate::config::{OnSaveError, TrainConfig};
use crate::error::Result;
use crate::progress::say;
use crate::run_dir::RunDir;
use crate::train::checkpoint::Snapshot;
use crate::train::saver::Saver;
use std::collections::HashSet;
use std::time::Instant;

/// Saves checkpoints, and does with failures to write what `train.on_save_error` says.
pub(super) struct Saving<'a> {
    run: &'a RunDir,
    pub saver: Saver,
    /// When the last checkpoint began to be written.
    saved: Instant,
    policy: OnSaveError,
    /// What has been said since the last checkpoint that was written.
    said: HashSet<String>,
}

impl<'a> Saving<'a> {
    pub fn new(run: &'a RunDir, train: &TrainConfig) -> Self {
        let saver = Saver::new(run, train.keep_checkpoints);
        Self {
            run,
            saver,
            saved: Instant::now(),
            policy: train.on_save_error,
            said: HashSet::new(),
        }
    }

    /// Waits for the checkpoint that is being written: two copies of the state at once are too
    /// many.
    pub fn ready(&mut self) -> Result<()> {
        let written = self.saver.wait();
        if let Ok(true) = written {
            self.said.clear();
        }
        self.check(written.map(drop))
    }

    /// Begins to write a checkpoint. A hundredth of the time since the last one is waited for it:
    /// once it is written, a kill costs an interval and not a step more.
    pub fn save(&mut self, snapshot: Snapshot, log: &Log) -> Result<()> {
        let best = log.metrics.best(&self.run.checkpoints()).map(|e| e.step);
        let written = self.saver.save(snapshot, best);
        self.saver.pause(self.saved.elapsed() / 100);
        self.saved = Instant::now();
        self.check(written)
    }

    /// Ends training, or says that it goes on, where `written` is an error.
    pub fn check(&mut self, written: Result<()>) -> Result<()> {
        match (written, self.policy) {
            (Ok(()), _) => Ok(()),
            (Err(error), OnSaveError::Stop) => Err(error),
            (Err(error), OnSaveError::Continue) => {
                let said = format!("{error}; training goes on");
                if self.said.insert(said.clone()) {
                    say(&said);
                }
                Ok(())
            }
        }
    }

    /// The last checkpoint is written, or an error whatever the policy: what isn't on disk is lost
    /// when the program ends.
    pub fn end(&mut self) -> Result<()> {
        self.saver.wait().map(drop)
    }
}
