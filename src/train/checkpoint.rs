//! The whole training state on disk: weights, EMA, optimizer, position. Written beside the last one and renamed, the
//! completeness marker last, so that a crash or a full disk costs the steps since the last checkpoint and nothing else.

use super::ema::Ema;
use super::optim::{AdamW, Moments};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::{self, create_dir};
use crate::model::weights::{self, Tensors, Trained, WeightsFile};
use crate::model::{Soda, parameters};
use crate::run_dir::{COMPLETE, RunDir};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// Where a run stands, beside its tensors. Random streams need no position: they are numbered by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Optimizer steps done.
    pub step: u64,
    /// Updates of the optimizer and the EMA.
    pub updates: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Share of the run that is done, which the learning rate follows: in steps or in time, whichever ends first.
    pub progress: f64,
    /// Mean loss of the first row of the log.
    pub loss_first: Option<f64>,
    /// Whether the run reached its end.
    pub finished: bool,
    /// SHA-256 of the data it was trained on.
    pub data_sha256: String,
}

impl Position {
    /// What the weights files say of the training.
    pub fn trained(&self, config: &Config) -> Trained {
        let images = self.step * config.train.batch_size as u64;
        Trained { data_sha256: self.data_sha256.clone(), step: self.step, images }
    }
}

/// Everything that training changes.
pub struct State {
    /// The networks in training (with autodiff).
    pub model: Soda,
    /// Their average.
    pub ema: Ema,
    /// Moments of the gradients.
    pub optim: AdamW,
    /// Where the run stands.
    pub position: Position,
}

impl State {
    /// A fresh start on `device` (without autodiff).
    pub fn new(config: &Config, data_sha256: &str, device: &Device) -> Self {
        Self::beginning(Soda::new(&config.model, config.seed, &device.clone().autodiff()), data_sha256)
    }

    /// A start from `weights`: moments and average begin anew.
    ///
    /// # Errors
    /// If the networks of `config` are others, or see images otherwise normalised.
    pub fn trained(config: &Config, weights: &WeightsFile, data_sha256: &str, device: &Device) -> Result<Self> {
        let other = |what: &str| {
            let path = weights.path.display();
            Err(Error::usage(format!(
                "{path} was trained with other {what} than the recipe's; leave --config out to go on with the recipe in the file"
            )))
        };
        let mut trained = weights.config.model.clone();
        trained.unet.dropout = config.model.unet.dropout;
        if trained != config.model {
            return other("[model]");
        }
        if (weights.config.data.mean, weights.config.data.std) != (config.data.mean, config.data.std) {
            return other("data.mean and data.std");
        }
        Ok(Self::beginning(weights.model(&device.clone().autodiff())?, data_sha256))
    }

    fn beginning(model: Soda, data_sha256: &str) -> Self {
        Self {
            ema: Ema::new(&model, 0),
            model,
            optim: AdamW::default(),
            position: Position {
                step: 0,
                updates: 0,
                seconds: 0.0,
                progress: 0.0,
                loss_first: None,
                finished: false,
                data_sha256: data_sha256.to_owned(),
            },
        }
    }
}

/// Writes the checkpoint of `state.position.step` and removes those beyond `train.keep_checkpoints`.
///
/// # Errors
/// If the disk is full or not writable; earlier checkpoints stay.
pub fn save(run: &RunDir, state: &State, config: &Config) -> Result<()> {
    let target = run.checkpoint(state.position.step);
    let partial = target.with_extension("partial");
    let clear = |path: &Path| match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, &e)),
        _ => Ok(()),
    };
    clear(&partial)?;
    create_dir(&partial)?;
    let trained = state.position.trained(config);
    weights::save(&partial.join("model.safetensors"), &state.model, config, &trained)?;
    weights::save(&partial.join("ema.safetensors"), &state.ema.model(), config, &trained)?;
    weights::write(&partial.join("optimizer.safetensors"), &moments_to_host(&state.optim)?, HashMap::new())?;
    let json = serde_json::to_vec_pretty(&state.position).map_err(|e| Error::failed(format!("cannot encode the state: {e}")))?;
    files::write_atomically(&partial.join("state.json"), &json)?;
    files::write_atomically(&partial.join(COMPLETE), b"")?;
    clear(&target)?;
    std::fs::rename(&partial, &target).map_err(|e| Error::io("rename", &partial, &e))?;

    let steps = run.checkpoints();
    let keep = if config.train.keep_checkpoints == 0 { steps.len() } else { config.train.keep_checkpoints };
    for step in &steps[..steps.len().saturating_sub(keep)] {
        clear(&run.checkpoint(*step))?;
    }
    Ok(())
}

/// Reads the newest complete checkpoint of `run`; `None` if there is none.
///
/// # Errors
/// If a file of it is damaged or belongs to another network.
pub fn load(run: &RunDir, config: &Config, device: &Device) -> Result<Option<State>> {
    let Some(step) = run.checkpoints().last().copied() else { return Ok(None) };
    let path = run.checkpoint(step);
    let state_path = path.join("state.json");
    let json = std::fs::read(&state_path).map_err(|e| Error::io("read", &state_path, &e))?;
    let position: Position = serde_json::from_slice(&json).map_err(|e| {
        Error::failed(format!(
            "{} is damaged ({e}); remove {} to resume from an earlier checkpoint",
            state_path.display(),
            path.display()
        ))
    })?;
    let read = |name: &str, device: &Device| -> Result<Soda> {
        let path = path.join(name);
        let (tensors, _) = weights::read(&path)?;
        let tensors = tensors.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect();
        weights::load(Soda::new(&config.model, config.seed, device), &tensors, &path.display().to_string())
    };
    let model = read("model.safetensors", &device.clone().autodiff())?;
    let averaged = read("ema.safetensors", device)?;
    let optim =
        AdamW { moments: read_moments(&path.join("optimizer.safetensors"), &averaged, device)?, updates: position.updates };
    Ok(Some(State { model, ema: Ema::new(&averaged, position.updates), optim, position }))
}

/// The training of the weights file `weights`, from the state that lies beside it in a checkpoint; `None` elsewhere.
pub fn trained_beside(weights: &Path, config: &Config) -> Option<Trained> {
    let json = std::fs::read(weights.with_file_name("state.json")).ok()?;
    serde_json::from_slice(&json).ok().map(|position: Position| position.trained(config))
}

fn moments_to_host(optim: &AdamW) -> Result<Tensors> {
    let mut names: Vec<_> = optim.moments.keys().collect();
    names.sort_unstable();
    let named = names.into_iter().flat_map(|name| {
        let m = &optim.moments[name];
        [("first", &m.first), ("second", &m.second)].map(|(kind, values)| parameters::Named {
            name: format!("{name}.{kind}"),
            shape: values.dims().to_vec(),
            values: values.clone(),
        })
    });
    weights::to_host(named.collect())
}

fn read_moments(path: &Path, model: &Soda, device: &Device) -> Result<HashMap<String, Moments>> {
    let (tensors, _) = weights::read(path)?;
    let mut tensors: HashMap<String, Vec<f32>> = tensors.into_iter().map(|(name, _, values)| (name, values)).collect();
    let mut moments = HashMap::new();
    for parameter in parameters::collect(&model.valid()) {
        let mut take = |kind: &str| tensors.remove(&format!("{}.{kind}", parameter.name));
        let (Some(first), Some(second)) = (take("first"), take("second")) else {
            if parameters::is_statistic(&parameter.name) {
                continue;
            }
            return Err(Error::failed(format!(
                "{} lacks the moments of {}; remove its folder to resume from an earlier checkpoint",
                path.display(),
                parameter.name
            )));
        };
        let len = parameter.shape.iter().product::<usize>();
        if first.len() != len || second.len() != len {
            return Err(Error::failed(format!(
                "{}: the moments of {} have another size; this checkpoint is of another network",
                path.display(),
                parameter.name
            )));
        }
        let tensor = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [len]), device);
        moments.insert(parameter.name, Moments { first: tensor(first), second: tensor(second) });
    }
    Ok(moments)
}
