//! How far a command that goes through many images is, on stderr.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Prints a line on stderr; who has closed that, or a terminal that is gone, stops no work.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A bar on a terminal, a line now and then otherwise.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    printed: Instant,
}

impl Progress {
    /// For `total` images, where their number is known.
    pub fn new(total: Option<usize>) -> Self {
        let (bar, style) = match total {
            Some(n) => (ProgressBar::new(n as u64), "{bar:30} {pos}/{len} images, {per_sec}, {eta} left"),
            None => (ProgressBar::new_spinner(), "{spinner} {pos} images, {per_sec}"),
        };
        let started = Instant::now();
        Self { bar: bar.with_style(ProgressStyle::with_template(style).expect("a valid template")), started, printed: started }
    }

    /// `n` more are done.
    pub fn add(&mut self, n: usize) {
        self.bar.inc(n as u64);
        if !std::io::stderr().is_terminal() && self.printed.elapsed() > Duration::from_secs(15) {
            let done = self.bar.position();
            let of = self.bar.length().map_or(String::new(), |n| format!(" of {n}"));
            say(&format!("{done}{of} images, {:.1} images/s", done as f64 / self.started.elapsed().as_secs_f64()));
            self.printed = Instant::now();
        }
    }

    /// Prints a line beside the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| say(line));
    }

    /// Takes the bar away; returns images a second.
    pub fn finish(self) -> f64 {
        self.bar.finish_and_clear();
        self.bar.position() as f64 / self.started.elapsed().as_secs_f64()
    }
}
