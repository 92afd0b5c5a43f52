//! Replaying the step that broke a run.

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

/// The course of a replayed step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replayed {
    /// The number of the step, from 1.
    pub step: u64,
    /// The learning rate of the denoiser.
    pub lr: f64,
    /// The seed of the run, which together with the step determines all random values.
    pub seed: u64,
    /// The images, as positions in the training set.
    pub images: Vec<usize>,
    /// The mean squared error on eps or v, as the recipe weights it.
    pub loss: f64,
    /// The L2 norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Whether the step was skipped: in mixed precision, if its gradients aren't finite.
    pub left_out: bool,
    /// The tensors of the weights and the optimizer that weren't finite before the step.
    pub broken_before: Vec<String>,
    /// The tensors that aren't finite after it.
    pub broken_after: Vec<String>,
}

impl Replayed {
    /// Checks whether all values of the step are finite.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite()
            && (self.grad_norm.is_finite() || self.left_out)
            && self.broken_after.is_empty()
    }
}

/// Repeats the steps of `run` from its newest checkpoint before step `until`, and returns the first
/// step that isn't finite, or else step `until`. `failure` has the learning rate of a step that
/// failed. Nothing is written.
///
/// # Errors
/// If there is no checkpoint before that step, the checkpoint or the data doesn't match, or the
/// device fails.
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
                "{path} started from trained weights and has no checkpoint before step {until} to \
                replay from; choose a later step"
            )));
        }
        None => State::new(config, &data.sha256, &device.device),
    };
    if state.position.data_sha256 != data.sha256 {
        return Err(Error::usage(format!(
            "{path} was trained on other data than {}; {}",
            data.describe(),
            Hint::SameData
        )));
    }
    state.position.replan(config.train.steps as u64, false);
    let began = state.position.clone();
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
        let progress = began.progress_at(number, config.train.steps as u64, 0.0);
        // The rate of the failed step was recorded. If a cosine followed a time limit, the rates of
        // the steps before it are unknown and follow the steps instead.
        let known = failure.filter(|failure| failure.step == number).map(|failure| failure.lr);
        let lr = known
            .unwrap_or_else(|| learning_rate(&config.train, state.position.updates + 1, progress));
        let batch = batches.next()?;
        let images = batch.indices.clone();
        let pair = Pair::of_batch(batch, config, &autodiff);
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

/// Returns the names of the tensors of `state` that hold a value that isn't finite.
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
    // 0 if all values are finite, NaN otherwise.
    let values = Tensor::cat(sums, 0).try_to_vec_as::<f32>();
    let values = values.map_err(|e| Error::device("reading the weights", &e))?;
    Ok(names.into_iter().zip(values).filter(|(_, v)| v.is_nan()).map(|(name, _)| name).collect())
}
