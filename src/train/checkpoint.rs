//! The whole training state on disk: weights, EMA, optimizer and position.
//!
//! A checkpoint is written into a temporary folder next to the last one, with the completeness
//! marker, which holds the checksum of every file, as the last file. Then the folder is renamed. So
//! a crash or a full disk costs only the steps since the last checkpoint, and damage is found
//! before a run resumes from it.

use super::ema::Ema;
use super::optim::AdamW;
use super::tally::Tally;
use crate::config::Config;
use crate::device::lasting;
use crate::error::{Error, Hint, Result};
use crate::files::{self, create_dir, remove_folder, rename_folder};
use crate::model::weights::{self, Tensors};
use crate::model::{Soda, parameters};
use crate::run_dir::{DAMAGED, OLD, PARTIAL, RunDir};
use burn::module::Module;
use burn::tensor::Device;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

mod marker;
mod moments;
mod position;
mod state;
#[cfg(test)]
mod tests;

use moments::{LOSS_SCALE, optimizer, optimizer_to_host};
use position::encoded;

pub use marker::{damage, truncated, verify_weights};
pub use position::{Continued, IMAGES_BEFORE, Position, images_behind, position, trained_beside};
pub use state::{State, check_networks, other_networks};

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
        let written = self.write_files(&partial).and_then(|()| replace(&target, &partial));
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
    replace(&target, &partial)
}

/// Moves the whole checkpoint `new` to `path`. One that is there is moved away first, and [`load`]
/// moves it back if the program is ended before the new one is in place.
fn replace(path: &Path, new: &Path) -> Result<()> {
    let old = set_aside(path)?;
    rename_folder(new, path)?;
    remove_folder(&old)
}

/// Renames the checkpoint `path`, if it exists, and returns its new name.
fn set_aside(path: &Path) -> Result<PathBuf> {
    let old = path.with_extension(OLD);
    if path.exists() {
        remove_folder(&old)?;
        rename_folder(path, &old)?;
    }
    Ok(old)
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
    remove_folder(&set_aside(path)?)
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
        let path = old.with_extension("");
        if !path.exists() && damage(&old)?.is_none() {
            rename_folder(&old, &path)?;
        } else {
            remove_folder(&old)?;
        }
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
