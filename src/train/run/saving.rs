//! Writing checkpoints, and handling failures to write.

use super::log::Log;
use crate::config::{OnSaveError, TrainConfig};
use crate::error::Result;
use crate::progress::say;
use crate::run_dir::RunDir;
use crate::train::checkpoint::Snapshot;
use crate::train::saver::Saver;
use std::collections::HashSet;
use std::time::Instant;

/// The saving of checkpoints, which handles failures to write by `train.on_save_error`.
pub(super) struct Saving<'a> {
    run: &'a RunDir,
    pub saver: Saver,
    /// The time at which writing of the last checkpoint started.
    saved: Instant,
    policy: OnSaveError,
    /// The messages since the last checkpoint that could be written.
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

    /// Waits for the checkpoint that is being written, because two copies of the state at a time
    /// take too much memory.
    pub fn ready(&mut self) -> Result<()> {
        let written = self.saver.wait();
        if let Ok(true) = written {
            self.said.clear();
        }
        self.check(written.map(drop))
    }

    /// Starts writing a checkpoint, and waits for it for up to a hundredth of the time since the
    /// last one: once it is written, a kill costs one interval and not a step more.
    pub fn save(&mut self, snapshot: Snapshot, log: &Log) -> Result<()> {
        let best = log.metrics.best(&self.run.checkpoints()).map(|e| e.step);
        let written = self.saver.save(snapshot, best);
        self.saver.pause(self.saved.elapsed() / 100);
        self.saved = Instant::now();
        self.check(written)
    }

    /// If `written` is an error, returns it or says that training continues, depending on the
    /// policy.
    pub fn check(&mut self, written: Result<()>) -> Result<()> {
        match (written, self.policy) {
            (Ok(()), _) => Ok(()),
            (Err(error), OnSaveError::Stop) => Err(error),
            (Err(error), OnSaveError::Continue) => {
                let said = format!("training continues without a new checkpoint: {error}");
                if self.said.insert(said.clone()) {
                    say(&said);
                }
                Ok(())
            }
        }
    }

    /// Waits for the last checkpoint. A failure is an error whatever the policy, because a state
    /// that isn't on disk is lost when the program ends.
    pub fn end(&mut self) -> Result<()> {
        self.saver.wait().map(drop)
    }
}
