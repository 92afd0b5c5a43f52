//! The JSON next to a shard, which tells what the shard was made of and whether it is complete.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use soda::error::{Error, Result};
use soda::files;
use soda::progress::say;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The JSON next to a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The number of the shard, from 0.
    pub shard: usize,
    /// The number of shards.
    pub of: usize,
    /// The number of rows of its table.
    pub rows: usize,
    /// The length of a row.
    pub dim: usize,
    /// The SHA-256 of its table.
    pub table_sha256: String,
    /// The SHA-256 of the weights.
    pub weights_sha256: String,
    /// The other settings that must be equal for all shards: features, precision, source of the
    /// images.
    pub settings: BTreeMap<String, Value>,
    /// The count and digest of the names of all files that the shards divide; `None` for a --split.
    pub listed: Option<String>,
    /// Whether the images have names of their own, as files do.
    #[serde(default = "named")]
    pub named: bool,
    /// "train" or "test"; `None` for files.
    pub split: Option<String>,
    /// The names of the classes.
    pub classes: Vec<String>,
}

/// Shards of older versions don't say so, and all got a file of names.
fn named() -> bool {
    true
}

impl Manifest {
    /// Returns the path of the JSON next to the table `path`.
    fn path(path: &Path) -> PathBuf {
        path.with_extension("json")
    }

    /// Removes the JSON of the table `path`, before the table is written again.
    ///
    /// # Errors
    /// If it can't be removed.
    pub fn remove(path: &Path) -> Result<()> {
        files::remove_file(&Self::path(path))
    }

    /// Writes the JSON next to the table `path`, which must be complete.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::failed(format!("cannot encode a shard's JSON: {e}")))?;
        files::write_atomically(&Self::path(path), &json)
    }

    /// Reads the JSON of the table `path`; `None` if there is none.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let at = Self::path(path);
        let Ok(bytes) = std::fs::read(&at) else { return Ok(None) };
        let damaged = |e| {
            Error::failed(format!(
                "{} is not a shard's JSON ({e}); remove it and make that shard again",
                at.display()
            ))
        };
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Names a property that differs between two shards of the same table, other than the shard's
    /// number and contents.
    pub fn differs(&self, other: &Self) -> Option<String> {
        let list = |one: &Self| {
            let mut all = one.settings.clone();
            all.insert("weights".into(), one.weights_sha256.clone().into());
            all.insert("shards".into(), one.of.into());
            all.insert("row length".into(), one.dim.into());
            all.insert("split".into(), serde_json::json!(one.split));
            all.insert("classes".into(), serde_json::json!(one.classes));
            all
        };
        let (one, other) = (list(self), list(other));
        let names = one.keys().chain(other.keys());
        names.into_iter().find(|name| one.get(*name) != other.get(*name)).cloned()
    }
}

/// Returns the number of rows of the shard at `path` if it exists, is intact and matches `wanted`;
/// `None` if it has yet to be made.
///
/// # Errors
/// If the existing shard was made differently, or its JSON is damaged.
pub fn finished(path: &Path, wanted: &Manifest) -> Result<Option<usize>> {
    let Some(found) = Manifest::read(path)?.filter(|_| path.exists()) else { return Ok(None) };
    if found.shard != wanted.shard || files::sha256_of(path)? != found.table_sha256 {
        say(&format!("{} has changed since it was written: making it again", path.display()));
        return Ok(None);
    }
    if let Some(what) = found.differs(wanted) {
        return Err(Error::usage(format!(
            "{} is a shard made with a different value of \"{what}\"; name another --out, or \
             remove it",
            path.display()
        )));
    }
    Ok(Some(found.rows))
}
