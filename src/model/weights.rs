//! Weights in safetensors files, with their recipe in the file's metadata.

mod stored;

pub(crate) use stored::parse;
pub use stored::{MORE, Tensors, WHITENING, encode, is_whole, read, to_host, write};

use super::Soda;
use super::parameters::{self, Named};
use crate::config::{Config, ModelConfig, Sides};
use crate::error::{Error, Result};
use crate::files;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use stored::encode_stored;

/// What a weights file holds.
pub struct WeightsFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: usize,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// The recipe in its metadata.
    pub config: Config,
    /// All of its metadata.
    pub metadata: HashMap<String, String>,
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
    /// Tensors that aren't part of the networks but were fitted to their z afterwards; their names
    /// begin with [`MORE`] or [`WHITENING`].
    pub more: Tensors,
}

/// The metadata key that says which networks a file holds, if it doesn't hold both.
pub const NETWORKS: &str = "networks";
/// Its value for an encoder without a denoiser.
pub const ENCODER_ALONE: &str = "encoder";

/// The metadata key of a file exported for another program, which names that program.
pub const LAYOUT: &str = "layout";

/// The training that weights come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trained {
    /// SHA-256 of the training data.
    pub data_sha256: String,
    /// Number of optimizer steps.
    pub step: u64,
    /// Number of images seen.
    pub images: u64,
}

impl Trained {
    /// Returns it as entries of a file's metadata.
    fn entries(&self) -> [(String, String); 3] {
        let Self { data_sha256, step, images } = self;
        [
            ("data_sha256", data_sha256.clone()),
            ("step", step.to_string()),
            ("images", images.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
    }
}

/// Returns the metadata of every weights file of this program: the version that wrote it, the
/// recipe and, for other programs, the sides of the networks' images. (Older files have no sides;
/// theirs are 32.)
pub fn metadata(config: &Config) -> HashMap<String, String> {
    let Sides { source, target } = config.data.sides();
    let sides = [("side", config.data.side), ("source_side", source), ("target_side", target)];
    let entries = [("soda", env!("CARGO_PKG_VERSION").to_owned()), ("config", config.to_toml())];
    let entries = entries.into_iter().chain(sides.map(|(key, side)| (key, side.to_string())));
    entries.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Saves the networks with their recipe and training.
///
/// # Errors
/// If the file can't be written.
pub fn save(path: &Path, model: &Soda, config: &Config, trained: &Trained) -> Result<()> {
    write(path, &to_host(parameters::collect(&model.valid()))?, trained_metadata(config, trained))
}

/// Returns [`metadata`] with the training added.
pub fn trained_metadata(config: &Config, trained: &Trained) -> HashMap<String, String> {
    let mut metadata = metadata(config);
    metadata.extend(trained.entries());
    metadata
}

impl WeightsFile {
    /// Reads weights that [`save`] wrote.
    ///
    /// # Errors
    /// If the file can't be read, this program didn't write it, or a value isn't finite.
    pub fn open(path: &Path) -> Result<Self> {
        // `path` may be a pipe.
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
        Self::parse(path, &bytes)
    }

    /// Reads like [`WeightsFile::open`], but from the file's `bytes`; error messages call it
    /// `path`.
    ///
    /// # Errors
    /// See [`WeightsFile::open`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let sha256 = files::sha256(bytes);
        let (tensors, metadata) = parse(path, bytes)?;
        // Checkpoints may hold values that aren't finite, so that the step which produced them can
        // be examined; as weights they are useless.
        for (name, _, values) in &tensors {
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                return Err(Error::failed(format!(
                    "{}: {name} holds {} at {at}; the training of these weights diverged or the \
                     file is damaged, so use other weights",
                    path.display(),
                    values[at]
                )));
            }
        }
        let Some(config) = metadata.get("config") else {
            let path = path.display();
            return Err(Error::failed(format!(
                "{path} holds no recipe, so it isn't a weights file of this program; name a file \
                 that training wrote"
            )));
        };
        if let Some(program) = metadata.get(LAYOUT) {
            return Err(Error::failed(format!(
                "{} holds networks in the layouts of {program}, exported from other weights; name \
                 the file they were exported from",
                path.display()
            )));
        }
        let config =
            Config::parse(config, &format!("{} (recipe in the file)", path.display()), &[])?;
        let is_more = |name: &str| name.starts_with(MORE) || name.starts_with(WHITENING);
        let (more, tensors): (Tensors, Tensors) =
            tensors.into_iter().partition(|(name, ..)| is_more(name));
        let tensors =
            tensors.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect();
        Ok(Self {
            path: path.to_owned(),
            bytes: bytes.len(),
            sha256,
            config,
            metadata,
            tensors,
            more,
        })
    }

    /// Returns the training that the weights come from; `None` for weights of older versions and
    /// for imported ones.
    pub fn trained(&self) -> Option<Trained> {
        let number = |key: &str| self.metadata.get(key)?.parse().ok();
        Some(Trained {
            data_sha256: self.metadata.get("data_sha256")?.clone(),
            step: number("step")?,
            images: number("images")?,
        })
    }

    /// Encodes a file with the same weights and metadata, with matrices and convolutions in f16 if
    /// `half`. The tensors `more` are added (the file's own if `more` is empty), and `trained` if
    /// it is known.
    ///
    /// # Errors
    /// If they can't be encoded.
    pub fn export(&self, half: bool, trained: Option<&Trained>, more: &Tensors) -> Result<Vec<u8>> {
        let mut all = self.metadata.clone();
        all.extend(metadata(&self.config));
        all.extend(trained.into_iter().flat_map(Trained::entries));
        let tensors = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| (name.as_str(), shape.as_slice(), values.as_slice()));
        let more = if more.is_empty() { &self.more } else { more };
        let more = more
            .iter()
            .map(|(name, shape, values)| (name.as_str(), shape.as_slice(), values.as_slice()));
        encode_stored(tensors.chain(more), all, half)
    }

    /// Loads the networks onto `device`. Of an encoder alone, as imports are, the denoiser is random:
    /// see [`WeightsFile::require_denoiser`].
    ///
    /// # Errors
    /// If a tensor is missing, superfluous or of another shape than the recipe says.
    pub fn model(&self, device: &Device) -> Result<Soda> {
        self.model_of(&self.config.model, device)
    }

    /// Loads like [`WeightsFile::model`], but with a recipe that may differ in what doesn't affect
    /// the weights, such as the sides of images.
    ///
    /// # Errors
    /// See [`WeightsFile::model`].
    pub fn model_of(&self, config: &ModelConfig, device: &Device) -> Result<Soda> {
        // A recipe may claim networks of any size: allocate nothing before checking that the
        // tensors exist.
        let blank = parameters::shapes(&Soda::blank(config, device));
        let own = blank.iter().filter(|(name, _)| self.has_denoiser() || name.starts_with(ENCODER));
        let needed: usize = own.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let unused =
            blank.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>() - needed;
        if unused > MOST_UNUSED {
            return Err(Error::failed(format!(
                "{} holds only an encoder, but its recipe has a denoiser of {unused} parameters; \
                 import it again",
                self.path.display()
            )));
        }
        let there: usize = self.tensors.values().map(|(_, values)| values.len()).sum();
        if needed != there {
            let path = self.path.display();
            return Err(Error::failed(format!(
                "{path} holds {there} values, but the networks of its recipe have {needed}; these \
                 are weights of another network"
            )));
        }
        let (mut model, origin) =
            (Soda::new(config, self.config.seed, device), self.path.display().to_string());
        if self.has_denoiser() {
            return load(model, &self.tensors, &origin);
        }
        let own = |(name, tensor): (&String, &(Vec<usize>, Vec<f32>))| {
            (name.strip_prefix(ENCODER).unwrap_or(name).to_owned(), tensor.clone())
        };
        model.encoder = load(model.encoder, &self.tensors.iter().map(own).collect(), &origin)?;
        Ok(model)
    }

    fn has_denoiser(&self) -> bool {
        self.metadata.get(NETWORKS).is_none_or(|networks| networks != ENCODER_ALONE)
    }

    /// Checks that there is a denoiser, which sampling and training need.
    ///
    /// # Errors
    /// If the file holds only an encoder.
    pub fn require_denoiser(&self) -> Result<()> {
        if self.has_denoiser() {
            return Ok(());
        }
        Err(Error::usage(format!(
            "{} holds an encoder without a denoiser, so it can't generate images or be trained \
             further; embed, probe, neighbours, map and health work with it",
            self.path.display()
        )))
    }

    /// Returns the tensors of the networks, sorted by name.
    pub fn networks(&self) -> Tensors {
        let mut all: Tensors = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| (name.clone(), shape.clone(), values.clone()))
            .collect();
        all.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        all
    }
}

/// The largest number of parameters that the placeholder denoiser of an encoder-only file may have:
/// it takes memory and is never used.
const MOST_UNUSED: usize = 4 << 20;
/// The prefix of the encoder's tensors.
const ENCODER: &str = "encoder.";

impl WeightsFile {
    /// Replaces the networks' tensors by those of `model` (without autodiff), which were changed as
    /// `how` says; an encoder alone stays one. The new checksum is derived from the old one and `how`, so it identifies exactly
    /// these weights. What was fitted to z is dropped, because z changes.
    ///
    /// # Errors
    /// If the device can't be read.
    pub fn replace(&mut self, model: &Soda, how: &str) -> Result<()> {
        let mut tensors = to_host(parameters::collect(model))?;
        // The denoiser of an encoder alone is a placeholder.
        tensors.retain(|(name, ..)| self.has_denoiser() || name.starts_with(ENCODER));
        self.tensors =
            tensors.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect();
        self.more = Tensors::new();
        self.sha256 = files::sha256(format!("{} {how}", self.sha256).as_bytes());
        Ok(())
    }
}

/// Replaces the tensors of `model` by `tensors`; error messages call their source `origin`.
///
/// # Errors
/// If a tensor is missing, superfluous or of another shape.
pub fn load<M: Module>(
    model: M,
    tensors: &HashMap<String, (Vec<usize>, Vec<f32>)>,
    origin: &str,
) -> Result<M> {
    let own = parameters::collect(&model);
    for Named { name, shape, .. } in &own {
        match tensors.get(name) {
            None => {
                return Err(Error::failed(format!(
                    "{origin} has no tensor {name}; these are weights of another network"
                )));
            }
            Some((other, _)) if other != shape => {
                return Err(Error::failed(format!(
                    "{origin}: {name} has shape {other:?}, but the configured network needs \
                     {shape:?}; use the recipe the weights were trained with"
                )));
            }
            Some(_) => {}
        }
    }
    if tensors.len() != own.len() {
        let extra = tensors.keys().filter(|k| own.iter().all(|n| n.name != **k)).min();
        let extra = extra.map_or("?", String::as_str);
        return Err(Error::failed(format!(
            "{origin} has a tensor {extra} that the configured network lacks"
        )));
    }
    Ok(parameters::map(model, |name, old| {
        let (_, values) = &tensors[name];
        Tensor::from_data(TensorData::new(values.clone(), [values.len()]), &old.device())
    }))
}
