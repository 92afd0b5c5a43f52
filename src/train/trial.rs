//! Trial steps on images of noise, which measure what a recipe costs on a device before training.

use super::checkpoint::State;
use super::step::{Outcome, Pair, step};
use crate::config::{Config, LossWeight, Sides};
use crate::data::bytes_of;
use crate::device::{Profile, Selected};
use crate::diffusion::Schedule;
use crate::error::{Error, Result};
use crate::kernels::record::{Recording, record};
use crate::rng::{self, Purpose};
use std::time::{Duration, Instant};

/// Networks for trial steps with any number of images.
pub struct Trial<'a> {
    config: &'a Config,
    device: &'a Selected,
    schedule: Schedule,
    /// `None` after a step that failed.
    state: Option<State>,
}

impl<'a> Trial<'a> {
    /// Starts from random weights for `config`.
    pub fn new(config: &'a Config, device: &'a Selected) -> Self {
        let state = Some(State::new(config, "", &device.device));
        Self { config, device, schedule: Schedule::new(&config.diffusion), state }
    }

    /// Takes one step of `images` images, waits until the device has done it, and returns its time.
    ///
    /// # Errors
    /// If the device fails or leaves out work, or the loss is impossible for a new network.
    pub fn step(&mut self, images: usize) -> Result<Duration> {
        let (clock, mut state, outcome) = self.launch(images)?;
        let loss = outcome
            .loss
            .try_into_scalar::<f32>()
            .map_err(|e| Error::device("trying a step", &e))?;
        // The loss is ready before the weights are.
        self.device.device.sync().map_err(|e| Error::device("trying a step", &e))?;
        let took = clock.elapsed();
        state.tally.check()?;
        plausible(loss, self.config)?;
        self.state = Some(state);
        Ok(took)
    }

    /// Launches a step without waiting for it; returns when it was launched, and its results.
    fn launch(&mut self, images: usize) -> Result<(Instant, State, Outcome)> {
        let config = self.config;
        let Sides { source, target } = config.model.sides;
        let noise = |side| {
            rng::normal(&mut rng::stream(config.seed, Purpose::Test, 0), images * bytes_of(side))
        };
        let (source, target) = (noise(source), noise(target));
        let view = config.model.unet.view_conditioning.then(|| vec![0.0; images * 4]);
        let state = self
            .state
            .take()
            .ok_or_else(|| Error::failed("a step failed before; please report this"))?;
        let clock = Instant::now();
        let number = state.position.step + 1;
        let pair = Pair::new(
            config.model.sides,
            source,
            target,
            view,
            &self.device.device.clone().autodiff(),
        );
        let (state, outcome) = step(state, pair, &self.schedule, config, number, 1e-4);
        Ok((clock, state, outcome))
    }
}

/// Records the second step of `config` on `adapter`, with the whole batch and kernels for
/// `profile`. (The first step allocates the moments of the optimizer.) Nothing is computed:
/// meanwhile all launches of this process are skipped.
///
/// # Errors
/// If the device fails.
pub fn recorded(config: &Config, adapter: &Selected, profile: Profile) -> Result<Recording> {
    let images = config.train.batch_size;
    let prepare = || {
        let mut trial = Trial::new(config, adapter);
        let (_, state, _) = trial.launch(images)?;
        trial.state = Some(state);
        Ok::<_, Error>(trial)
    };
    let (done, recording) = record(profile, prepare, |trial| trial?.launch(images).map(drop));
    done.map(|()| recording)
}

/// Refuses a loss that untrained networks can't have. Theirs is near 1, the variance of eps, or
/// below 1 for v, and a penalty on z adds at most Z - 1 times its weight. Weighted by noise level,
/// the loss of few images may be small.
fn plausible(loss: f32, config: &Config) -> Result<()> {
    let most = 100.0 + (config.train.decorrelation * config.model.z_dim as f64) as f32;
    let uniform = config.train.loss_weight == LossWeight::Uniform;
    let least = if uniform { 0.01 } else { f32::MIN_POSITIVE };
    match loss {
        loss if (least..most).contains(&loss) => Ok(()),
        _ => Err(Error::left_out(
            "trying a step",
            format!("the loss is {loss}, not near 1; work was silently left out"),
        )),
    }
}

/// The step sizes in images that [`rate`] tries, moving to the next while a step takes no longer
/// than [`ENOUGH`]. The largest leaves most of a device's memory free.
const SIZES: [usize; 3] = [2, 8, 32];
/// The duration above which a step is long enough to be extrapolated.
const ENOUGH: Duration = Duration::from_millis(1500);

/// The duration of a step of the recipe, extrapolated from a step of few images.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The seconds of a whole step.
    pub step: f64,
    /// The number of images of the step that was timed.
    pub images: usize,
}

/// Times a step of 2 images, or of 8 or 32 if that is quick, and extrapolates it to the batch in
/// proportion to the number of images, which tends to overestimate.
///
/// # Errors
/// If the device fails.
pub fn rate(config: &Config, device: &Selected) -> Result<Rate> {
    let batch = config.train.batch_size;
    let mut trial = Trial::new(config, device);
    let mut timed = (0, Duration::ZERO);
    for images in SIZES.map(|size| size.min(batch)) {
        if images == timed.0 || timed.1 > ENOUGH {
            break;
        }
        // The very first step allocates memory. On an adapter the first step of each size may
        // compile shaders.
        if timed.0 == 0 || device.adapter.is_some() {
            trial.step(images)?;
        }
        timed = (images, trial.step(images)?);
    }
    let (images, time) = timed;
    Ok(Rate { step: time.as_secs_f64() * batch as f64 / images as f64, images })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BUILT_IN;

    #[test]
    fn a_loss_that_no_new_network_has_is_refused() {
        let (_, text) =
            BUILT_IN.iter().find(|(name, _)| name.ends_with("quick.toml")).expect("a recipe");
        let config =
            |set: &str| Config::parse(text, "quick.toml", &[set.to_owned()]).expect("a recipe");
        let plain = config("seed=1");
        assert!([0.8, 1.0, 1.3].iter().all(|loss| plausible(*loss, &plain).is_ok()));
        assert!(
            [0.0, -1.0, 101.0, 1e30, f32::INFINITY, f32::NAN]
                .iter()
                .all(|loss| plausible(*loss, &plain).is_err())
        );
        // With two images all dimensions of z correlate by 1 or -1.
        assert!(plausible(1.0 + 127.0, &config("train.decorrelation=1")).is_ok());
    }
}
