//! The plan of a benchmark: what is measured, in which order, and how the budget is divided.

use super::row::{Place, Row};
use std::fmt;
use std::str::FromStr;

/// The measurements to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Single kernels, compared with the device's peaks.
    Kernels,
    /// Training steps.
    Step,
    /// Encoder, denoiser, sampling.
    Inference,
    /// The view pipeline.
    Data,
    /// The host time of work on a device that takes no time.
    Host,
    /// Everything except the host time.
    All,
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "kernels" => Self::Kernels,
            "step" => Self::Step,
            "inference" => Self::Inference,
            "data" => Self::Data,
            "host" => Self::Host,
            "all" => Self::All,
            _ => return Err("expected kernels, step, inference, data, host or all".into()),
        })
    }
}

/// The size of a training step's networks and batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Both networks at this many base channels, batch 16.
    Width(usize),
    /// configs/cifar10.toml: encoder 64, denoiser 128, batch 256.
    Paper,
    /// The sizes of the user's recipe, see [`super::job::Job::with_recipe`].
    Recipe,
}

/// The measurements of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Training steps.
    Step(Size),
    /// Encoder, denoiser, sampling.
    Inference,
    /// Single kernels.
    Kernels,
    /// The view pipeline.
    Data,
    /// The host time.
    Host,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Step(Size::Width(width)) => write!(f, "step:{width}"),
            Self::Step(Size::Paper) => f.write_str("step:paper"),
            Self::Step(Size::Recipe) => f.write_str("step:recipe"),
            Self::Inference => f.write_str("inference"),
            Self::Kernels => f.write_str("kernels"),
            Self::Data => f.write_str("data"),
            Self::Host => f.write_str("host"),
        }
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [32, 64].map(|w| Self::Step(Size::Width(w)));
        let all = all.into_iter().chain([
            Self::Step(Size::Paper),
            Self::Step(Size::Recipe),
            Self::Inference,
            Self::Kernels,
            Self::Data,
            Self::Host,
        ]);
        all.into_iter()
            .find(|g| g.to_string() == text)
            .ok_or_else(|| "expected a job such as step:32 or kernels".into())
    }
}

impl Group {
    fn suite(self) -> Suite {
        match self {
            Self::Step(_) => Suite::Step,
            Self::Inference => Suite::Inference,
            Self::Kernels => Suite::Kernels,
            Self::Data => Suite::Data,
            Self::Host => Suite::Host,
        }
    }

    /// Returns whether it measures networks, which compute in the requested precision.
    pub fn has_networks(self) -> bool {
        matches!(self, Self::Step(_) | Self::Inference | Self::Host)
    }

    /// Returns a human-readable name.
    pub fn describe(self) -> String {
        match self {
            Self::Step(Size::Width(width)) => format!("training step, width {width}"),
            Self::Step(Size::Paper) => "training step, paper size".into(),
            Self::Step(Size::Recipe) => "training step of the recipe".into(),
            Self::Inference => "inference".into(),
            Self::Kernels => "kernels".into(),
            Self::Data => "view pipeline".into(),
            Self::Host => "host time".into(),
        }
    }
}

/// A device to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The place of its rows.
    pub place: Place,
    /// Whether it is real graphics hardware.
    pub gpu: bool,
}

/// A planned process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The device.
    pub target: Target,
    /// The measurements.
    pub group: Group,
}

impl Planned {
    /// Returns the relative weight of this job in the budget.
    fn weight(&self) -> f64 {
        if !self.target.gpu && self.target.place.device != "cpu" {
            // A software adapter takes most of a minute for its first steps, and most of the
            // inference group doesn't fit.
            return match self.group {
                Group::Step(Size::Width(..=32)) => 15.0,
                Group::Kernels => 9.0,
                _ => 4.0,
            };
        }
        match self.group {
            Group::Step(Size::Width(..=32)) => 2.0,
            Group::Step(Size::Width(_)) | Group::Kernels => 3.0,
            Group::Step(Size::Paper | Size::Recipe) => 4.0,
            Group::Inference | Group::Host => 5.0,
            Group::Data => 0.8,
        }
    }
}

/// The step that gives one comparable result for each device.
const FIRST: Group = Group::Step(Size::Width(32));

/// Returns the jobs of `suite` on `targets`, in order: the smallest training step of every target,
/// then the rest, target by target; the view pipeline once, on the CPU `cpu`.
pub fn jobs(targets: &[Target], cpu: &Target, suite: Suite) -> Vec<Planned> {
    let wanted = |group: &Group| suite == Suite::All || group.suite() == suite;
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for target in targets {
        let mut groups =
            vec![FIRST, Group::Inference, Group::Kernels, Group::Step(Size::Width(64))];
        if target.gpu {
            groups.push(Group::Step(Size::Paper));
        }
        if suite == Suite::Host {
            // At paper size: only on a GPU, or where nothing is computed.
            groups = if target.gpu { vec![Group::Host] } else { Vec::new() };
        }
        for group in groups.into_iter().filter(wanted) {
            let jobs = if group == FIRST { &mut first } else { &mut rest };
            jobs.push(Planned { target: target.clone(), group });
        }
    }
    if wanted(&Group::Data) {
        // After the CPU's other jobs.
        let at = rest.iter().rposition(|j| j.target == *cpu).map_or(0, |last| last + 1);
        rest.insert(at, Planned { target: cpu.clone(), group: Group::Data });
    }
    first.extend(rest);
    first
}

/// Returns the jobs that measure a step of the user's recipe on each of `targets`.
pub fn of_recipe(targets: &[Target]) -> Vec<Planned> {
    let group = Group::Step(Size::Recipe);
    targets.iter().map(|target| Planned { target: target.clone(), group }).collect()
}

/// Returns the first job's part of the `left` seconds for all of `jobs`. Time that a job doesn't
/// use is left for those after it. The first steps of the devices get at least half of the time, so
/// that a small budget is enough for them.
pub fn share(left: f64, jobs: &[Planned]) -> f64 {
    let Some(job) = jobs.first() else { return 0.0 };
    let (first, rest): (Vec<_>, Vec<_>) = jobs.iter().partition(|job| job.group == FIRST);
    let [first, rest] = [first, rest].map(|jobs| jobs.iter().map(|job| job.weight()).sum::<f64>());
    let all = if job.group == FIRST { first + rest.min(first) } else { first + rest };
    left * job.weight() / all
}

/// Predicts the seconds that `job` needs, from the smaller step in `rows` on the same device;
/// returns `None` if it isn't a step or there is no such row.
pub fn prediction(job: &Planned, rows: &[Row]) -> Option<f64> {
    // The ratio of multiplications to those of the smaller step: twice the width; the paper's
    // denoiser and batch.
    let (smaller, factor) = match job.group {
        Group::Step(Size::Width(64)) => (32, 3.0),
        Group::Step(Size::Paper) => (64, 40.0),
        _ => return None,
    };
    let row = rows.iter().find(|r| {
        r.op == "train_step" && r.place == job.target.place && r.width == Some(smaller)
    })?;
    let cold = row.cold_start_s?;
    Some(match row.median_ms {
        Some(median) => cold + factor * median / 1e3,
        None => factor * cold,
    })
}

#[cfg(test)]
mod tests;
