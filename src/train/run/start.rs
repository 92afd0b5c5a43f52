//! The start of a call of training: a new state or that of the newest checkpoint, and the checks
//! that keep the call from damaging a run.

use super::options::{Called, Options};
use crate::config::{Config, differences};
use crate::data::Dataset;
use crate::device::Selected;
use crate::error::{Error, Hint, Result};
use crate::machine;
use crate::progress::{say, warn};
use crate::run_dir::{RunDir, Start};
use crate::train::checkpoint::{self, State};

/// Returns a new state, or that of the newest checkpoint, and whether the recipe differs from the
/// run's own. `now` describes this call.
pub(super) fn start(
    config: &Config,
    data: &Dataset,
    device: &Selected,
    run: &RunDir,
    now: &Start,
    options: &Options,
) -> Result<(State, bool)> {
    let mut changed = false;
    let mut saved = None;
    if run.exists() {
        if !options.resume {
            return Err(already_there(run));
        }
        changed = compare_recipes(config, run, options)?;
        run.tidy();
        saved = checkpoint::load(run, config, &device.device, &mut |line| warn(line))?;
        if saved.is_none() {
            refuse_lost_checkpoints(run)?;
        }
    } else if let Some(step) = run.found_checkpoints()?.last() {
        return Err(without_recipe(run, *step));
    }
    if let Some(mut state) = saved {
        let side = run.read_config()?.data.side;
        if state.position.data_sha256 != data.sha256 && side != config.data.side {
            return Err(Error::usage(format!(
                "data.side = {}: the images of {} have {side} pixels a side, and at another size \
                 nothing tells whether they are the same; start a new run from its weights",
                config.data.side,
                run.path.display()
            )));
        }
        if state.position.data_sha256 != data.sha256 {
            return Err(Error::usage(format!(
                "{} was trained on other data (checksum {:.16}..) than {} (checksum {:.16}..), or \
                the data has changed since; {}",
                run.path.display(),
                state.position.data_sha256,
                data.describe(),
                data.sha256,
                Hint::SameData
            )));
        }
        require_same_start(run, options)?;
        let place = now.place();
        if let Some(before) =
            run.read_starts().last().map(|start| start.place()).filter(|before| *before != place)
        {
            let path = run.path.display();
            say(&format!(
                "so far {path} ran on {before}; on {place} its results will differ in the last \
                digits"
            ));
        }
        state.position.replan(config.train.steps as u64, changed);
        return Ok((state, changed));
    }
    let from = options.from.as_ref().map(|weights| &weights.sha256);
    if run.exists() && run.read_starts().first().is_some_and(|start| start.from.as_ref() != from) {
        return Err(Error::usage(format!(
            "{} holds no checkpoint yet and was started from other weights; {}",
            run.path.display(),
            Hint::SameStart
        )));
    }
    // A run without a checkpoint starts again in the same way.
    let continues = options.continues
        || (run.exists() && run.read_starts().first().is_some_and(|start| start.step > 0));
    let state = match &options.from {
        Some(weights) if continues => {
            State::continued(config, weights, &data.sha256, &device.device)?
        }
        Some(weights) => State::trained(config, weights, &data.sha256, &device.device)?,
        None => State::new(config, &data.sha256, &device.device),
    };
    Ok((state, changed))
}

/// Refuses to start `run` again, which has no checkpoint, if it has trained for so long that it had
/// one: the folder may be on a disk that isn't there now.
fn refuse_lost_checkpoints(run: &RunDir) -> Result<()> {
    let every = run.read_config()?.train.checkpoint_every as u64;
    let step = run.read_metrics()?.rows.last().map_or(0, |row| row.step);
    let folder = run.path.join("checkpoints");
    // A link without a target.
    let is_lost = !folder.exists() && folder.is_symlink();
    // The first one is on disk before the second one is due.
    if !is_lost && (every == 0 || step <= 2 * every) {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{} has trained for {step} steps, and none of its checkpoints is there; bring back {}, or \
         {}",
        run.path.display(),
        folder.display(),
        Hint::OtherRun
    )))
}

/// Refuses weights to start from other than those that `run` started from. (The same ones are
/// named where the command that started the run is repeated.)
fn require_same_start(run: &RunDir, options: &Options) -> Result<()> {
    let Some(weights) = &options.from else { return Ok(()) };
    match run.read_starts().first() {
        Some(first) if first.from.as_ref() != Some(&weights.sha256) => Err(Error::usage(format!(
            "{} has a checkpoint and was not started from {}; {}",
            run.path.display(),
            weights.path.display(),
            Hint::SameStart
        ))),
        _ => Ok(()),
    }
}

/// Returns whether the recipe differs from the run's own. Refuses it then, unless `allow_change` is
/// set.
fn compare_recipes(config: &Config, run: &RunDir, options: &Options) -> Result<bool> {
    let own = run.read_config()?;
    let differences = differences(&own, config);
    if differences.is_empty() {
        return Ok(false);
    }
    let (path, differences) = (run.path.display(), differences.join(", "));
    if let Some(what) = checkpoint::other_networks(&own, config) {
        return Err(Error::usage(format!(
            "{path} has its own recipe, and its weights depend on {what} ({differences}); to \
            change them, {}",
            Hint::OtherRun
        )));
    }
    if !options.allow_change {
        return Err(Error::usage(format!(
            "{path} has its own recipe, and this one differs in {differences}; {}",
            Hint::AllowChange
        )));
    }
    say(&format!("{path} continues with a changed recipe: {differences}"));
    Ok(true)
}

/// Makes the error for a directory with checkpoints, the newest of `step`, but no recipe.
fn without_recipe(run: &RunDir, step: u64) -> Error {
    Error::usage(format!(
        "{} holds checkpoints but no config.toml, without which it can't be resumed; put it back, \
        or {}",
        run.path.display(),
        Hint::StartFrom(run.checkpoint(step).join("ema.safetensors"))
    ))
}

/// Makes the error for a new run in the directory of another.
pub(super) fn already_there(run: &RunDir) -> Error {
    let path = run.path.display();
    Error::usage(format!("{path} already holds a run; {}", Hint::Resume))
}

/// Describes this call of training for starts.jsonl, as far as it is known before the state is
/// loaded.
pub(super) fn described(data: &Dataset, device: &Selected, called: &Called) -> Start {
    Start {
        time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        step: 0,
        from: None,
        from_name: None,
        from_images: None,
        command: called.command.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        commit: machine::commit(),
        device: device.backend.into(),
        adapter: device.name.clone(),
        driver: device.adapter.as_ref().map(|adapter| adapter.driver.clone()),
        machine: machine::describe(),
        data: data.name.to_string(),
        data_location: Some(data.location()),
        data_options: data.options,
        data_sha256: data.sha256.clone(),
        images: data.train.len(),
    }
}
