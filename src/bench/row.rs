//! The reports of a benchmark: rows, skipped measurements and profiles. Unknown values are `None`
//! (null in JSON), never 0.

use super::timing::{RUNS, Timing};
use crate::kernels::profile::Profile;
use serde::{Deserialize, Serialize};

/// The device that a row was measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The device's selector: "cpu", "vulkan:0".
    pub device: String,
    /// "flex" (Burn's CPU backend), "vulkan", "metal", "dx12" or "gl".
    pub backend: String,
    /// The name that the driver reports; for the CPU its threads.
    pub adapter: String,
    /// "cpu", "discrete GPU", "integrated GPU", "virtual GPU", "GPU of unknown kind" or "software,
    /// no GPU".
    pub kind: String,
    /// The adapter's driver and its version; `None` for the CPU.
    #[serde(default)]
    pub driver: Option<String>,
}

/// The ratio of the last run to the first from which a device counts as throttled.
const THROTTLED: f64 = 1.1;

/// CPU time of the host, medians in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The thread that launches. Includes the time it spends spinning when it is as far ahead of
    /// the device's thread as it may be.
    pub launching_ms: f64,
    /// All other threads, mainly the one that serves the device.
    pub serving_ms: f64,
}

/// One measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// "train_step", "encode", "denoise", "sample", "view_pairs", or a kernel such as
    /// "conv2d_forward".
    pub op: String,
    /// The device.
    #[serde(flatten)]
    pub place: Place,
    /// The shape of a kernel's input, `[B, C, H, W]` or `[N]`.
    pub shape: Option<Vec<usize>>,
    /// What else tells the case from others: a kernel's "3x3 to 64, stride 2", the sampler, or the
    /// user's recipe of a training step.
    pub variant: Option<String>,
    /// Base channels of the denoiser (of the encoder in `encode`).
    pub width: Option<usize>,
    /// The batch size.
    pub batch: Option<usize>,
    /// "f32", "f16" (for training steps, `train.precision = "mixed"`), or "f16-emulated" on the
    /// CPU.
    pub precision: String,
    /// The median time of one execution in milliseconds. A sample is the mean over a run, see
    /// [`super::timing::runs`], or over the executions between two waits for the device.
    pub median_ms: Option<f64>,
    /// The interquartile range over the median; see [`Timing::spread`].
    pub spread: Option<f64>,
    /// The fastest sample in milliseconds.
    pub min_ms: Option<f64>,
    /// The slowest sample in milliseconds.
    pub max_ms: Option<f64>,
    /// The number of timed samples.
    pub repetitions: Option<usize>,
    /// The last sample over the first; see [`Row::throttled`].
    pub last_over_first: Option<f64>,
    /// 1e9 bytes per second, counting the fewest bytes that the operation can move.
    pub gb_per_s: Option<f64>,
    /// 1e12 floating-point operations per second.
    pub tflops: Option<f64>,
    /// The time needed at the rates of this run's copy and multiply-adds over the time taken; above
    /// 1 where caches move data faster than the copy.
    pub share_of_peak: Option<f64>,
    /// Images per second.
    pub images_per_s: Option<f64>,
    /// Kernel launches of one run; on the CPU, calls of our own kernels.
    pub launches: Option<u64>,
    /// CPU time of one run, where that was measured.
    pub host: Option<Host>,
    /// Peak memory of the job in MiB: of the process on the CPU, else reserved on the device.
    pub peak_memory_mib: Option<f64>,
    /// Seconds from the start of the process to the end of the first run.
    pub cold_start_s: Option<f64>,
    /// Trainable parameters.
    pub parameters: Option<usize>,
}

impl Row {
    /// Returns a row without measurements.
    pub fn new(op: &str, place: &Place) -> Self {
        Self { op: op.into(), place: place.clone(), precision: "f32".into(), ..Self::default() }
    }

    /// Fills in the times.
    pub fn timed(&mut self, timing: &Timing) {
        self.median_ms = Some(timing.median * 1e3);
        self.spread = timing.spread;
        self.min_ms = Some(timing.min * 1e3);
        self.max_ms = Some(timing.max * 1e3);
        self.repetitions = Some(timing.repetitions);
        self.last_over_first = timing.last_over_first;
    }

    /// Returns how much slower the last run was than the first, as a fraction, if that is more than
    /// 10 % over all runs of a training step, of inference or of the view pipeline.
    pub fn throttled(&self) -> Option<f64> {
        self.images_per_s?;
        let ratio = self.last_over_first.filter(|ratio| *ratio > THROTTLED)?;
        self.repetitions.is_some_and(|runs| runs >= RUNS).then_some(ratio - 1.0)
    }

    /// Describes the case: "16x64x32x32 3x3 to 64" or "width 32, batch 16".
    pub fn case(&self) -> String {
        let shape = self
            .shape
            .as_ref()
            .map(|s| s.iter().map(usize::to_string).collect::<Vec<_>>().join("x"));
        let width = self.width.map(|w| format!("width {w}, batch {}", self.batch.unwrap_or(1)));
        let precision = (self.precision != "f32").then(|| self.precision.clone());
        let parts: Vec<String> =
            [shape, width, self.variant.clone(), precision].into_iter().flatten().collect();
        parts.join(" ")
    }

    /// Returns operation and case: "conv2d_forward 16x64x32x32 3x3 to 64".
    pub fn name(&self) -> String {
        format!("{} {}", self.op, self.case()).trim_end().to_owned()
    }

    /// Returns whether `other` measures the same case, possibly on another device or in another
    /// precision.
    pub fn same_case(&self, other: &Row) -> bool {
        let key = |r: &Row| (r.op.clone(), r.shape.clone(), r.variant.clone(), r.width, r.batch);
        key(self) == key(other)
    }
}

/// A planned measurement that wasn't made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The device, as in [`Place::device`].
    pub device: String,
    /// The name of the job or the row.
    pub op: String,
    /// The reason.
    pub reason: String,
}

/// Time and launches of one kernel in a [`ProfileRow`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelRow {
    /// The kernel.
    pub name: String,
    /// The number of launches.
    pub launches: u64,
    /// Their total time in milliseconds.
    pub ms: f64,
    /// Its fraction of the kernels' time; on the CPU, of the whole run's.
    pub share: f64,
}

/// The profile of one run, by kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileRow {
    /// The operation and its case.
    pub op: String,
    /// The device.
    #[serde(flatten)]
    pub place: Place,
    /// "device" (timestamp queries) or "host".
    pub clock: String,
    /// Milliseconds of the profiled run; on wgpu the host waits for each kernel.
    pub wall_ms: f64,
    /// On the CPU: the time outside our own kernels, in Burn's operations and on the host.
    pub other_ms: Option<f64>,
    /// The kernels, by decreasing time.
    pub kernels: Vec<KernelRow>,
}

impl ProfileRow {
    /// Builds it from the profile of a run of `wall` seconds.
    pub fn new(op: String, place: &Place, wall: f64, profile: &Profile) -> Self {
        let on_cpu = place.device == "cpu";
        let total = if on_cpu { wall } else { profile.time().as_secs_f64() };
        let mut kernels: Vec<KernelRow> = profile
            .kernels
            .iter()
            .map(|(name, k)| {
                let seconds = k.time.as_secs_f64();
                let share = if total > 0.0 { seconds / total } else { 0.0 };
                KernelRow { name: name.clone(), launches: k.launches, ms: seconds * 1e3, share }
            })
            .collect();
        kernels.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        let clock = if profile.device_clock && !on_cpu { "device" } else { "host" };
        let other_ms = on_cpu.then(|| (wall - profile.time().as_secs_f64()).max(0.0) * 1e3);
        Self {
            op,
            place: place.clone(),
            clock: clock.into(),
            wall_ms: wall * 1e3,
            other_ms,
            kernels,
        }
    }
}

/// One line of the output of a job's process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The names of the rows to come, so that the parent can name those missing if the job ends
    /// early.
    Planned(Vec<String>),
    /// A measurement, which replaces an earlier one of the same case.
    Row(Box<Row>),
    /// A measurement skipped by the job itself.
    Skipped(Skipped),
    /// A profile, with `--profile`.
    Profile(ProfileRow),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_throttled_if_the_last_of_five_runs_is_over_10_percent_slower() {
        let row = |samples: &[f64]| {
            let mut row = Row { images_per_s: Some(1.0), ..Row::default() };
            row.timed(&Timing::of(samples.to_vec()).expect("samples"));
            row
        };
        let slower = row(&[1.0, 1.0, 1.1, 1.2, 1.25]);
        assert_eq!(slower.throttled(), Some(0.25));
        assert_eq!(row(&[1.0, 1.0, 1.3, 1.0, 1.09]).throttled(), None, "a slow run in between");
        assert_eq!(row(&[1.25, 1.2, 1.0, 1.0, 1.0]).throttled(), None, "a slow start");
        assert_eq!(row(&[1.0, 1.25]).throttled(), None, "too few runs");
        assert_eq!(Row { images_per_s: None, ..slower }.throttled(), None, "a kernel");
    }
}
