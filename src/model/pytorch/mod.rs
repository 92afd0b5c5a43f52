//! PyTorch checkpoints, read as data: what `torch.save` writes (zip archives, and the sequence of
//! pickles of PyTorch before 1.6), and safetensors. Nothing in them is executed, and whatever they
//! contain, memory stays proportional to the length of the file.
//!
//! (The crate pytorch-reader 0.22.1 reads the same files. In a trial, a file of 128 KB with a
//! deflated pickle took 4.2 GB and one of 7 MB took 1.1 GB, and a pickle that calls `os.system` was
//! read as one without tensors.)

mod archive;
mod kind;
mod legacy;
mod pickle;
mod skipped;
mod tensor;

pub use tensor::{Dtype, Storage, Tensor};

use crate::error::{Error, Result};
use archive::Archive;
use burn::tensor::{bf16, f16};
use kind::Kind;
use pickle::{MOST_DIMENSIONS, Pickle};
use safetensors::tensor::Metadata;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The longest pickle that is read, in bytes; that of 1,500 tensors (two networks with their
/// optimizer) has 400 KB.
const LONGEST_PICKLE: u64 = 8 << 20;
/// The longest header of a safetensors file, in bytes; one of 1,500 tensors has 200 KB.
const LONGEST_HEADER: u64 = 8 << 20;
/// The number of levels of nested dictionaries that are searched.
const DEEPEST: usize = 4;
/// The names of nested dictionaries of tensors.
const INNER: [&str; 2] = ["state_dict", "model"];

/// An open checkpoint.
pub struct Checkpoint {
    /// Where it was read from.
    pub path: PathBuf,
    source: Source,
    contents: Contents,
    /// Bytes of tensors that may still be read: together, distinct tensors can't be longer than the
    /// file.
    left: u64,
}

/// The place of the tensors' values.
enum Source {
    /// Entries of an archive, whose names begin with this prefix.
    Zip(Archive, String),
    /// Byte positions in a file, one for each storage.
    Places(File, HashMap<String, u64>),
}

/// The dictionaries of a checkpoint.
enum Contents {
    Pickle(Pickle),
    /// A single dictionary of tensors.
    Flat(BTreeMap<String, Tensor>),
}

impl Checkpoint {
    /// Opens `path` and reads its dictionaries, but only the shapes of its tensors.
    ///
    /// # Errors
    /// If the file is missing, truncated or not a checkpoint, or tries to execute anything.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io("read", path, &e))?;
        Self::parse(path, file).map_err(|e| sentence(path, &e))
    }

    fn parse(path: &Path, mut file: File) -> archive::Result<Self> {
        let length = file.seek(SeekFrom::End(0)).map_err(unread)?;
        let (source, contents) = match Kind::of(&head(&mut file, kind::ENOUGH)?)? {
            Kind::Zip => open_zip(file)?,
            Kind::Legacy => {
                let (pickle, places) = legacy::open(&mut file, length)?;
                (Source::Places(file, places), Contents::Pickle(pickle))
            }
            Kind::Safetensors => {
                let (tensors, places) = open_safetensors(&mut file, length)?;
                (Source::Places(file, places), Contents::Flat(tensors))
            }
        };
        Ok(Self { path: path.to_owned(), source, contents, left: length })
    }

    /// Returns the names in the outermost dictionary, sorted.
    pub fn keys(&self) -> Vec<&str> {
        match &self.contents {
            Contents::Flat(tensors) => tensors.keys().map(String::as_str).collect(),
            Contents::Pickle(pickle) => {
                let mut keys: Vec<&str> =
                    pickle.dict(pickle.root()).unwrap_or_default().into_keys().collect();
                keys.sort_unstable();
                keys
            }
        }
    }

    /// Returns the tensors of the outermost dictionary by name.
    pub fn outermost(&self) -> BTreeMap<String, Tensor> {
        match &self.contents {
            Contents::Flat(tensors) => tensors.clone(),
            Contents::Pickle(pickle) => tensors_of(pickle, pickle.root()).unwrap_or_default(),
        }
    }

    /// Returns, by name, the tensors of the first dictionary that has one of the names `keys` and
    /// holds any. A dictionary that holds dictionaries instead is searched for a `state_dict` or
    /// `model`. `None` if nothing is found.
    pub fn tensors(&self, keys: &[&str]) -> Option<BTreeMap<String, Tensor>> {
        let Contents::Pickle(pickle) = &self.contents else { return None };
        below(pickle, pickle.root(), keys, DEEPEST, &mut HashSet::from([pickle.root()]))
    }

    /// Reads the values of `tensor`, row by row.
    ///
    /// # Errors
    /// If they aren't floats, lie outside their storage or are damaged, or if tensors share so much
    /// storage that together they are longer than the file.
    pub fn read(&mut self, name: &str, tensor: &Tensor) -> Result<Vec<f32>> {
        self.numbers(name, tensor).map_err(|e| sentence(&self.path, &e))
    }

    fn numbers(&mut self, name: &str, tensor: &Tensor) -> archive::Result<Vec<f32>> {
        let Tensor { storage: Storage { key, dtype, count }, .. } = tensor;
        let size = count.checked_mul(dtype.size()).filter(|_| tensor.fits());
        let size = size.ok_or_else(|| mismatch(name))?;
        self.left = self
            .left
            .checked_sub(size)
            .ok_or("holds tensors that share storage and together exceed the file")?;
        let lacks = || format!("lacks the values of {name}");
        let bytes = match &mut self.source {
            Source::Zip(archive, prefix) => {
                let entry = format!("{prefix}data/{key}");
                if archive.size(&entry).ok_or_else(lacks)? != size {
                    return Err(mismatch(name));
                }
                archive.read(&entry)?
            }
            Source::Places(file, places) => {
                // No more than the file holds: `left` started at its length.
                let mut bytes = vec![0; usize::try_from(size).map_err(|_| lacks())?];
                file.seek(SeekFrom::Start(*places.get(&**key).ok_or_else(lacks)?))
                    .map_err(unread)?;
                file.read_exact(&mut bytes).map_err(unread)?;
                bytes
            }
        };
        let stored: Vec<f32> = match dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F64 => {
                bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()
            }
            Dtype::F16 => {
                bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::Bf16 => {
                bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::Whole(_) => {
                return Err(format!("holds integers in {name}, expected floats"));
            }
        };
        Ok(tensor.gather(&stored))
    }
}

fn tensors_of(pickle: &Pickle, id: crate::pickle::Id) -> Option<BTreeMap<String, Tensor>> {
    let entries = pickle.dict(id)?.into_iter();
    Some(
        entries
            .filter_map(|(name, id)| Some((name.to_owned(), pickle.tensor(id)?.clone())))
            .collect(),
    )
}

/// Implements [`Checkpoint::tensors`].
fn below(
    pickle: &Pickle,
    id: crate::pickle::Id,
    keys: &[&str],
    deepest: usize,
    seen: &mut HashSet<crate::pickle::Id>,
) -> Option<BTreeMap<String, Tensor>> {
    let dict = pickle.dict(id)?;
    keys.iter().find_map(|key| {
        let inner = *dict.get(key)?;
        // Visit each dictionary once, because one may contain itself.
        if !seen.insert(inner) {
            return None;
        }
        let tensors = tensors_of(pickle, inner)?;
        match (tensors.is_empty(), deepest) {
            (false, _) => Some(tensors),
            (true, 0) => None,
            (true, _) => below(pickle, inner, &INNER, deepest - 1, seen),
        }
    })
}

fn open_zip(file: File) -> archive::Result<(Source, Contents)> {
    let mut archive = Archive::open(file)?;
    if archive.names().any(|name| name.ends_with("/constants.pkl")) {
        return Err(
            "is a TorchScript program (torch.jit.save); load it with PyTorch and save its \
             state_dict()"
                .into(),
        );
    }
    let pickle = archive
        .names()
        .filter(|name| name.split_once('/').is_some_and(|(_, rest)| rest == PICKLE))
        .min();
    let pickle = pickle.ok_or("holds no data.pkl, so torch.save didn't write it")?.to_owned();
    let prefix = pickle[..pickle.len() - PICKLE.len()].to_owned();
    let order = format!("{prefix}byteorder");
    if archive.size(&order).is_some_and(|size| size < 100) && archive.read(&order)? != b"little" {
        return Err(
            "was written on a big-endian machine; save it again on a little-endian one".into()
        );
    }
    if archive.size(&pickle).is_some_and(|size| size > LONGEST_PICKLE) {
        return Err(too_long());
    }
    let pickle = Pickle::parse(&archive.read(&pickle)?)?;
    Ok((Source::Zip(archive, prefix), Contents::Pickle(pickle)))
}

/// Reads the header of a safetensors file: its tensors, and where each begins.
fn open_safetensors(
    file: &mut File,
    length: u64,
) -> archive::Result<(BTreeMap<String, Tensor>, HashMap<String, u64>)> {
    let bad = |e: &dyn std::fmt::Display| {
        format!("is not a complete safetensors file ({e}); copy it again")
    };
    let size: [u8; 8] =
        head(file, 8)?.try_into().map_err(|_| bad(&"it is shorter than a header"))?;
    let header =
        u64::from_le_bytes(size).checked_add(8).filter(|end| *end <= length.min(LONGEST_HEADER));
    let header = header.ok_or_else(|| bad(&"its header is longer than the file, or than 8 MiB"))?;
    let metadata =
        serde_json::from_slice::<Metadata>(&head(file, header)?[8..]).map_err(|e| bad(&e))?;
    let (mut tensors, mut places) = (BTreeMap::new(), HashMap::new());
    for (name, info) in metadata.tensors() {
        let dtype = match info.dtype {
            safetensors::Dtype::F32 => Dtype::F32,
            safetensors::Dtype::F64 => Dtype::F64,
            safetensors::Dtype::F16 => Dtype::F16,
            safetensors::Dtype::BF16 => Dtype::Bf16,
            other => Dtype::Whole((other.bitsize() as u64).div_ceil(8)),
        };
        if info.shape.len() > MOST_DIMENSIONS {
            return Err(bad(&format!("{name} has {} dimensions", info.shape.len())));
        }
        let (from, to) = info.data_offsets;
        let count = info.shape.iter().try_fold(1u64, |n, side| n.checked_mul(*side as u64));
        let bytes = count.and_then(|count| count.checked_mul(dtype.size()));
        let place =
            header.checked_add(from as u64).filter(|_| from <= to && to as u64 <= length - header);
        let (Some(count), Some(place)) =
            (count.filter(|_| bytes == Some((to - from.min(to)) as u64)), place)
        else {
            return Err(bad(&format!(
                "the length of {name} doesn't match its shape, or it lies beyond the end"
            )));
        };
        let stride =
            |i: usize| info.shape[i + 1..].iter().fold(1usize, |n, side| n.saturating_mul(*side));
        let strides = (0..info.shape.len()).map(stride).collect();
        let storage = Storage { key: name.as_str().into(), dtype, count };
        places.insert(name.clone(), place);
        tensors.insert(name, Tensor { storage, offset: 0, shape: info.shape.clone(), strides });
    }
    Ok((tensors, places))
}

/// Reads the first `most` bytes of `file`, or all if it is shorter.
fn head(file: &mut File, most: u64) -> archive::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind().map_err(unread)?;
    file.take(most).read_to_end(&mut bytes).map_err(unread)?;
    Ok(bytes)
}

const PICKLE: &str = "data.pkl";

fn too_long() -> String {
    format!("holds a pickle of more than {} MiB, which no checkpoint needs", LONGEST_PICKLE >> 20)
}

fn mismatch(name: &str) -> String {
    format!("describes {name} in a way that doesn't match its storage")
}

fn unread(e: std::io::Error) -> String {
    format!("can't be read ({e})")
}

fn sentence(path: &Path, rest: &str) -> Error {
    Error::failed(format!("{} {rest}", path.display()))
}

#[cfg(test)]
mod tests;
