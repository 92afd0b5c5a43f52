//! Reports from the library while it works: remarks, warnings and the progress of long tasks.
//!
//! The library prints nothing. A program that wants to show its progress passes a [`Listener`] to
//! [`listen`]; without one, remarks and warnings go to the `log` crate and progress is not shown.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// A receiver of the library's reports, which may come from any thread.
pub trait Listener: Send + Sync {
    /// Receives a remark that a user may ignore.
    fn inform(&self, line: &str);
    /// Receives something that a user should know.
    fn warn(&self, line: &str);
    /// Receives an error that ends the process, reported by a thread that can't return it.
    fn fail(&self, line: &str);
    /// Starts to show a task that may take long. The task ends when the result is dropped.
    fn begin(&self, task: &Task) -> Box<dyn Shown>;
}

/// A task that may take long.
#[derive(Clone, Debug)]
pub struct Task {
    /// What is done, ending with what is counted: "encoding images".
    pub label: String,
    /// The total number to process, if known.
    pub total: Option<u64>,
    /// Whether this is training, which reports its own rate and loss through [`Shown::note`].
    pub is_training: bool,
}

/// The display of a running task.
pub trait Shown: Send + Sync {
    /// Shows that `done` of the total are done.
    fn at(&self, done: u64);
    /// Shows the state of the task in words. `due` is set if no line was printed for a while.
    fn note(&self, text: &str, due: bool);
}

static LISTENER: OnceLock<Box<dyn Listener>> = OnceLock::new();

/// Sends all reports of this process to `listener` from now on. Returns whether it is the first
/// listener; later ones are ignored.
pub fn listen(listener: impl Listener + 'static) -> bool {
    LISTENER.set(Box::new(listener)).is_ok()
}

/// Reports a remark.
pub fn say(line: &str) {
    match LISTENER.get() {
        Some(listener) => listener.inform(line),
        None => log::info!("{line}"),
    }
}

/// Reports something that a user should know.
pub fn warn(line: &str) {
    match LISTENER.get() {
        Some(listener) => listener.warn(line),
        None => log::warn!("{line}"),
    }
}

/// Reports an error that ends the process.
pub(crate) fn fail(line: &str) {
    match LISTENER.get() {
        Some(listener) => listener.fail(line),
        None => log::error!("{line}"),
    }
}

/// The display of a task when no listener is set.
struct Unseen;

impl Shown for Unseen {
    fn at(&self, _: u64) {}
    fn note(&self, _: &str, _: bool) {}
}

/// The progress of a task. Any thread may add to it.
pub struct Progress {
    done: AtomicU64,
    since: Instant,
    shown: Box<dyn Shown>,
}

impl Progress {
    /// Starts a task. `label` says what is done and what is counted, and `total` is the total
    /// number, if known.
    pub fn new(label: impl Into<String>, total: Option<usize>) -> Self {
        let total = total.map(|total| total as u64);
        Self::begin(&Task { label: label.into(), total, is_training: false })
    }

    /// Starts a training of `steps` steps.
    pub fn of_training(steps: usize) -> Self {
        let (label, total) = ("step".into(), Some(steps as u64));
        Self::begin(&Task { label, total, is_training: true })
    }

    fn begin(task: &Task) -> Self {
        let shown: Box<dyn Shown> =
            LISTENER.get().map_or_else(|| Box::new(Unseen) as _, |listener| listener.begin(task));
        Self { done: AtomicU64::new(0), since: Instant::now(), shown }
    }

    /// Adds `n` to what is done.
    pub fn add(&self, n: usize) {
        self.shown.at(self.done.fetch_add(n as u64, Relaxed) + n as u64);
    }

    /// Sets what is done to `done` in total.
    pub fn at(&self, done: u64) {
        self.done.store(done, Relaxed);
        self.shown.at(done);
    }

    /// See [`Shown::note`].
    pub fn note(&self, text: &str, due: bool) {
        self.shown.note(text, due);
    }

    /// Ends the task and returns the rate per second.
    pub fn finish(self) -> f64 {
        self.done.load(Relaxed) as f64 / self.since.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_from_any_thread() {
        let progress = Progress::new("counting", Some(400));
        std::thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| (0..100).for_each(|_| progress.add(1)))))
        });
        assert_eq!(progress.done.load(Relaxed), 400);
        assert!(progress.finish() > 0.0);
    }
}
