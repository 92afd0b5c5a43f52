//! The library's progress reports on stderr: progress bars on a terminal, occasional lines
//! otherwise, and only warnings with --quiet.

use super::output::harmless;
use indicatif::{
    HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressState, ProgressStyle,
};
use soda::progress::{Listener, Shown, Task};
use soda::units::grouped;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Milliseconds without output after which a task prints its first line. The silence is counted
/// over all tasks, so that a series of short tasks reports as well.
const FIRST: u64 = 5_000;
/// Milliseconds without output after which a task prints its next line.
const INTERVAL: u64 = 9_000;
/// Milliseconds below which a task prints nothing.
const SHORTEST: u64 = 1_000;

static QUIET: AtomicBool = AtomicBool::new(false);
/// Replaces the times above, unless 0.
static PACE: AtomicU64 = AtomicU64::new(0);
/// When the last line was printed.
static PRINTED: LazyLock<Mutex<Instant>> = LazyLock::new(|| Mutex::new(Instant::now()));
/// All bars on the terminal, managed together so that bars and lines don't overwrite each other.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Suppresses progress bars and informational lines from now on.
pub fn be_quiet() {
    QUIET.store(true, Relaxed);
}

/// Makes every task, however short, print a line after `milliseconds` without output, for tests.
pub fn set_pace(milliseconds: u64) {
    PACE.store(milliseconds, Relaxed);
}

/// The listener that writes the library's reports to stderr, a terminal or not.
pub struct Terminal;

impl Listener for Terminal {
    fn inform(&self, line: &str) {
        if !QUIET.load(Relaxed) {
            self.warn(line);
        }
    }

    // A closed stderr, or a terminal that is gone, does not stop the work.
    fn warn(&self, line: &str) {
        *PRINTED.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let line = harmless(line) + "\n";
        BARS.suspend(|| drop(std::io::stderr().write_all(line.as_bytes())));
    }

    fn fail(&self, line: &str) {
        print_error(line);
    }

    fn begin(&self, task: &Task) -> Box<dyn Shown> {
        if task.is_training {
            Box::new(Training::begin(task))
        } else {
            Box::new(Counted::begin(task))
        }
    }
}

/// Prints the line of an error to stderr in one write, because a launcher may print there at the
/// same time. A terminal that is gone is ignored.
pub fn print_error(error: &str) {
    let _ = std::io::stderr().write_all(format!("error: {error}\n").as_bytes());
}

/// Returns a bar up to `total`, without a style; hidden if stderr is not a terminal, or with
/// --quiet.
pub fn bar(total: Option<u64>) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    if QUIET.load(Relaxed) || !std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        return bar;
    }
    BARS.add(bar)
}

/// The progress of training: `step 571/80,000, loss 0.0278, 144 images/s, about 9 minutes left`.
struct Training {
    bar: ProgressBar,
}

impl Training {
    fn begin(task: &Task) -> Self {
        let style = ProgressStyle::with_template("{bar:30} step {human_pos}/{human_len}, {msg}")
            .expect("a valid template");
        Self { bar: bar(task.total).with_style(style).with_message("taking the first step") }
    }
}

impl Shown for Training {
    fn at(&self, done: u64) {
        self.bar.set_position(done);
    }

    fn note(&self, text: &str, due: bool) {
        if due && !std::io::stderr().is_terminal() {
            let [step, steps] = [self.bar.position(), self.bar.length().unwrap_or(0)].map(grouped);
            Terminal.inform(&format!("step {step}/{steps}, {text}"));
        }
        self.bar.set_message(text.to_owned());
    }
}

impl Drop for Training {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The progress of a counted task: `encoding training images: 1,280 of 50,000, 312/s, 3 minutes
/// left`.
struct Counted {
    bar: ProgressBar,
    /// The largest number that was reported.
    most: Mutex<u64>,
    lines: Option<Lines>,
}

impl Counted {
    fn begin(task: &Task) -> Self {
        let Task { label, total, .. } = task;
        let bar = bar(*total);
        let style =
            if total.is_some() { "{msg} {bar:20} {status}" } else { "{spinner} {msg}: {status}" };
        let style = ProgressStyle::with_template(style).expect("a valid template");
        let status = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = out.write_str(&status(state.pos(), state.len(), state.elapsed()));
        };
        bar.set_style(style.with_key("status", status));
        bar.set_message(label.clone());
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        let plain = !QUIET.load(Relaxed) && !std::io::stderr().is_terminal();
        let lines = plain.then(|| Lines::start(bar.clone(), label.clone()));
        Self { bar, most: Mutex::new(0), lines }
    }
}

impl Shown for Counted {
    fn at(&self, done: u64) {
        // Threads may report out of order.
        let mut most = self.most.lock().unwrap_or_else(PoisonError::into_inner);
        *most = done.max(*most);
        self.bar.set_position(*most);
    }

    fn note(&self, text: &str, _: bool) {
        self.bar.set_message(text.to_owned());
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(lines) = self.lines.take() {
            lines.stop();
        }
        self.bar.finish_and_clear();
    }
}

/// A thread that prints a line from time to time, even if there was no progress since the last one.
struct Lines {
    stopped: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    fn start(bar: ProgressBar, label: String) -> Self {
        let stopped = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = stopped.clone();
        let work = move || {
            let [mut silence, interval, mut least] = match PACE.load(Relaxed) {
                0 => [FIRST, INTERVAL, SHORTEST],
                pace => [pace; 3],
            }
            .map(Duration::from_millis);
            let mut stopped = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let since = PRINTED.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
                if least.is_zero() && since >= silence {
                    Terminal.warn(&format!(
                        "{label}: {}",
                        status(bar.position(), bar.length(), bar.elapsed())
                    ));
                    silence = interval;
                    continue;
                }
                let wait = silence.saturating_sub(since).max(std::mem::take(&mut least));
                stopped = shared
                    .1
                    .wait_timeout_while(stopped, wait, |stopped| !*stopped)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                if *stopped {
                    // With a pace set, every task prints at least one line, however short it is.
                    if PACE.load(Relaxed) != 0 {
                        Terminal.warn(&format!(
                            "{label}: {}",
                            status(bar.position(), bar.length(), bar.elapsed())
                        ));
                    }
                    return;
                }
            }
        };
        // If no thread can be started, no lines are printed.
        let thread = std::thread::Builder::new().name("progress".into()).spawn(work).ok();
        Self { stopped, thread }
    }

    fn stop(self) {
        *self.stopped.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.1.notify_one();
        // A panic in the thread is ignored.
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
    }
}

/// Formats progress as `1,280 of 50,000, 312/s, 3 minutes left`, leaving out what is unknown.
fn status(done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let mut out = HumanCount(done).to_string();
    if let Some(total) = total {
        let _ = write!(out, " of {}", HumanCount(total));
    }
    let rate = done as f64 / elapsed.as_secs_f64();
    if done > 0 && rate.is_finite() {
        let _ = write!(out, ", {}", per_second(rate));
        if let Some(left) = total.and_then(|total| total.checked_sub(done)) {
            let left = Duration::from_secs_f64((left as f64 / rate).min(1e9));
            let _ = write!(out, ", {} left", HumanDuration(left));
        }
    }
    out
}

/// Formats a rate above 0 with at most three significant digits, `73.8/s`; low rates as the time
/// per item, `25 s each`.
fn per_second(rate: f64) -> String {
    match rate {
        ..0.1 => format!("{:.0} s each", 1.0 / rate),
        ..9.995 => format!("{rate:.2}/s"),
        ..99.95 => format!("{rate:.1}/s"),
        _ => {
            let unit = 10f64.powi(rate.log10() as i32 - 2);
            format!("{}/s", HumanCount(((rate / unit).round() * unit).round() as u64))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_three_significant_digits() {
        let rates = [0.04, 0.31, 3.1234, 9.999, 73.847, 99.99, 312.4, 999.9, 12_345.6, 1_234_567.0];
        let shown = [
            "25 s each",
            "0.31/s",
            "3.12/s",
            "10.0/s",
            "73.8/s",
            "100/s",
            "312/s",
            "1,000/s",
            "12,300/s",
            "1,230,000/s",
        ];
        assert_eq!(rates.map(per_second), shown);
    }

    #[test]
    fn a_status_shows_what_is_known() {
        let after = Duration::from_secs;
        assert_eq!(status(0, Some(50_000), after(3)), "0 of 50,000");
        assert_eq!(status(1280, Some(50_000), after(4)), "1,280 of 50,000, 320/s, 3 minutes left");
        assert_eq!(status(1280, None, after(4)), "1,280, 320/s");
        assert_eq!(status(7, Some(7), after(0)), "7 of 7");
        // More than was announced.
        assert_eq!(status(8, Some(7), after(4)), "8 of 7, 2.00/s");
    }

    #[test]
    fn a_short_task_ends_without_waiting_for_a_line() {
        let begun = Instant::now();
        let task = Task { label: "counting".into(), total: Some(400), is_training: false };
        let shown = Counted::begin(&task);
        shown.at(400);
        assert_eq!(shown.bar.position(), 400);
        drop(shown);
        assert!(begun.elapsed() < Duration::from_secs(4), "it waited for a line");
    }
}
