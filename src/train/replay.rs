//! The step that broke a run, once more.

use super::checkpoint::{self, State};
use super::optim::learning_rate;
use super::step::{Pair, step};
use crate::config::{Config, Precision};
use crate::data::Dataset;
use crate::data::loader::Loader;
use crate::device::Selected;
use crate::diffusion::Schedule;
use crate::error::{Error, Hint, Result};
use crate::model::{Soda, parameters};
use crate::run_dir::{Failure, RunDir};
use burn::module::Module;
use burn::tensor::Tensor;
use serde::Serialize;

/// A step as it went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replayed {
    /// Its number, from 1.
    pub step: u64,
    /// Learning rate of the denoiser.
    pub lr: f64,
    /// Seed of the run, from which with the step all draws follow.
    pub seed: u64,
    /// The images, as positions in the training set.
    pub images: Vec<usize>,
    /// Mean squared error on the noise or v, as the recipe weights it.
    pub loss: f64,
    /// L2 norm of all gradients before the clip.
    pub grad_norm: f64,
    /// Whether it was left out: in mixed precision, where its gradients aren't finite.
    pub left_out: bool,
    /// What wasn't finite before the step: tensors of the weights and the optimizer.
    pub broken_before: Vec<String>,
    /// What isn't finite after it.
    pub broken_after: Vec<String>,
}

impl Replayed {
    /// Whether all of its numbers are finite.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite()
            && (self.grad_norm.is_finite() || self.left_out)
            && self.broken_after.is_empty()
    }
}

/// Runs the steps of `run` again from its newest checkpoint before step `until`, and gives the
/// first that isn't finite, else step `until`. `failure` knows the learning rate of a step that
/// failed. Nothing is written.
///
/// # Errors
/// If there is no checkpoint before it, the checkpoint or the data is another, or the device fails.
pub fn replay(
    config: &Config,
    data: &Dataset,
    device: &Selected,
    run: &RunDir,
    until: u64,
    failure: Option<&Failure>,
) -> Result<Replayed> {
    let path = run.path.display();
    let from = run.checkpoints().into_iter().rev().find(|step| *step < until);
    let mut state = match from {
        Some(from) => checkpoint::load_step(run, from, config, &device.device)?,
        None if run.read_starts().first().is_some_and(|start| start.from.is_some()) => {
            return Err(Error::failed(format!(
                "{path} began from trained weights and keeps no checkpoint before step {until}"
            )));
        }
        None => State::new(config, &data.sha256, &device.device),
    };
    if state.position.data_sha256 != data.sha256 {
        return Err(Error::usage(format!(
            "{path} began on other data than {}; {}",
            data.describe(),
            Hint::SameData
        )));
    }
    state.position.replan(config.train.steps as u64, false);
    let schedule = Schedule::new(&config.diffusion);
    let autodiff = device.device.clone().autodiff();
    let first = state.position.step;
    let mut batches = Loader::new(
        data.train.clone(),
        config.data.clone(),
        config.train.batch_size,
        config.seed,
        first,
    )?;
    loop {
        let number = state.position.step + 1;
        let broken_before = broken(&state)?;
        let progress = state.position.progress.max(number as f64 / config.train.steps as f64);
        // The rate of the step that failed is known; a cosine that followed a limit of time isn't
        // for those before it.
        let known = failure.filter(|failure| failure.step == number).map(|failure| failure.lr);
        let lr = known
            .unwrap_or_else(|| learning_rate(&config.train, state.position.updates + 1, progress));
        let batch = batches.next()?;
        let images = batch.indices.clone();
        let pair = Pair::of_batch(batch, &config, &autodiff);
        let outcome;
        (state, outcome) = step(state, pair, &schedule, config, number, lr);
        state.position.progress = progress;
        let read = |t: Tensor<1>| {
            let value = t.try_into_scalar::<f32>().map(f64::from);
            value.map_err(|e| Error::device(&format!("computing step {number}"), &e))
        };
        let (loss, grad_norm) = (read(outcome.loss)?, read(outcome.grad_norm)?);
        let broken_after = broken(&state)?;
        let (seed, left_out) =
            (config.seed, config.train.precision == Precision::Mixed && !grad_norm.is_finite());
        let replayed = Replayed {
            step: number,
            lr,
            seed,
            images,
            loss,
            grad_norm,
            left_out,
            broken_before,
            broken_after,
        };
        if number == until || !replayed.is_finite() {
            return Ok(replayed);
        }
    }
}

/// Names of the tensors of `state` that hold a number that isn't finite.
fn broken(state: &State) -> Result<Vec<String>> {
    let model: Soda = state.model.valid();
    let mut sums: Vec<(String, Tensor<1>)> =
        parameters::collect(&model).into_iter().map(|t| (t.name, (t.values * 0.0).sum())).collect();
    let moments = state.optim.moments.iter();
    sums.extend(
        moments.map(|(name, m)| (format!("moments of {name}"), (m.second.clone() * 0.0).sum())),
    );
    sums.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (names, sums): (Vec<String>, Vec<_>) = sums.into_iter().unzip();
    // 0 where all are finite, NaN elsewhere.
    let values = Tensor::cat(sums, 0).try_to_vec_as::<f32>();
    let values = values.map_err(|e| Error::device("reading the weights", &e))?;
    Ok(names.into_iter().zip(values).filter(|(_, v)| v.is_nan()).map(|(name, _)| name).collect())
}
