//! A full training step on random images: encoder, forward process, denoiser, backward pass,
//! gradient clipping, AdamW, EMA; the loss is read back.

use super::job::Job;
use super::plan::Size;
use super::recipe::noise;
use super::row::{Message, ProfileRow, Row, Skipped};
use super::timing::runs;
use crate::config::Config;
use crate::diffusion::Schedule;
use crate::error::{Error, Hint, Result};
use crate::kernels::profile::observe;
use crate::model::parameters;
use crate::train::checkpoint::State;
use crate::train::step::{Pair, step};
use burn::module::Module;
use burn::tensor::Device;
use std::time::Instant;

/// The time limits for warmup and for timed steps, in seconds.
const WARM_UP: f64 = 1.0;
const ENOUGH: f64 = 12.0;

/// Training, one step at a time.
pub(super) struct Training {
    device: Device,
    config: Config,
    schedule: Schedule,
    source: Vec<f32>,
    target: Vec<f32>,
    /// Always `Some` between two steps.
    state: Option<State>,
    number: u64,
}

impl Training {
    /// Starts training `config` on `device`, with random images.
    pub(super) fn new(config: Config, device: &Device) -> Self {
        let [source, target] = noise(config.model.sides, config.train.batch_size);
        let (schedule, state) = (Schedule::new(&config.diffusion), State::new(&config, "", device));
        Self {
            device: device.clone(),
            config,
            schedule,
            source,
            target,
            state: Some(state),
            number: 0,
        }
    }

    /// Returns the number of trainable parameters.
    fn parameters(&self) -> Option<usize> {
        self.state.as_ref().map(|state| parameters::count(&state.model.valid()))
    }

    /// Makes one step; returns its loss.
    pub(super) fn advance(&mut self) -> Result<Vec<f32>> {
        let state = self
            .state
            .take()
            .ok_or_else(|| Error::failed("a step failed before; please report this"))?;
        self.number += 1;
        let pair = Pair::new(
            self.config.model.sides,
            self.source.clone(),
            self.target.clone(),
            None,
            &self.device.clone().autodiff(),
        );
        let (state, outcome) = step(state, pair, &self.schedule, &self.config, self.number, 1e-4);
        self.state = Some(state);
        let loss = outcome.loss.try_into_vec_as::<f32>();
        loss.map_err(|e| Error::failed(format!("the device failed ({e}); {}", Hint::OtherDevice)))
    }

    /// Makes one step; returns its seconds.
    fn step(&mut self) -> Result<f64> {
        let clock = Instant::now();
        let loss = self.advance()?;
        if !loss.iter().all(|v| v.is_finite()) {
            return Err(Error::failed(format!(
                "the loss is {loss:?} at step {}: this device computes wrongly",
                self.number
            )));
        }
        Ok(clock.elapsed().as_secs_f64())
    }

    /// Checks that the device has done all steps so far: leaving one out would be fast.
    fn check(&mut self) -> Result<()> {
        self.state.as_mut().map_or(Ok(()), |state| state.tally.check())
    }
}

/// Measures the cold start, then timed steps, then the launches of one step, and sends each result
/// as soon as it is known.
///
/// # Errors
/// If the device was lost or computes wrongly.
pub(super) fn run(job: &mut Job, size: Size) -> Result<()> {
    let config = job.recipe(size)?;
    let batch = config.train.batch_size;
    let network = job.network("train_step", config.model.unet.base, batch);
    let mut row = Row { variant: job.recipe_name(size), ..network };
    let name = row.name();
    job.planned(vec![name.clone()])?;
    let mut training = Training::new(config, &job.device);
    row.parameters = training.parameters();

    let mut last = training.step()?;
    row.cold_start_s = Some(job.started.elapsed().as_secs_f64());
    job.row(row.clone())?;

    let clock = Instant::now();
    while training.number < 3
        && clock.elapsed().as_secs_f64() + last < WARM_UP.min(job.left() / 4.0)
    {
        last = training.step()?;
    }
    if !job.fits(&format!("{name}: steps after the first"), last * 0.9)? {
        return Ok(());
    }
    // Time is reserved for the last steps, which count launches and make the profile.
    let observed = if job.profile { 2.0 } else { 1.0 };
    let timing = runs(last, ENOUGH.min(job.left() - observed * last), |steps| {
        let mut seconds = 0.0;
        for _ in 0..steps {
            seconds += training.step()?;
        }
        Ok(seconds / steps as f64)
    })?;
    training.check()?;
    last = timing.median;
    row.timed(&timing);
    row.images_per_s = Some(batch as f64 / timing.median);
    job.row(row.clone())?;

    if !job.fits(&format!("{name}: launches"), last * 0.9)? {
        return Ok(());
    }
    let (done, counted) = observe(false, || training.step());
    done?;
    row.launches = Some(counted.launches());
    job.row(row)?;
    if job.profile {
        // The step is slower, as the host waits for every kernel.
        let device = job.place.device.clone();
        if job.left() < last {
            let reason = format!("the budget is used up; {}", Hint::Budget(None));
            return job.send(&Message::Skipped(Skipped {
                device,
                op: format!("{name}: profile"),
                reason,
            }));
        }
        let (wall, profile) = observe(true, || training.step());
        job.send(&Message::Profile(ProfileRow::new(name, &job.place, wall?, &profile)))?;
    }
    Ok(())
}
