//! What the library reports while it works: remarks, warnings and how far a long task is.
//!
//! The library prints nothing. A program that wants to show its progress hands a [`Listener`] to
//! [`listen`]; without one, remarks and warnings go to the `log` crate and progress is not shown.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Receives what the library reports, from any thread.
pub trait Listener: Send + Sync {
    /// A remark that a user may ignore.
    fn inform(&self, line: &str);
    /// Something that a user should know.
    fn warn(&self, line: &str);
    /// An error that ends the process, reported by a thread that can't return it.
    fn fail(&self, line: &str);
    /// A task that may last begins; it ends when the result is dropped.
    fn begin(&self, task: &Task) -> Box<dyn Shown>;
}

/// A task that may last.
#[derive(Clone, Debug)]
pub struct Task {
    /// What is done and what is counted: "encoding images".
    pub label: String,
    /// How much of it there is, where that is known.
    pub total: Option<u64>,
    /// Whether it is training, which reports its own rate and loss by [`Shown::note`].
    pub is_training: bool,
}

/// A task on its way.
pub trait Shown: Send + Sync {
    /// So much of the task is done.
    fn at(&self, done: u64);
    /// What the task has come to, in words; `due` where nothing was said for some seconds.
    fn note(&self, text: &str, due: bool);
}

static LISTENER: OnceLock<Box<dyn Listener>> = OnceLock::new();

/// Sends all reports of this process to `listener` from now on. Returns whether it is the first
/// one; a second one is not listened to.
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

/// Nobody looks.
struct Unseen;

impl Shown for Unseen {
    fn at(&self, _: u64) {}
    fn note(&self, _: &str, _: bool) {}
}

/// How much of a task is done. Any thread may count.
pub struct Progress {
    done: AtomicU64,
    since: Instant,
    shown: Box<dyn Shown>,
}

impl Progress {
    /// Begins; `label` says what is done and what is counted, `total` how much of it there is,
    /// where that is known.
    pub fn new(label: impl Into<String>, total: Option<usize>) -> Self {
        let total = total.map(|total| total as u64);
        Self::begin(&Task { label: label.into(), total, is_training: false })
    }

    /// Begins a training of `steps` steps.
    pub fn of_training(steps: usize) -> Self {
        let (label, total) = ("step".into(), Some(steps as u64));
        Self::begin(&Task { label, total, is_training: true })
    }

    fn begin(task: &Task) -> Self {
        let shown: Box<dyn Shown> =
            LISTENER.get().map_or_else(|| Box::new(Unseen) as _, |listener| listener.begin(task));
        Self { done: AtomicU64::new(0), since: Instant::now(), shown }
    }

    /// `n` more are done.
    pub fn add(&self, n: usize) {
        self.shown.at(self.done.fetch_add(n as u64, Relaxed) + n as u64);
    }

    /// `done` are done in all.
    pub fn at(&self, done: u64) {
        self.done.store(done, Relaxed);
        self.shown.at(done);
    }

    /// See [`Shown::note`].
    pub fn note(&self, text: &str, due: bool) {
        self.shown.note(text, due);
    }

    /// Ends the task; returns how many were done a second.
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
