//! Progress of long computations, on stderr: a bar on a terminal, occasional lines otherwise, and
//! nothing in quiet mode.

use indicatif::{
    HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressState, ProgressStyle,
};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Milliseconds without output before the first line about a computation, and before each later
/// one. The time counts from the last line of any computation, so that a series of short
/// computations also prints lines.
const FIRST: u64 = 5_000;
const INTERVAL: u64 = 9_000;
/// A computation shorter than this, in milliseconds, prints nothing.
const SHORTEST: u64 = 1_000;

static QUIET: AtomicBool = AtomicBool::new(false);
/// Replaces the times above, unless 0.
static PACE: AtomicU64 = AtomicU64::new(0);
/// The time at which the last line was printed.
static PRINTED: LazyLock<Mutex<Instant>> = LazyLock::new(|| Mutex::new(Instant::now()));
/// All bars on the terminal, so that bars and lines don't overwrite each other.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Switches bars and informational lines off.
pub fn be_quiet() {
    QUIET.store(true, Relaxed);
}

/// Makes lines appear after `milliseconds` without output, also for computations shorter than a
/// second; for tests.
pub fn set_pace(milliseconds: u64) {
    PACE.store(milliseconds, Relaxed);
}

/// Prints an informational line on stderr, above the bars. A stderr that is closed, or a terminal
/// that is gone, is ignored.
pub fn say(line: &str) {
    if !QUIET.load(Relaxed) {
        warn(line);
    }
}

/// Like [`say`], for lines that the user must see: they are printed in quiet mode too.
pub fn warn(line: &str) {
    *PRINTED.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    BARS.suspend(|| drop(std::io::stderr().write_all(format!("{line}\n").as_bytes())));
}

/// Prints an error line on stderr with a single write, as a launcher may print there at the same
/// time. A terminal that is gone is ignored.
pub fn print_error(error: &str) {
    let _ = std::io::stderr().write_all(format!("error: {error}\n").as_bytes());
}

/// Returns a bar up to `total`, without a style; hidden without a terminal and in quiet mode.
pub fn bar(total: Option<usize>) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::no_length, |n| ProgressBar::new(n as u64));
    if QUIET.load(Relaxed) || !std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        return bar;
    }
    BARS.add(bar)
}

/// The progress of a computation that may take long: `encoding training images: 1,280 of 50,000,
/// 312/s, 3 minutes left`.
pub struct Progress {
    bar: ProgressBar,
    lines: Option<Lines>,
}

impl Progress {
    /// Starts; `label` says what is done and what is counted, `total` how many there are, if known.
    pub fn new(label: impl Into<String>, total: Option<usize>) -> Self {
        let label = label.into();
        let bar = bar(total);
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
        let lines = plain.then(|| Lines::start(bar.clone(), label));
        Self { bar, lines }
    }

    /// Counts `n` more as done; any thread may call it.
    pub fn add(&self, n: usize) {
        self.bar.inc(n as u64);
    }

    /// Removes the bar; returns the rate per second.
    pub fn finish(self) -> f64 {
        self.bar.position() as f64 / self.bar.elapsed().as_secs_f64()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(lines) = self.lines.take() {
            lines.stop();
        }
        self.bar.finish_and_clear();
    }
}

/// A thread that prints a line from time to time, whether or not there was progress since the last.
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
                    warn(&format!(
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
                    // With a pace set, every label gets a line, however short the computation.
                    if PACE.load(Relaxed) != 0 {
                        warn(&format!(
                            "{label}: {}",
                            status(bar.position(), bar.length(), bar.elapsed())
                        ));
                    }
                    return;
                }
            }
        };
        // If the thread can't be started, there are no lines.
        let thread = std::thread::Builder::new().name("progress".into()).spawn(work).ok();
        Self { stopped, thread }
    }

    fn stop(self) {
        *self.stopped.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.1.notify_one();
        // A panic of the thread is ignored.
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
    }
}

/// Formats `1,280 of 50,000, 312/s, 3 minutes left`, as far as these are known.
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

/// Formats a rate above 0 in at most three digits, `73.8/s`, or a low one as the time per item,
/// `25 s each`.
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
    fn a_rate_has_three_digits() {
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
        // More than the total.
        assert_eq!(status(8, Some(7), after(4)), "8 of 7, 2.00/s");
    }

    #[test]
    fn progress_counts_from_any_thread_and_ends_at_once() {
        let begun = std::time::Instant::now();
        let progress = Progress::new("counting", Some(400));
        std::thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| (0..100).for_each(|_| progress.add(1)))))
        });
        assert_eq!(progress.bar.position(), 400);
        assert!(progress.finish() > 0.0);
        assert!(begun.elapsed() < Duration::from_secs(4), "it waited for a line");
    }
}
