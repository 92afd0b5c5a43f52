//! Checkpoints of PyTorch (`torch.save` of dictionaries of tensors): read as data. Nothing in them is run, and however they are
//! made, memory stays in proportion to the length of the file.

mod archive;
mod pickle;
mod tensor;

pub use tensor::{Dtype, Storage, Tensor};

use crate::error::{Error, Result};
use archive::Archive;
use burn::tensor::{bf16, f16};
use pickle::Pickle;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Longest pickle that is read; that of 1,500 tensors (two networks with their optimizer) has 400 KB.
const LONGEST_PICKLE: u64 = 8 << 20;

/// An open checkpoint.
pub struct Checkpoint {
    /// Where it was read from.
    pub path: PathBuf,
    archive: Archive,
    /// What the names of its entries begin with.
    prefix: String,
    pickle: Pickle,
    /// Bytes of tensors that may still be read: distinct ones can't be longer than the file.
    left: u64,
}

impl Checkpoint {
    /// Opens `path` and reads its dictionaries; of the tensors only their shapes.
    ///
    /// # Errors
    /// If the file is missing, truncated, no checkpoint, or wants anything to be run.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io("read", path, &e))?;
        Self::parse(path, file).map_err(|e| sentence(path, &e))
    }

    fn parse(path: &Path, file: File) -> archive::Result<Self> {
        let mut archive = Archive::open(file)?;
        let pickle = archive.names().filter(|name| name.split_once('/').is_some_and(|(_, rest)| rest == PICKLE)).min();
        let pickle = pickle.ok_or("holds no data.pkl, so it isn't what torch.save writes")?.to_owned();
        let prefix = pickle[..pickle.len() - PICKLE.len()].to_owned();
        let order = format!("{prefix}byteorder");
        if archive.size(&order).is_some_and(|size| size < 100) && archive.read(&order)? != b"little" {
            return Err("was written on a big-endian machine; save it again on another one".into());
        }
        if archive.size(&pickle).is_some_and(|size| size > LONGEST_PICKLE) {
            return Err(format!("holds a pickle of more than {} MiB, which no checkpoint needs", LONGEST_PICKLE >> 20));
        }
        let pickle = Pickle::parse(&archive.read(&pickle)?)?;
        Ok(Self { path: path.to_owned(), left: archive.length(), archive, prefix, pickle })
    }

    /// Names in the outermost dictionary, in order.
    pub fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.pickle.dict(self.pickle.root()).unwrap_or_default().into_keys().collect();
        keys.sort_unstable();
        keys
    }

    /// The tensors of the dictionary `key` by name; `None` where there is no such dictionary.
    pub fn tensors(&self, key: &str) -> Option<BTreeMap<String, Tensor>> {
        let id = *self.pickle.dict(self.pickle.root())?.get(key)?;
        let entries = self.pickle.dict(id)?.into_iter();
        Some(entries.filter_map(|(name, id)| Some((name.to_owned(), self.pickle.tensor(id)?.clone()))).collect())
    }

    /// The numbers of `tensor`, row by row.
    ///
    /// # Errors
    /// If they aren't floats, lie outside of their storage, or are damaged; or if tensors share so much memory that together they
    /// are longer than the file.
    pub fn read(&mut self, name: &str, tensor: &Tensor) -> Result<Vec<f32>> {
        self.numbers(name, tensor).map_err(|e| sentence(&self.path, &e))
    }

    fn numbers(&mut self, name: &str, tensor: &Tensor) -> archive::Result<Vec<f32>> {
        let Tensor { storage: Storage { key, dtype, count }, .. } = tensor;
        let entry = format!("{}data/{key}", self.prefix);
        let size = self.archive.size(&entry).ok_or_else(|| format!("lacks the numbers of {name}"))?;
        if count.checked_mul(dtype.size()) != Some(size) || !tensor.fits() {
            return Err(format!("says that {name} has more numbers than there are"));
        }
        self.left = self.left.checked_sub(size).ok_or("holds tensors that share their numbers; together they exceed the file")?;
        let bytes = self.archive.read(&entry)?;
        let stored: Vec<f32> = match dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::Bf16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::Whole(_) => return Err(format!("holds whole numbers in {name}, expected floats")),
        };
        Ok(tensor.gather(&stored))
    }
}

const PICKLE: &str = "data.pkl";

fn sentence(path: &Path, rest: &str) -> Error {
    Error::failed(format!("{} {rest}", path.display()))
}

#[cfg(test)]
mod tests;
