//! Weights in safetensors files, with the recipe that made them in the file's metadata.

use super::Soda;
use super::parameters::{self, Named};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Named f32 tensors and their shapes.
pub type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// What a weights file holds.
pub struct WeightsFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// The recipe in its metadata.
    pub config: Config,
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
}

/// Values of `named` on the host.
///
/// # Errors
/// If the device can't be read.
pub fn to_host(named: Vec<Named>) -> Result<Tensors> {
    named
        .into_iter()
        .map(|t| {
            let values = t.values.try_to_vec_as::<f32>();
            let values = values.map_err(|e| Error::failed(format!("cannot read {} from the device: {e}", t.name)))?;
            Ok((t.name, t.shape, values))
        })
        .collect()
}

/// Writes `tensors` and `metadata` to `path`: whole or not at all.
///
/// # Errors
/// If the file can't be written.
pub fn write(path: &Path, tensors: &Tensors, metadata: HashMap<String, String>) -> Result<()> {
    let views = tensors.iter().map(|(name, shape, values)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
        (name, view.expect("as many values as the shape says"))
    });
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|e| Error::failed(format!("cannot write {}: {e}", path.display())))?;
    files::write_atomically(path, &bytes)
}

/// Reads the tensors and metadata of a safetensors file.
///
/// # Errors
/// If the file is missing, truncated, or holds anything but f32.
pub fn read(path: &Path) -> Result<(Tensors, HashMap<String, String>)> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    parse(path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<(Tensors, HashMap<String, String>)> {
    let bad = |e: &dyn std::fmt::Display| {
        Error::failed(format!("{} is not a usable safetensors file ({e}); copy or train the weights again", path.display()))
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| bad(&e))?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| bad(&e))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(bad(&format!("{name} is {:?}, expected F32", view.dtype())));
        }
        tensors.push((name, view.shape().to_vec(), bytemuck::pod_collect_to_vec(view.data())));
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

/// Saves the networks with their recipe.
///
/// # Errors
/// If the file can't be written.
pub fn save(path: &Path, model: &Soda, config: &Config) -> Result<()> {
    let tensors = to_host(parameters::collect(&model.valid()))?;
    let metadata = [("soda", env!("CARGO_PKG_VERSION").to_owned()), ("config", config.to_toml())];
    write(path, &tensors, metadata.map(|(k, v)| (k.to_owned(), v)).into())
}

impl WeightsFile {
    /// Reads weights that [`save`] wrote.
    ///
    /// # Errors
    /// If the file is unreadable, or not of this program.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
        let sha256 = files::sha256(&bytes);
        let (tensors, metadata) = parse(path, &bytes)?;
        let Some(config) = metadata.get("config") else {
            let path = path.display();
            return Err(Error::failed(format!(
                "{path} holds no recipe, so it isn't weights of this program; name a file that `soda train` wrote"
            )));
        };
        let config = Config::parse(config, &format!("{} (recipe in the file)", path.display()), &[])?;
        let tensors = tensors.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect();
        Ok(Self { path: path.to_owned(), sha256, config, tensors })
    }

    /// The networks on `device`.
    ///
    /// # Errors
    /// If a tensor is missing, superfluous or of another shape than the recipe says.
    pub fn model(&self, device: &Device) -> Result<Soda> {
        let model = Soda::new(&self.config.model, self.config.seed, device);
        load(model, &self.tensors, &self.path.display().to_string())
    }
}

/// `model` with its tensors replaced by those of `tensors`; `origin` is what errors call them.
///
/// # Errors
/// If a tensor is missing, superfluous or of another shape.
pub fn load<M: Module>(model: M, tensors: &HashMap<String, (Vec<usize>, Vec<f32>)>, origin: &str) -> Result<M> {
    let own = parameters::collect(&model);
    for Named { name, shape, .. } in &own {
        match tensors.get(name) {
            None => {
                return Err(Error::failed(format!("{origin} has no tensor {name}; these are weights of another network")));
            }
            Some((other, _)) if other != shape => {
                return Err(Error::failed(format!(
                    "{origin}: {name} has shape {other:?}, the configured network needs {shape:?}; use the recipe the weights were trained with"
                )));
            }
            Some(_) => {}
        }
    }
    if tensors.len() != own.len() {
        let extra = tensors.keys().filter(|k| own.iter().all(|n| n.name != **k)).min();
        let extra = extra.map_or("?", String::as_str);
        return Err(Error::failed(format!("{origin} has a tensor {extra} that the configured network lacks")));
    }
    Ok(parameters::map(model, |name, old| {
        let (_, values) = &tensors[name];
        Tensor::from_data(TensorData::new(values.clone(), [values.len()]), &old.device())
    }))
}
