//! A check of the estimates against a device of this machine: shares are measured on a step of one
//! width, steps of other widths are estimated from them, and measured as well.

use super::super::job::Job;
use super::super::peaks::{self, Peaks};
use super::super::plan::Size;
use super::super::recipe::recipe;
use super::super::timing::Timing;
use crate::device::Selected;
use crate::error::{Error, Result};
use crate::kernels::precision::Precision;
use crate::kernels::profile::{Profile, observe};
use crate::kernels::record::{BURN, Recording, record_running};
use crate::train::trial::{Trial, recorded};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// The number of timed steps, of which the median counts, and the seconds after which no more are
/// started.
const STEPS: usize = 5;
const ENOUGH: f64 = 12.0;

/// One kernel of a step, estimated and measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelCheck {
    /// Its name in profiles.
    pub name: String,
    /// The launches recorded and the launches made.
    pub launches: [u64; 2],
    /// The estimated time in milliseconds.
    pub estimated_ms: f64,
    /// The measured time in milliseconds.
    pub measured_ms: f64,
    /// Its fraction of the measured time of all kernels.
    pub part: f64,
}

/// A step of one width, estimated and measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WidthCheck {
    /// Base channels of both networks.
    pub width: usize,
    /// Whether the shares were measured on it.
    pub tuned: bool,
    /// The estimated time in milliseconds.
    pub estimated_ms: f64,
    /// The measured median time in milliseconds.
    pub measured_ms: f64,
    /// The peak of live bytes, counted without computing; 0 on the CPU.
    pub live_bytes: u64,
    /// The peak of live bytes of a real step, according to the allocator.
    pub used_bytes: u64,
    /// The kernels, by decreasing measured time.
    pub kernels: Vec<KernelCheck>,
}

/// A step, recorded and measured.
struct Measured {
    recording: Recording,
    used_bytes: u64,
    /// Launches and seconds, by kernel.
    kernels: BTreeMap<&'static str, (u64, f64)>,
    step: f64,
}

/// The parameters of a device, fitted on the step of one width.
struct Tuned {
    peaks: Peaks,
    /// The time of each kernel over the time it needs at the peaks.
    slowness: BTreeMap<&'static str, f64>,
    /// Seconds per launch in addition to those of its kernel.
    launch: f64,
}

/// Measures steps of `widths` on `device`. The shares come from the first width and serve to
/// estimate all of them.
///
/// # Errors
/// If the device fails.
pub fn check(
    device: &Selected,
    widths: &[usize],
    mut before: impl FnMut(usize),
) -> Result<Vec<WidthCheck>> {
    let mut job = Job::new(device, Precision::F32, Instant::now(), 1e6, true, Box::new(|_| Ok(())));
    let peaks = peaks::run(&mut job, 2.0)?;
    let mut tuned = None;
    let mut all = Vec::new();
    for width in widths {
        before(*width);
        let measured = measure(device, *width)?;
        let first = tuned.is_none();
        let tuned = tuned.get_or_insert_with(|| Tuned::by(peaks, &measured));
        all.push(tuned.compare(*width, first, &measured));
    }
    Ok(all)
}

fn measure(device: &Selected, width: usize) -> Result<Measured> {
    let config = recipe(Size::Width(width))?;
    let mut trial = Trial::new(&config, device);
    let mut step = || trial.step(config.train.batch_size).map(|took| took.as_secs_f64());
    step()?;
    let mut last = step()?;
    let (clock, mut times) = (Instant::now(), Vec::new());
    while times.len() < STEPS && (times.is_empty() || clock.elapsed().as_secs_f64() + last < ENOUGH)
    {
        last = step()?;
        times.push(last);
    }
    let median = Timing::of(times).map_or(last, |timing| timing.median);
    let (clock, mut profiles) = (Instant::now(), Vec::new());
    while profiles.len() < STEPS
        && (profiles.is_empty() || clock.elapsed().as_secs_f64() + last < ENOUGH)
    {
        let (done, profile) = observe(true, &mut step);
        last = done?;
        profiles.push(profile);
    }
    let (done, running) = record_running(|| (), |()| step());
    done?;
    // On the CPU backend, recorded launches also run.
    let used_bytes = running.used_bytes;
    let recording = match &device.adapter {
        Some(adapter) => recorded(&config, device, adapter.profile.clone())?,
        None => running,
    };
    let names: Vec<&'static str> =
        recording.launches.iter().map(|launch| launch.name).filter(|name| *name != BURN).collect();
    let kernels = medians(&profiles, &names);
    if kernels.is_empty() {
        return Err(Error::failed("no kernel of a step was seen; please report this"));
    }
    Ok(Measured { recording, used_bytes, kernels, step: median })
}

/// Returns launches and median seconds of the kernels of one step; kernels that aren't among
/// `names` are summed up as Burn's.
fn medians(profiles: &[Profile], names: &[&'static str]) -> BTreeMap<&'static str, (u64, f64)> {
    let mut all: BTreeMap<&'static str, (u64, Vec<f64>)> = BTreeMap::new();
    for (i, profile) in profiles.iter().enumerate() {
        for (name, kernel) in &profile.kernels {
            let name = names.iter().find(|ours| *ours == name).copied().unwrap_or(BURN);
            let (launches, seconds) = all.entry(name).or_default();
            seconds.resize(profiles.len(), 0.0);
            seconds[i] += kernel.time.as_secs_f64();
            *launches += kernel.launches;
        }
    }
    let steps = profiles.len().max(1) as u64;
    let medians = all.into_iter().map(|(name, (launches, seconds))| {
        let median = Timing::of(seconds).map_or(0.0, |timing| timing.median);
        (name, (launches / steps, median))
    });
    medians.collect()
}

/// Returns the number of launches of each kernel, and the seconds that they need at the peaks.
fn at_peaks(recording: &Recording, peaks: Peaks) -> BTreeMap<&'static str, (u64, f64)> {
    let mut all: BTreeMap<&'static str, (u64, f64)> = BTreeMap::new();
    for launch in &recording.launches {
        let (launches, seconds) = all.entry(launch.name).or_default();
        *launches += launch.launches;
        *seconds += peaks.seconds(launch.work.bytes, launch.work.operations);
    }
    all
}

impl Tuned {
    fn by(peaks: Peaks, measured: &Measured) -> Self {
        let ideal = at_peaks(&measured.recording, peaks);
        let slowness =
            ideal.iter().filter(|(_, (_, seconds))| *seconds > 0.0).map(|(name, (_, seconds))| {
                let took = measured.kernels.get(name).map_or(0.0, |(_, took)| *took);
                (*name, took / seconds)
            });
        let kernels: f64 = measured.kernels.values().map(|(_, seconds)| seconds).sum();
        // Can be negative: kernels may take longer when the host waits for each of them.
        let launch = (measured.step - kernels) / measured.recording.count() as f64;
        Self { peaks, slowness: slowness.collect(), launch }
    }

    fn compare(&self, width: usize, tuned: bool, measured: &Measured) -> WidthCheck {
        let ideal = at_peaks(&measured.recording, self.peaks);
        let all: f64 = measured.kernels.values().map(|(_, seconds)| seconds).sum();
        let mut kernels: Vec<KernelCheck> = ideal
            .iter()
            .map(|(name, (launches, seconds))| {
                let (made, took) = measured.kernels.get(name).copied().unwrap_or_default();
                KernelCheck {
                    name: (*name).to_owned(),
                    launches: [*launches, made],
                    estimated_ms: 1e3
                        * self.slowness.get(name).map_or(0.0, |slowness| slowness * seconds),
                    measured_ms: 1e3 * took,
                    part: took / all,
                }
            })
            .collect();
        kernels.sort_by(|a, b| b.measured_ms.total_cmp(&a.measured_ms));
        let launching = 1e3 * self.launch * measured.recording.count() as f64;
        WidthCheck {
            width,
            tuned,
            estimated_ms: kernels.iter().map(|kernel| kernel.estimated_ms).sum::<f64>() + launching,
            measured_ms: 1e3 * measured.step,
            live_bytes: measured.recording.live_bytes,
            used_bytes: measured.used_bytes,
            kernels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::profile::Kernel;
    use crate::kernels::record::Launch;
    use crate::kernels::work::Work;
    use std::time::Duration;

    fn measured(launches: u64, operations: f64, seconds: f64, step: f64) -> Measured {
        let launch = Launch {
            name: "a kernel",
            shader: None,
            work: Work { bytes: 1.0, operations },
            launches: 1,
        };
        let recording =
            Recording { launches: vec![launch; launches as usize], ..Recording::default() };
        Measured {
            recording,
            used_bytes: 0,
            kernels: [("a kernel", (launches, seconds))].into(),
            step,
        }
    }

    #[test]
    fn kernels_take_the_median_of_the_steps_and_burns_are_summed_up() {
        let step = |ours: u64, first: u64, second: u64| {
            let of = |ms| Kernel { launches: 2, time: Duration::from_millis(ms) };
            let kernels = [("a kernel", ours), ("reduce", first), ("cast", second)];
            Profile {
                kernels: kernels.map(|(name, ms)| (name.to_owned(), of(ms))).into(),
                ..Profile::default()
            }
        };
        let medians = medians(&[step(10, 1, 2), step(500, 3, 3), step(20, 1, 4)], &["a kernel"]);
        assert_eq!(medians, [("a kernel", (2, 0.02)), (BURN, (4, 0.005))].into());
    }

    #[test]
    fn the_estimate_of_the_tuned_step_equals_its_measurement() {
        let first = measured(10, 100.0, 2.0, 3.0);
        let tuned = Tuned::by(Peaks { bytes: 10.0, flops: 1000.0 }, &first);
        // 0.1 s per launch at the peaks, 0.2 s measured, and 0.1 s of the host.
        assert!(
            (tuned.slowness["a kernel"] - 2.0).abs() < 1e-12 && (tuned.launch - 0.1).abs() < 1e-12
        );
        let same = tuned.compare(32, true, &first);
        assert!(
            (same.estimated_ms - 3000.0).abs() < 1e-6 && same.measured_ms == 3000.0,
            "{same:?}"
        );
        // Half as many launches with twice the operations.
        let other = tuned.compare(64, false, &measured(5, 200.0, 1.0, 9.0));
        assert!((other.estimated_ms - 2500.0).abs() < 1e-6, "{other:?}");
        assert_eq!((other.kernels[0].launches, other.kernels[0].measured_ms), ([5, 5], 1000.0));
    }
}
