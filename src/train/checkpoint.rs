//! The whole training state on disk: weights, EMA, optimizer and position.
//!
//! A checkpoint is written into a temporary folder next to the last one, with the completeness
//! marker, which holds the checksum of every file, as the last file. Then the folder is renamed. So
//! a crash or a full disk costs only the steps since the last checkpoint, and damage is found
//! before a run resumes from it.

use super::ema::Ema;
use super::optim::{AdamW, Moments};
use super::tally::Tally;
use crate::config::Config;
use crate::device::lasting;
use crate::error::{Error, Hint, Result};
use crate::files::{self, create_dir, remove_folder, rename_folder};
use crate::kernels::adamw;
use crate::model::weights::{self, Tensors, Trained, WeightsFile};
use crate::model::{Soda, parameters};
use crate::run_dir::{DAMAGED, OLD, PARTIAL, RunDir, Start};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

mod marker;
#[cfg(test)]
mod tests;

pub use marker::{damage, verify_weights};

/// The progress of a run, apart from its tensors. Random streams need no position, because they are
/// numbered by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// The number of optimizer steps so far.
    pub step: u64,
    /// The number of images seen.
    pub images: u64,
    /// The number of updates of the optimizer and the EMA.
    pub updates: u64,
    /// The seconds of training so far.
    pub seconds: f64,
    /// The completed fraction of the run, which the learning rate follows: in steps or in time,
    /// whichever ends first.
    pub progress: f64,
    /// The mean loss of the first row of the log.
    pub loss_first: Option<f64>,
    /// Whether the run has reached its end.
    pub finished: bool,
    /// The planned number of steps of the whole run; 0 before the first step.
    pub planned: u64,
    /// The SHA-256 of the training data.
    pub data_sha256: String,
    /// The step and images behind the weights that the run continues from without their moments.
    /// `step` and `images` count on from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<Continued>,
}

/// The counts that a run takes over from the weights file whose training it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continued {
    /// The number of optimizer steps behind the weights.
    pub step: u64,
    /// The number of images seen by then.
    pub images: u64,
}

impl Position {
    /// Returns the number of images that this run itself has seen.
    pub fn own_images(&self) -> u64 {
        self.images - self.continued.map_or(0, |continued| continued.images)
    }

    /// Returns the number of EMA updates, including those behind the weights that the run continues
    /// from.
    fn ema_updates(&self) -> u64 {
        self.updates + self.continued.map_or(0, |continued| continued.step)
    }

    /// Adjusts progress and end to a run of `steps` steps, whose recipe may have `changed`: a
    /// longer run is no longer finished, nor as far along.
    pub fn replan(&mut self, steps: u64, changed: bool) {
        let other_end = ![0, steps].contains(&self.planned);
        if other_end || (changed && self.finished) {
            self.progress = self.step as f64 / steps as f64;
            self.finished = false;
        }
        self.finished |= self.step >= steps;
    }

    /// Returns what the weights files record of the training.
    pub fn trained(&self) -> Trained {
        Trained { data_sha256: self.data_sha256.clone(), step: self.step, images: self.images }
    }
}

/// The whole state of training.
pub struct State {
    /// The networks in training (with autodiff).
    pub model: Soda,
    /// Their EMA.
    pub ema: Ema,
    /// The optimizer with its moments.
    pub optim: AdamW,
    /// The progress of the run.
    pub position: Position,
    /// The count of the steps that the device has done in this process.
    pub tally: Tally,
}

impl State {
    /// Starts from random weights on `device` (without autodiff).
    pub fn new(config: &Config, data_sha256: &str, device: &Device) -> Self {
        let model = || Soda::new(&config.model, config.seed, &device.clone().autodiff());
        lasting(device, || Self::beginning(model(), data_sha256, device))
    }

    /// Starts from `weights`, with new moments and a new EMA.
    ///
    /// # Errors
    /// If the networks of `config` or its normalisation of images differ from those of the weights.
    pub fn trained(
        config: &Config,
        weights: &WeightsFile,
        data_sha256: &str,
        device: &Device,
    ) -> Result<Self> {
        let other = |what: &str| {
            let path = weights.path.display();
            Err(Error::usage(format!(
                "{path} differs from the recipe in {what}; {}",
                Hint::RecipeOfWeights
            )))
        };
        if let Some(what) = other_networks(&weights.config, config) {
            return other(what);
        }
        lasting(device, || {
            Ok(Self::beginning(
                weights.model_of(&config.model, &device.clone().autodiff())?,
                data_sha256,
                device,
            ))
        })
    }

    /// Continues the training that made `weights`, which serve both as the EMA and as the networks
    /// in training. Step and images seen are taken over, and so the random streams. Moments start
    /// from scratch, and with them the warmup of the learning rate.
    ///
    /// # Errors
    /// As [`State::trained`], and if the weights don't record how long they were trained, or were
    /// trained on other data.
    pub fn continued(
        config: &Config,
        weights: &WeightsFile,
        data_sha256: &str,
        device: &Device,
    ) -> Result<Self> {
        let path = weights.path.display();
        let Some(Trained { step, images, data_sha256: own }) =
            weights.trained().or_else(|| trained_beside(&weights.path))
        else {
            return Err(Error::usage(format!(
                "{path} doesn't record its step and images seen, so its training can't be \
                continued; {}",
                Hint::StartAtZero
            )));
        };
        if own != data_sha256 {
            return Err(Error::usage(format!(
                "{path} was trained on other data (checksum {own:.16}.. instead of \
                {data_sha256:.16}..), so its training can't be continued on this data; {}, or {}",
                Hint::SameData,
                Hint::StartAtZero
            )));
        }
        let steps = config.train.steps as u64;
        if step >= steps {
            return Err(Error::usage(format!(
                "{path} has already been trained for {step} steps, and train.steps = {steps}; to \
                continue, {}",
                Hint::Set(format!("train.steps={}", 2 * step))
            )));
        }
        let state = Self::trained(config, weights, data_sha256, device)?;
        let continued = Some(Continued { step, images });
        let position = Position {
            step,
            images,
            continued,
            progress: step as f64 / steps as f64,
            ..state.position
        };
        Ok(Self { ema: Ema::new(&state.ema.model(), step), position, ..state })
    }

    fn beginning(model: Soda, data_sha256: &str, device: &Device) -> Self {
        Self {
            ema: Ema::new(&model, 0),
            model,
            optim: AdamW::default(),
            position: Position {
                step: 0,
                images: 0,
                updates: 0,
                seconds: 0.0,
                progress: 0.0,
                loss_first: None,
                finished: false,
                planned: 0,
                data_sha256: data_sha256.to_owned(),
                continued: None,
            },
            tally: Tally::new(device),
        }
    }
}

/// Returns the part of two recipes that makes the weights of one useless to the other. Dropout may
/// differ, and so may the sides of the images, on which convolutions don't depend, as long as the
/// same stages have attention.
pub fn other_networks(one: &Config, other: &Config) -> Option<&'static str> {
    let mut model = one.model.clone();
    model.unet.dropout = other.model.unet.dropout;
    if model.sides != other.model.sides {
        let attention = |config: &Config| {
            let side = |stage: usize| config.model.sides.target >> stage;
            (0..config.model.unet.multipliers.len())
                .map(|s| config.model.unet.attention.contains(&side(s)))
                .collect::<Vec<_>>()
        };
        if attention(one) != attention(other) {
            return Some(
                "stages with attention (model.unet.attention names sides of feature maps)",
            );
        }
        (model.sides, model.unet.attention) =
            (other.model.sides, other.model.unet.attention.clone());
    }
    if model != other.model {
        return Some("[model]");
    }
    if one.diffusion.prediction != other.diffusion.prediction {
        return Some("predictions (diffusion.prediction)");
    }
    let normalised = |config: &Config| (config.data.mean, config.data.std);
    (normalised(one) != normalised(other)).then_some("data.mean and data.std")
}

/// A copy of a state on the host, which is written while training continues.
pub struct Snapshot {
    model: Tensors,
    ema: Tensors,
    moments: Tensors,
    metadata: HashMap<String, String>,
    position: Position,
}

const FILES: [&str; 4] =
    ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"];

impl Snapshot {
    /// Copies `state`.
    ///
    /// # Errors
    /// If the device can't be read.
    pub fn of(state: &State, config: &Config) -> Result<Self> {
        Ok(Self {
            model: weights::to_host(parameters::collect(&state.model.valid()))?,
            ema: weights::to_host(parameters::collect(&state.ema.model()))?,
            moments: optimizer_to_host(&state.optim)?,
            metadata: weights::trained_metadata(config, &state.position.trained()),
            position: state.position.clone(),
        })
    }

    /// Adds the moments of the parameters that other ranks update.
    pub fn with_moments(mut self, others: Tensors) -> Self {
        let last = self.moments.pop_if(|(name, ..)| name == LOSS_SCALE);
        self.moments.extend(others);
        self.moments.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        self.moments.extend(last);
        self
    }

    /// Encodes the state for another process: the contents of the files of a checkpoint, in order.
    ///
    /// # Errors
    /// If it can't be encoded.
    pub fn sections(&self) -> Result<[Vec<u8>; 4]> {
        Ok([
            weights::encode(&self.model, HashMap::new())?,
            weights::encode(&self.ema, HashMap::new())?,
            weights::encode(&self.moments, HashMap::new())?,
            self.json()?,
        ])
    }

    fn json(&self) -> Result<Vec<u8>> {
        encoded(&self.position)
    }

    /// Returns the step after which it was taken.
    pub fn step(&self) -> u64 {
        self.position.step
    }

    /// Writes the checkpoint of its step into `run`, then removes all checkpoints but the newest
    /// `keep` (0: removes none) and that of step `best`.
    ///
    /// # Errors
    /// If the disk is full or not writable. Earlier checkpoints stay.
    pub fn write(&self, run: &RunDir, keep: usize, best: Option<u64>) -> Result<()> {
        let target = run.checkpoint(self.position.step);
        let partial = target.with_extension(PARTIAL);
        let written = self
            .write_files(&partial)
            .and_then(|()| discard(&target))
            .and_then(|()| rename_folder(&partial, &target));
        if let Err(e) = written {
            // On a full disk the next checkpoint needs the space.
            let _ = remove_folder(&partial);
            return Err(e);
        }
        prune(run, keep, best);
        Ok(())
    }

    fn write_files(&self, folder: &Path) -> Result<()> {
        remove_folder(folder)?;
        create_dir(folder)?;
        weights::write(&folder.join(FILES[0]), &self.model, self.metadata.clone())?;
        weights::write(&folder.join(FILES[1]), &self.ema, self.metadata.clone())?;
        weights::write(&folder.join(FILES[2]), &self.moments, HashMap::new())?;
        files::write_atomically(&folder.join(FILES[3]), &self.json()?)?;
        marker::write(folder)
    }

    /// Checks whether all values of weights, EMA and moments are finite.
    pub fn is_finite(&self) -> bool {
        self.model
            .iter()
            .chain(&self.ema)
            .chain(&self.moments)
            .all(|(_, _, values)| values.iter().all(|v| v.is_finite()))
    }
}

/// Copies the intact checkpoint of `step` from `run` into the run `to`, with `position` as its
/// state.
///
/// # Errors
/// If it can't be read or written.
pub(super) fn copy(run: &RunDir, step: u64, to: &RunDir, position: &Position) -> Result<()> {
    let (from, target) = (run.checkpoint(step), to.checkpoint(position.step));
    let partial = target.with_extension(PARTIAL);
    remove_folder(&partial)?;
    create_dir(&partial)?;
    for name in &FILES[..3] {
        let bytes =
            files::read(&from.join(name)).map_err(|e| Error::io("read", &from.join(name), &e))?;
        files::write_atomically(&partial.join(name), &bytes)?;
    }
    files::write_atomically(&partial.join(FILES[3]), &encoded(position)?)?;
    marker::write(&partial)?;
    discard(&target)?;
    rename_folder(&partial, &target)
}

/// Removes all checkpoints but the newest `keep` (0: removes none) and that of step `best`. A
/// checkpoint that can't be removed is only logged: it does no harm but use space.
fn prune(run: &RunDir, keep: usize, best: Option<u64>) {
    let steps = run.checkpoints();
    let keep = if keep == 0 { steps.len() } else { keep };
    for step in steps[..steps.len().saturating_sub(keep)].iter().filter(|step| best != Some(**step))
    {
        if let Err(e) = discard(&run.checkpoint(*step)) {
            log::warn!("{e}");
        }
    }
}

/// Removes a checkpoint if it exists. It is renamed first, so that a half-removed folder is never
/// mistaken for a checkpoint.
fn discard(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let old = path.with_extension(OLD);
    remove_folder(&old)?;
    rename_folder(path, &old)?;
    remove_folder(&old)
}

/// Reads the newest intact checkpoint of `run`; `None` if there never was a checkpoint. `say` gets
/// a sentence for each that is skipped: half-written ones are removed, and damaged ones are renamed
/// once an older intact one is found. The caller must hold the lock of the run.
///
/// # Errors
/// If all checkpoints are damaged, one of them or their folder can't be read, or the newest intact
/// one belongs to another network.
pub fn load(
    run: &RunDir,
    config: &Config,
    device: &Device,
    say: &mut dyn FnMut(&str),
) -> Result<Option<State>> {
    for partial in run.leftovers(PARTIAL) {
        say(&format!("{} was not completely written and is removed", partial.display()));
        remove_folder(&partial)?;
    }
    for old in run.leftovers(OLD) {
        remove_folder(&old)?;
    }
    let mut damaged = Vec::new();
    for step in run.found_checkpoints()?.into_iter().rev() {
        let path = run.checkpoint(step);
        if let Some(what) = damage(&path)? {
            say(&format!("{what}; going back to the checkpoint before step {step}"));
            damaged.push((path, what));
            continue;
        }
        for (path, _) in damaged {
            let aside = path.with_extension(DAMAGED);
            remove_folder(&aside)?;
            rename_folder(&path, &aside)?;
        }
        return lasting(device, || read(&path, config, device)).map(Some);
    }
    match damaged.first() {
        Some((_, what)) => Err(Error::failed(format!(
            "{what}, and {} holds no whole checkpoint; {}",
            run.path.display(),
            Hint::OtherRun
        ))),
        None => Ok(None),
    }
}

/// Reads the checkpoint of `step`.
///
/// # Errors
/// If it is damaged, or belongs to another network.
pub fn load_step(run: &RunDir, step: u64, config: &Config, device: &Device) -> Result<State> {
    let path = run.checkpoint(step);
    match damage(&path)? {
        Some(what) => Err(Error::failed(what)),
        None => lasting(device, || read(&path, config, device)),
    }
}

fn encoded(position: &Position) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(position)
        .map_err(|e| Error::failed(format!("cannot encode the state: {e}")))
}

fn read(path: &Path, config: &Config, device: &Device) -> Result<State> {
    let tensors = |name: &str| weights::read(&path.join(name)).map(|(tensors, _)| tensors);
    let [model, ema, moments, _] = FILES;
    assemble(
        config,
        device,
        position(path)?,
        [tensors(model)?, tensors(ema)?, tensors(moments)?],
        path,
    )
}

/// Decodes the state that [`Snapshot::sections`] encoded.
///
/// # Errors
/// If it belongs to another network.
pub fn of_sections(sections: &[Vec<u8>; 4], config: &Config, device: &Device) -> Result<State> {
    let origin = Path::new("the state of rank 0");
    let [model, ema, moments, position] = sections;
    let tensors = |bytes: &[u8]| weights::parse(origin, bytes).map(|(tensors, _)| tensors);
    let position = serde_json::from_slice(position)
        .map_err(|e| Error::failed(format!("{} is damaged ({e})", origin.display())))?;
    lasting(device, || {
        let position = Position::clone(&position);
        assemble(
            config,
            device,
            position,
            [tensors(model)?, tensors(ema)?, tensors(moments)?],
            origin,
        )
    })
}

/// Assembles a state from weights, EMA and moments. `path` names their origin in error messages.
fn assemble(
    config: &Config,
    device: &Device,
    position: Position,
    [model, ema, moments]: [Tensors; 3],
    path: &Path,
) -> Result<State> {
    let load = |name: &str, tensors: Tensors, device: &Device| -> Result<Soda> {
        let tensors =
            tensors.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect();
        weights::load(
            Soda::new(&config.model, config.seed, device),
            &tensors,
            &path.join(name).display().to_string(),
        )
    };
    let model = load(FILES[0], model, &device.clone().autodiff())?;
    let ema = load(FILES[1], ema, device)?;
    let optim = match position.updates {
        0 => AdamW::default(),
        updates => optimizer(moments, &path.join(FILES[2]), &ema, updates, device)?,
    };
    Ok(State {
        model,
        ema: Ema::new(&ema, position.ema_updates()),
        optim,
        position,
        tally: Tally::new(device),
    })
}

/// Reads the position of the run from the checkpoint in the folder `path`.
///
/// # Errors
/// If its state.json is missing or damaged.
pub fn position(path: &Path) -> Result<Position> {
    let path = path.join("state.json");
    let json = files::read(&path).map_err(|e| Error::io("read", &path, &e))?;
    serde_json::from_slice(&json)
        .map_err(|e| Error::failed(format!("{} is damaged ({e})", path.display())))
}

/// Reads the training of the weights file `weights` from the state.json next to it in a checkpoint;
/// `None` if there is none.
pub fn trained_beside(weights: &Path) -> Option<Trained> {
    position(weights.parent()?).ok().map(|position| position.trained())
}

/// The metadata key of a weights file for the number of images seen before the training that made
/// the weights.
pub const IMAGES_BEFORE: &str = "images_before";

/// Returns the number of all images behind `weights`: those of their own training, and those behind
/// the weights that it started from. `None` if either is unknown.
pub fn images_behind(weights: &WeightsFile) -> Option<u64> {
    let own = weights.trained().or_else(|| trained_beside(&weights.path))?.images;
    let first =
        RunDir::of_weights(&weights.path).and_then(|run| run.read_starts().into_iter().next());
    let before = match (weights.metadata.get(IMAGES_BEFORE), first) {
        (Some(before), _) => before.parse().ok()?,
        (None, Some(Start { from: Some(_), from_images, .. })) => from_images?,
        (None, _) => 0,
    };
    own.checked_add(before)
}

fn optimizer_to_host(optim: &AdamW) -> Result<Tensors> {
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
    let scale = optim.loss_scale.iter().map(|state| parameters::Named {
        name: LOSS_SCALE.to_owned(),
        shape: state.dims().to_vec(),
        values: state.clone(),
    });
    weights::to_host(named.chain(scale).collect())
}

/// The name of the state of dynamic loss scaling among the moments.
const LOSS_SCALE: &str = "loss_scale";

fn optimizer(
    tensors: Tensors,
    path: &Path,
    model: &Soda,
    updates: u64,
    device: &Device,
) -> Result<AdamW> {
    let mut tensors: HashMap<String, Vec<f32>> =
        tensors.into_iter().map(|(name, _, values)| (name, values)).collect();
    let mut moments = HashMap::new();
    for parameter in parameters::collect(&model.valid()) {
        let mut take = |kind: &str| tensors.remove(&format!("{}.{kind}", parameter.name));
        let (Some(first), Some(second)) = (take("first"), take("second")) else {
            if parameters::is_statistic(&parameter.name) {
                continue;
            }
            return Err(Error::failed(format!(
                "{} lacks the moments of {}; this checkpoint belongs to another network",
                path.display(),
                parameter.name
            )));
        };
        let len = parameter.shape.iter().product::<usize>();
        if first.len() != len || second.len() != len {
            return Err(Error::failed(format!(
                "{}: the moments of {} have a different size; this checkpoint belongs to another \
                network",
                path.display(),
                parameter.name
            )));
        }
        let tensor = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [len]), device);
        moments.insert(parameter.name, Moments { first: tensor(first), second: tensor(second) });
    }
    let loss_scale = match tensors.remove(LOSS_SCALE) {
        Some(state) if state.len() == adamw::STATE => {
            Some(Tensor::from_floats(state.as_slice(), device))
        }
        Some(state) => {
            let found = state.len();
            return Err(Error::failed(format!(
                "{}: {LOSS_SCALE} has {found} values instead of {}",
                path.display(),
                adamw::STATE
            )));
        }
        None => None,
    };
    Ok(AdamW { moments, updates, loss_scale })
}
