//! Checkpoints written by a thread of their own, while training goes on.

use super::checkpoint::Snapshot;
use crate::error::{Error, Result};
use crate::run_dir::RunDir;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Writes one checkpoint at a time.
pub struct Saver {
    run: RunDir,
    keep: usize,
    writing: Option<(u64, JoinHandle<Result<()>>)>,
}

impl Saver {
    /// For `run`, of which the newest `keep` checkpoints are kept (0: all).
    pub fn new(run: &RunDir, keep: usize) -> Self {
        Self { run: run.clone(), keep, writing: None }
    }

    /// Begins to write `snapshot`, once the one before is written. `best` is the step of another checkpoint that is kept.
    ///
    /// # Errors
    /// If the one before couldn't be written, or this one where the system refuses a thread for it.
    pub fn save(&mut self, snapshot: Snapshot, best: Option<u64>) -> Result<()> {
        self.wait()?;
        let (step, run, keep) = (snapshot.step(), self.run.clone(), self.keep);
        let snapshot = Arc::new(snapshot);
        let copy = snapshot.clone();
        let write = move || copy.write(&run, keep, best);
        match std::thread::Builder::new().name("checkpoint".into()).spawn(write) {
            Ok(handle) => self.writing = Some((step, handle)),
            Err(_) => snapshot.write(&self.run, keep, best).map_err(|e| not_written(step, &e))?,
        }
        Ok(())
    }

    /// Waits until nothing is being written; whether something was.
    ///
    /// # Errors
    /// If the checkpoint couldn't be written; names its step.
    pub fn wait(&mut self) -> Result<bool> {
        let Some((step, handle)) = self.writing.take() else { return Ok(false) };
        let written = handle.join().unwrap_or_else(|_| Err(Error::failed("something failed that should not")));
        written.map(|()| true).map_err(|e| not_written(step, &e))
    }
}

fn not_written(step: u64, error: &Error) -> Error {
    Error::failed(format!("the checkpoint of step {step} was not written: {error}"))
}

/// What is being written is written to its end.
impl Drop for Saver {
    fn drop(&mut self) {
        let _ = self.wait();
    }
}
