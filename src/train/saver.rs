//! Writing of checkpoints in a background thread while training continues.

use super::checkpoint::Snapshot;
use crate::error::{Error, Result};
use crate::run_dir::RunDir;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The number of checkpoints that are being written.
static WRITING: AtomicUsize = AtomicUsize::new(0);

/// Checks whether a checkpoint is being written, which would be lost if the process ended now.
pub fn is_writing() -> bool {
    WRITING.load(Ordering::Relaxed) > 0
}

/// A writer of checkpoints, one at a time.
pub struct Saver {
    run: RunDir,
    keep: usize,
    writing: Option<(u64, Writing)>,
    /// The time that writing the last checkpoint took.
    pub took: Option<Duration>,
}

/// The result of writing a checkpoint, and how long it took.
type Written = (Result<()>, Duration);

enum Writing {
    Thread(JoinHandle<Written>),
    /// Written synchronously, because the system refused a thread.
    Done(Written),
}

impl Saver {
    /// Makes a writer for `run`, of which the newest `keep` checkpoints are kept (0: all).
    pub fn new(run: &RunDir, keep: usize) -> Self {
        Self { run: run.clone(), keep, writing: None, took: None }
    }

    /// Starts writing `snapshot` once the previous one is written; [`Saver::wait`] returns its
    /// result. `best` is the step of another checkpoint to keep.
    ///
    /// # Errors
    /// If the previous checkpoint couldn't be written.
    pub fn save(&mut self, snapshot: Snapshot, best: Option<u64>) -> Result<()> {
        self.wait()?;
        let (step, run, keep) = (snapshot.step(), self.run.clone(), self.keep);
        let snapshot = Arc::new(snapshot);
        let copy = snapshot.clone();
        let timed = move |snapshot: &Snapshot, run: &RunDir| {
            let clock = Instant::now();
            WRITING.fetch_add(1, Ordering::Relaxed);
            let written = snapshot.write(run, keep, best);
            WRITING.fetch_sub(1, Ordering::Relaxed);
            (written, clock.elapsed())
        };
        let write = move || timed(&copy, &run);
        let writing = match std::thread::Builder::new().name("checkpoint".into()).spawn(write) {
            Ok(handle) => Writing::Thread(handle),
            Err(_) => Writing::Done(timed(&snapshot, &self.run)),
        };
        self.writing = Some((step, writing));
        Ok(())
    }

    /// Waits until nothing is being written. Returns whether there was anything to wait for.
    ///
    /// # Errors
    /// If the checkpoint couldn't be written; names its step.
    pub fn wait(&mut self) -> Result<bool> {
        let Some((step, writing)) = self.writing.take() else { return Ok(false) };
        let written = match writing {
            Writing::Thread(handle) => handle.join().unwrap_or_else(|_| {
                (Err(Error::failed("its thread panicked; please report this")), Duration::ZERO)
            }),
            Writing::Done(written) => written,
        };
        let (written, took) = written;
        self.took = Some(took);
        written.map(|()| true).map_err(|e| match e {
            Error::Io { path, source, .. } => {
                Error::io(&format!("write the checkpoint of step {step} in"), &path, &source)
            }
            e => Error::failed(format!("cannot write the checkpoint of step {step}: {e}")),
        })
    }

    /// Waits for the checkpoint that is being written, but no longer than `patience`.
    pub fn pause(&self, patience: Duration) {
        let clock = Instant::now();
        while matches!(&self.writing, Some((_, Writing::Thread(handle))) if !handle.is_finished())
            && clock.elapsed() < patience
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Saver {
    /// Waits for the checkpoint that is being written.
    fn drop(&mut self) {
        let _ = self.wait();
    }
}
