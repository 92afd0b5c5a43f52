//! The measured speed of steps, as the device really completes them.

use crate::device::Selected;
use crate::error::{Error, Result};
use crate::machine;
use crate::units::{about, bytes, rate};
use std::time::{Duration, Instant};

/// The seconds of queued work from which on the loop waits for the device. Steps are queued on an
/// adapter long before it completes them.
const PATIENCE: f64 = 0.5;
/// The seconds from which on a first step is reported on its own. A shorter one is reported
/// together with the next ones, once they are measured.
const LONG: f64 = 10.0;

/// A stopwatch for steps.
pub(super) struct Pace<'a> {
    device: &'a Selected,
    batch: f64,
    /// Seconds per step, as far as known: first a guess, then the first step, then a running mean.
    seconds: Option<f64>,
    /// Seconds of the first step of this call.
    first: Option<f64>,
    /// Steps of this call.
    pub taken: u64,
    /// Steps that the device may not have completed yet.
    pending: u32,
    since: Instant,
    told: bool,
}

impl<'a> Pace<'a> {
    /// Makes a stopwatch for steps of `batch` images. `guess` is the seconds of a step, if one was
    /// tried.
    pub fn new(device: &'a Selected, batch: usize, guess: Option<f64>) -> Self {
        let since = Instant::now();
        Self {
            device,
            batch: batch as f64,
            seconds: guess,
            first: None,
            taken: 0,
            pending: 0,
            since,
            told: false,
        }
    }

    /// Notes that a step was submitted to the device. Returns a message about it, if there is one;
    /// `to_go` describes what is left.
    ///
    /// # Errors
    /// If the device fails.
    pub fn stepped(&mut self, to_go: impl Fn(&Self) -> String) -> Result<Option<String>> {
        self.taken += 1;
        self.pending += 1;
        if self.first.is_some()
            && self.seconds.is_some_and(|seconds| f64::from(self.pending) * seconds < PATIENCE)
        {
            return Ok(None);
        }
        self.device.device.sync().map_err(|e| Error::device("computing a step", &e))?;
        let each = self.since.elapsed().as_secs_f64() / f64::from(self.pending);
        self.measured(each);
        Ok(self.news(to_go))
    }

    fn measured(&mut self, each: f64) {
        self.seconds = match (self.first, self.seconds) {
            (Some(_), Some(before)) if self.taken > 3 => Some(0.7 * before + 0.3 * each),
            // The first steps vary a lot, because kernels are compiled and tuned.
            _ => Some(each),
        };
        self.first.get_or_insert(each);
        (self.pending, self.since) = (0, Instant::now());
    }

    /// Returns a message about the first steps: once, and again if the first step took long and
    /// later ones don't.
    fn news(&mut self, to_go: impl Fn(&Self) -> String) -> Option<String> {
        let (first, now) = (self.first?, self.seconds?);
        if self.taken == 1 && first >= LONG {
            let slow = if self.device.adapter.is_some() {
                "; later ones are faster, because the shaders are compiled now"
            } else {
                ""
            };
            let all = self.tell(
                &format!("the first step took {}{slow}", about(Duration::from_secs_f64(first))),
                to_go,
            );
            // If nothing was compiled, there is nothing to add later.
            self.told = self.device.adapter.is_none();
            return Some(all);
        }
        if self.taken == 1 || self.told {
            return None;
        }
        self.told = true;
        let seconds =
            |s: f64| if s < 1.0 { format!("{:.0} ms", 1e3 * s) } else { format!("{s:.1} s") };
        Some(self.tell(
            &format!("the first step took {}, now one takes {}", seconds(first), seconds(now)),
            to_go,
        ))
    }

    fn tell(&self, took: &str, to_go: impl Fn(&Self) -> String) -> String {
        let memory = self.memory().map_or(String::new(), |memory| format!(", {memory}"));
        format!("{took}: {} images/s, {}{memory}", rate(self.images_per_s()), to_go(self))
    }

    /// Describes the memory used so far, if it is known.
    fn memory(&self) -> Option<String> {
        match self.device.adapter {
            Some(_) => {
                let reserved = self.device.device.memory_pool_usage()?.bytes_reserved;
                Some(format!(
                    "{} of the adapter's memory taken (an estimate)",
                    bytes(reserved as f64)
                ))
            }
            None => Some(format!(
                "{} of memory so far",
                bytes(machine::peak_resident_mib()? * f64::from(1 << 20))
            )),
        }
    }

    /// Returns the seconds per step, as far as known.
    pub fn seconds(&self) -> Option<f64> {
        self.seconds
    }

    /// Returns the throughput, or 0 as long as it isn't known.
    pub fn images_per_s(&self) -> f64 {
        self.seconds.map_or(0.0, |seconds| self.batch / seconds)
    }

    /// Checks whether the next step may be much faster than the last one.
    pub fn is_warming_up(&self) -> bool {
        self.taken == 1 && self.device.adapter.is_some()
    }

    /// Leaves out the time since `since`, which wasn't spent on steps.
    pub fn pause(&mut self, since: Instant) {
        self.since += since.elapsed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(device: &Selected, times: &[f64]) -> Vec<Option<String>> {
        let mut pace = Pace::new(device, 32, None);
        let mut told = Vec::new();
        for time in times {
            pace.taken += 1;
            pace.measured(*time);
            told.push(pace.news(|pace| format!("{:.1} s each", pace.seconds().expect("known"))));
        }
        told
    }

    #[test]
    fn the_first_steps_are_reported_once_and_a_long_one_before_the_next() {
        let cpu = Selected::cpu("a test");
        let short = pace(&cpu, &[0.4, 0.2, 0.2]);
        assert!(short[0].is_none() && short[2].is_none(), "{short:?}");
        let line = short[1].as_ref().expect("after the second step");
        assert!(
            line.starts_with(
                "the first step took 400 ms, now one takes 200 ms: 160 images/s, 0.2 s each"
            ),
            "{line}"
        );
        let long = pace(&cpu, &[200.0, 190.0]);
        let line = long[0].as_ref().expect("at once");
        assert!(
            line.starts_with("the first step took about 3.5 minutes: 0.16 images/s, 200.0 s each")
                && long[1].is_none(),
            "{long:?}"
        );
    }
}
