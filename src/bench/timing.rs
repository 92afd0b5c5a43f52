//! Repeated timing: warmup, then synchronised samples until there are enough or the time is up.

use crate::error::{Error, Hint, Result};
use burn::tensor::Device;
use serde::Serialize;
use std::time::Instant;

/// The limits of a timing.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// No sample starts after this many seconds (but one is always taken).
    pub seconds: f64,
    /// The largest number of samples.
    pub most: usize,
    /// The largest number of runs per sample; short runs are timed together, see [`SAMPLE`].
    pub together: usize,
}

/// The approximate duration of a sample of short runs, in seconds: long enough that neither the
/// clock nor waiting for the device matters.
pub const SAMPLE: f64 = 2e-3;

/// The number of runs that [`runs`] makes.
pub const RUNS: usize = 5;
/// The approximate duration of one of them, in seconds, where that is longer than one execution.
const RUN: f64 = 1.0;
/// The largest number of executions in one of them.
const MOST: usize = 1000;

/// The time of one run, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// The median of the samples.
    pub median: f64,
    /// The interquartile range over the median (quartiles by linear interpolation); `None` for a
    /// single sample.
    pub spread: Option<f64>,
    /// The fastest sample.
    pub min: f64,
    /// The slowest sample.
    pub max: f64,
    /// The number of samples.
    pub repetitions: usize,
    /// The last sample over the first, above 1 where the device slows down; `None` for a single
    /// sample.
    pub last_over_first: Option<f64>,
}

impl Timing {
    /// Summarises samples in seconds; returns `None` if there are none.
    pub fn of(mut samples: Vec<f64>) -> Option<Self> {
        let (first, last) = (*samples.first()?, *samples.last()?);
        let last_over_first = (samples.len() > 1 && first > 0.0).then(|| last / first);
        samples.sort_by(f64::total_cmp);
        let (min, max) = (*samples.first()?, *samples.last()?);
        let quantile = |q: f64| {
            let at = q * (samples.len() - 1) as f64;
            let (low, high) = (samples[at.floor() as usize], samples[at.ceil() as usize]);
            low + (high - low) * at.fract()
        };
        let median = quantile(0.5);
        let spread =
            (samples.len() > 1 && median > 0.0).then(|| (quantile(0.75) - quantile(0.25)) / median);
        Some(Self { median, spread, min, max, repetitions: samples.len(), last_over_first })
    }
}

/// Waits until `device` has finished all its work.
///
/// # Errors
/// If the device was lost.
pub fn wait(device: &Device) -> Result<()> {
    device
        .sync()
        .map_err(|e| Error::failed(format!("the device failed ({e}); {}", Hint::OtherDevice)))
}

/// Returns the seconds per `run` on inputs from `prepare`, over `times` runs in a row; `prepare`
/// isn't timed.
///
/// # Errors
/// If the device was lost.
pub fn sample<P>(
    device: &Device,
    times: usize,
    prepare: &mut impl FnMut() -> P,
    run: &mut impl FnMut(P),
) -> Result<f64> {
    let prepared: Vec<P> = (0..times).map(|_| prepare()).collect();
    wait(device)?;
    let start = Instant::now();
    prepared.into_iter().for_each(run);
    wait(device)?;
    Ok(start.elapsed().as_secs_f64() / times as f64)
}

/// Times `run`, which has run before, on inputs that `prepare` makes for each run; `once` is its
/// approximate time.
///
/// # Errors
/// If the device was lost.
pub fn measure<P>(
    device: &Device,
    effort: Effort,
    once: f64,
    mut prepare: impl FnMut() -> P,
    mut run: impl FnMut(P),
) -> Result<Timing> {
    let start = Instant::now();
    let together = ((SAMPLE / once.max(1e-9)).ceil() as usize).clamp(1, effort.together.max(1));
    let mut samples = Vec::new();
    loop {
        samples.push(sample(device, together, &mut prepare, &mut run)?);
        if samples.len() >= effort.most || start.elapsed().as_secs_f64() >= effort.seconds {
            return summary(samples);
        }
    }
}

/// Makes [`RUNS`] runs, fewer if the next one would take the time past `seconds` (but at least
/// one). `time` makes a run of a number of executions and returns the seconds per execution; `once`
/// is its approximate time.
///
/// # Errors
/// If `time` fails.
pub fn runs(once: f64, seconds: f64, mut time: impl FnMut(usize) -> Result<f64>) -> Result<Timing> {
    let start = Instant::now();
    let executions = (RUN.min(seconds / RUNS as f64) / once.max(1e-9)) as usize;
    let executions = executions.clamp(1, MOST);
    let mut samples = Vec::with_capacity(RUNS);
    while samples.len() < RUNS {
        let run = Instant::now();
        samples.push(time(executions)?);
        if (start.elapsed() + run.elapsed()).as_secs_f64() > seconds {
            break;
        }
    }
    summary(samples)
}

fn summary(samples: Vec<f64>) -> Result<Timing> {
    Timing::of(samples).ok_or_else(|| Error::failed("nothing was timed; please report this"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_quartiles_are_computed_from_the_samples() {
        let t = Timing::of(vec![9.0, 1.0, 2.0, 4.0, 3.0]).unwrap();
        assert_eq!((t.median, t.min, t.max, t.repetitions), (3.0, 1.0, 9.0, 5));
        // Quartiles 2 and 4.
        assert!((t.spread.unwrap() - 2.0 / 3.0).abs() < 1e-12);
        let t = Timing::of(vec![2.0, 4.0]).unwrap();
        assert_eq!((t.median, t.spread), (3.0, Some(1.0 / 3.0)));
        let t = Timing::of(vec![2.0]).unwrap();
        assert_eq!((t.spread, t.last_over_first), (None, None));
        assert_eq!(Timing::of(vec![]), None);
    }

    #[test]
    fn the_last_sample_is_compared_with_the_first_in_the_order_of_time() {
        let ratio = |samples: &[f64]| Timing::of(samples.to_vec()).unwrap().last_over_first;
        assert_eq!(ratio(&[2.0, 9.0, 1.0, 3.0]), Some(1.5));
        assert_eq!(ratio(&[3.0, 1.0, 9.0, 2.0]), Some(2.0 / 3.0));
    }

    #[test]
    fn five_runs_are_made_and_fewer_where_the_time_ends() {
        let mut executions = Vec::new();
        let t = runs(0.1, 50.0, |n| {
            executions.push(n);
            Ok(executions.len() as f64)
        });
        let t = t.unwrap();
        assert_eq!((t.min, t.median, t.max, t.repetitions), (1.0, 3.0, 5.0, 5));
        assert_eq!((t.last_over_first, &executions[..]), (Some(5.0), [10; 5].as_slice()));

        // Executions longer than a run are timed one by one, very short ones in bounded numbers.
        let executions_of = |once| {
            let mut made = 0;
            runs(once, 50.0, |n| {
                made = n;
                Ok(1.0)
            })
            .unwrap();
            made
        };
        assert_eq!([3.0, 1e-9].map(executions_of), [1, MOST]);

        let sleep = |_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            Ok(0.02)
        };
        assert!((1..RUNS).contains(&runs(0.02, 0.05, sleep).unwrap().repetitions));
        assert_eq!(runs(0.02, 0.0, sleep).unwrap().repetitions, 1);
        assert!(runs(0.02, 1.0, |_| Err(Error::failed("lost"))).is_err());
    }

    #[test]
    fn one_outlier_moves_neither_median_nor_spread() {
        let samples = |last: f64| {
            Timing::of((0..19).map(f64::from).map(|i| 1.0 + i * 0.001).chain([last]).collect())
                .unwrap()
        };
        let (calm, disturbed) = (samples(1.02), samples(50.0));
        assert_eq!((calm.median, calm.spread), (disturbed.median, disturbed.spread));
        assert!(disturbed.max > 40.0 && calm.max < 2.0);
    }

    #[test]
    fn samples_end_with_the_time_or_the_count_and_short_runs_are_timed_together() {
        let device = Device::flex();
        let effort = |seconds, most| Effort { seconds, most, together: 8 };
        let sleep = |()| std::thread::sleep(std::time::Duration::from_millis(4));
        let t = measure(&device, effort(10.0, 3), 4e-3, || (), sleep).unwrap();
        assert!(t.repetitions == 3 && t.min >= 4e-3, "{t:?}");
        assert_eq!(measure(&device, effort(0.0, 3), 4e-3, || (), sleep).unwrap().repetitions, 1);
        let mut runs = 0;
        measure(&device, effort(10.0, 2), 1e-6, || (), |()| runs += 1).unwrap();
        assert_eq!(runs, 16);
    }
}
