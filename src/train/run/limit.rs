//! The time limit of a call, which includes its closing work.

use super::due::Work;
use super::pace::Pace;
use super::pictures::Picture;
use crate::config::{Config, Guidance};
use crate::data::Dataset;
use crate::data::split::selection_split;
use crate::error::Hint;
use crate::eval::validation::is_scored;
use crate::train::plan::Plan;
use crate::units::{about, grouped};
use std::time::{Duration, Instant};

/// The fraction of the limit that may be used by the closing picture, which can be reduced, and by
/// the scores, which are left out if they take longer.
const SHARE: f64 = 0.25;
/// How late a call may end: a fraction of the limit, and seconds. Estimates use half of it.
const LATE: (f64, f64) = (0.1, 20.0);
/// The assumed speed of a disk in bytes per second, until a checkpoint has been written.
const DISK: f64 = 100e6;

/// The time limit of a call. Times are in seconds.
pub(super) struct Limit {
    allowed: Option<f64>,
    began: Instant,
    last_step: u64,
    /// The full closing picture.
    whole: Picture,
    /// The number of forward passes for one image of the picture.
    passes: usize,
    /// The number of forward passes for scores.
    scores: usize,
    /// The cost of a forward pass in steps: at most a third of the training of one image.
    pass: f64,
    /// The measured time of a forward pass for pictures, and for scores.
    measured: [Option<f64>; 2],
    /// The time of writing a checkpoint.
    checkpoint: f64,
}

impl Limit {
    /// Makes a limit that counts from `began`.
    pub fn new(
        allowed: Option<Duration>,
        began: Instant,
        config: &Config,
        data: &Dataset,
        plan: &Plan,
    ) -> Self {
        let (train, sample) = (&config.train, &config.sample);
        let evaluations = match &sample.guidance {
            Guidance::Whole(w) => 1 + usize::from(*w != 0.0),
            Guidance::Sections(w) => 1 + w.iter().filter(|w| **w != 0.0).count(),
        };
        let scores = if is_scored(train, data) {
            let (fitted_on, held_out) = selection_split(data.train.labels());
            let most = if train.evaluate_images > 0 { train.evaluate_images } else { usize::MAX };
            fitted_on.len().min(most) + held_out.len()
        } else {
            0
        };
        Self {
            allowed: allowed.map(|limit| limit.as_secs_f64()),
            began,
            last_step: train.steps as u64,
            whole: Picture::closing(config, data),
            passes: sample.steps * evaluations,
            scores,
            pass: 1.0 / (3 * train.batch_size) as f64,
            measured: [None; 2],
            checkpoint: plan.checkpoint / DISK,
        }
    }

    /// Notes that drawing `picture` took `time`.
    pub fn drew(&mut self, picture: Picture, time: Duration) {
        self.measured[Work::Picture as usize] =
            Some(time.as_secs_f64() / self.passes_of(picture).max(1) as f64);
    }

    /// Notes that scoring took `time`.
    pub fn scored(&mut self, time: Duration) {
        self.measured[Work::Scores as usize] = Some(time.as_secs_f64() / self.scores.max(1) as f64);
    }

    /// Notes that writing a checkpoint took `time`.
    pub fn saved(&mut self, time: Option<Duration>) {
        self.checkpoint = time.map_or(self.checkpoint, |time| time.as_secs_f64());
    }

    fn elapsed(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Returns the number of forward passes for `picture`.
    fn passes_of(&self, picture: Picture) -> usize {
        picture.drawn * self.passes + picture.fitted
    }

    /// Returns the time of a forward pass in `work`.
    fn pass(&self, work: Work, pace: &Pace) -> f64 {
        self.measured[work as usize].unwrap_or_else(|| self.pass * pace.seconds().unwrap_or(0.0))
    }

    /// Returns the time that `work` takes.
    fn cost(&self, work: Work, pace: &Pace) -> f64 {
        let passes = match work {
            Work::Picture => self.passes_of(self.whole),
            Work::Scores => self.scores,
        };
        passes as f64 * self.pass(work, pace)
    }

    /// Returns the time reserved for the work after the last step.
    fn closing(&self, pace: &Pace, allowed: f64) -> f64 {
        let most = SHARE * allowed;
        let scores = self.cost(Work::Scores, pace);
        self.checkpoint
            + self.cost(Work::Picture, pace).min(most)
            + if scores > most { 0.0 } else { scores }
    }

    /// Returns the fraction of its time that a call has used, from 0 to 1; 0 without a limit.
    pub fn share(&self, pace: &Pace) -> f64 {
        self.allowed.map_or(0.0, |allowed| {
            // A first step that compiles shaders says nothing about the closing work. The share
            // never decreases, so it must not begin too large.
            let closing = if pace.is_warming_up() { 0.0 } else { self.closing(pace, allowed) };
            (self.elapsed() / (allowed - closing).max(1e-3)).clamp(0.0, 1.0)
        })
    }

    /// Checks whether no other step fits after the `due` work.
    pub fn is_over(&self, pace: &Pace, due: &[Work]) -> bool {
        let Some(allowed) = self.allowed else { return false };
        // Compile time isn't needed again, so the second step may use the time by which a call may
        // be late.
        let late = if pace.is_warming_up() { LATE.0 * allowed + LATE.1 } else { 0.0 };
        let due: f64 = due.iter().map(|work| self.cost(*work, pace)).sum();
        self.elapsed() + due + pace.seconds().unwrap_or(0.0) + self.closing(pace, allowed)
            > allowed + late
    }

    /// Returns the seconds left for work after the last step.
    fn spare(&self, allowed: f64) -> f64 {
        allowed + 0.5 * (LATE.0 * allowed + LATE.1) - self.elapsed()
    }

    /// Returns the closing picture that there is time for. To save time, the linear decoder is
    /// fitted to fewer images first, and then fewer images are drawn.
    pub fn picture(&self, pace: &Pace) -> Picture {
        let spare = self.allowed.map_or(f64::INFINITY, |allowed| self.spare(allowed).max(0.0));
        let passes = (spare / self.pass(Work::Picture, pace).max(1e-12)) as usize;
        let Picture { drawn, fitted } = self.whole;
        let fitted =
            passes.saturating_sub(drawn * self.passes).clamp(fitted.min(Picture::FEWEST), fitted);
        let drawn = drawn.min(passes.saturating_sub(fitted) / self.passes.max(1));
        // A single image shows little.
        if drawn < 2 { Picture::default() } else { Picture { drawn, fitted } }
    }

    /// Checks whether there is time for closing scores.
    pub fn scores_fit(&self, pace: &Pace) -> bool {
        let cost = self.cost(Work::Scores, pace);
        self.allowed.is_none_or(|allowed| cost <= SHARE * allowed && cost <= self.spare(allowed))
    }

    /// Describes the time that `work` takes: "about 6 minutes".
    pub fn about(&self, work: Work, pace: &Pace) -> String {
        about(Duration::from_secs_f64(self.cost(work, pace)))
    }

    /// Returns the message that the limit ends the run at `step`.
    pub fn ends(&self, step: u64) -> String {
        format!(
            "{} ends the run at step {} of {}",
            self.name(),
            grouped(step),
            grouped(self.last_step)
        )
    }

    /// Returns the limit in the words of the program.
    pub fn name(&self) -> String {
        // Rounded to the number of minutes that was given, without the error of the conversion.
        self.allowed.map_or(String::new(), |allowed| {
            Hint::TimeLimit((1e6 * allowed / 60.0).round() / 1e6).to_string()
        })
    }

    /// Returns the seconds from `step` to the last step, and whether the limit comes before the
    /// last step of the recipe.
    fn left(&self, step: u64, pace: &Pace) -> (f64, bool) {
        let by_steps = self.last_step.saturating_sub(step) as f64 * pace.seconds().unwrap_or(0.0);
        let by_time = self
            .allowed
            .map_or(f64::INFINITY, |a| (a - self.closing(pace, a) - self.elapsed()).max(0.0));
        (by_steps.min(by_time).min(1e11), by_time < by_steps)
    }

    /// Describes the time left after `step`: "about 3 hours left". Names the limit if that ends the
    /// run.
    pub fn time_left(&self, step: u64, pace: &Pace) -> String {
        let (seconds, by_time) = self.left(step, pace);
        let why = if by_time { format!(" ({})", self.name()) } else { String::new() };
        format!("{} left{why}", about(Duration::from_secs_f64(seconds)))
    }

    /// Describes what is left after `step`: "about 3 hours to step 80,000", or the step near which
    /// the limit ends the run.
    pub fn to_go(&self, step: u64, pace: &Pace) -> String {
        let (seconds, by_time) = self.left(step, pace);
        let (time, last) = (about(Duration::from_secs_f64(seconds)), grouped(self.last_step));
        match (by_time, pace.seconds()) {
            (true, Some(each)) => {
                let reached = step + (seconds / each) as u64;
                format!(
                    "{time} to the end ({}), near step {} of {last}",
                    self.name(),
                    grouped(reached)
                )
            }
            _ => format!("{time} to step {last}"),
        }
    }

    /// Returns the message at the start if one step takes longer than the time left.
    pub fn too_short(&self, pace: &Pace) -> Option<String> {
        let (allowed, step, name) = (self.allowed?, pace.seconds()?, self.name());
        if step > allowed {
            let time = about(Duration::from_secs_f64(step));
            return Some(format!(
                "one step takes {time}, longer than {name} allows: training takes one step and ends"
            ));
        }
        (self.elapsed() + step > allowed)
            .then(|| format!("the start has used up {name}: training takes one step and ends"))
    }
}

#[cfg(test)]
mod tests;
