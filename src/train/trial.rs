//! Steps on images of noise: what a recipe costs on a device, before anything is trained.

use super::checkpoint::State;
use super::step::{Outcome, Pair, step};
use crate::config::{Config, Sides};
use crate::data::bytes_of;
use crate::device::{Profile, Selected};
use crate::diffusion::Schedule;
use crate::error::{Error, Result};
use crate::kernels::record::{Recording, record};
use crate::rng::{self, Purpose};
use std::time::{Duration, Instant};

/// Networks that take steps of any number of images.
pub struct Trial<'a> {
    config: &'a Config,
    device: &'a Selected,
    schedule: Schedule,
    /// Gone after a step that failed.
    state: Option<State>,
}

impl<'a> Trial<'a> {
    /// Random weights of `config`.
    pub fn new(config: &'a Config, device: &'a Selected) -> Self {
        let state = Some(State::new(config, "", &device.device));
        Self { config, device, schedule: Schedule::new(&config.diffusion), state }
    }

    /// One step of `images` images, to its end on the device; gives its time.
    ///
    /// # Errors
    /// If the device fails, leaves out work, or the loss is none that a new network has.
    pub fn step(&mut self, images: usize) -> Result<Duration> {
        let (clock, mut state, outcome) = self.launch(images)?;
        let loss = outcome
            .loss
            .try_into_scalar::<f32>()
            .map_err(|e| Error::device("trying a step", &e))?;
        // The loss is known before the weights are.
        self.device.device.sync().map_err(|e| Error::device("trying a step", &e))?;
        let took = clock.elapsed();
        state.tally.check()?;
        plausible(loss, self.config)?;
        self.state = Some(state);
        Ok(took)
    }

    /// Launches a step without waiting for it; gives when that began, and what the step leaves.
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

/// Records the second step of `config` on `adapter`, whole batch, with kernels for `profile`: the
/// first one makes the optimizer's moments. Nothing is computed, and every launch of this process
/// is left out meanwhile.
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

/// Refuses what can't be the loss of networks that haven't learnt anything: it is near 1, the
/// variance of eps, or below it for v, and a penalty on z adds Z - 1 times its weight at most.
fn plausible(loss: f32, config: &Config) -> Result<()> {
    let most = 100.0 + (config.train.decorrelation * config.model.z_dim as f64) as f32;
    match loss {
        loss if (0.01..most).contains(&loss) => Ok(()),
        _ => Err(Error::left_out(
            "trying a step",
            format!("the loss is {loss}, not near 1; work was silently left out"),
        )),
    }
}

/// Sizes of the steps that [`rate`] takes: the next one where the last took no longer than
/// [`ENOUGH`]. The largest one leaves most of a device's memory free.
const SIZES: [usize; 3] = [2, 8, 32];
const ENOUGH: Duration = Duration::from_millis(1500);

/// How long a step of the recipe takes, from one of few images.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Seconds of a whole step.
    pub step: f64,
    /// Images of the step that was timed.
    pub images: usize,
}

/// Times a step of 2 images, of 8 or 32 where that is quick, as if a whole step took as much longer
/// as it has more images: it rather takes less.
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
        // The first one takes memory; on an adapter the first one of each size may compile.
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
        // Of two images all numbers of z correlate by 1 or -1.
        assert!(plausible(1.0 + 127.0, &config("train.decorrelation=1")).is_ok());
    }
}
