//! The completeness marker of a checkpoint: the SHA-256 of its other files. It is written last, and
//! read before any of them is used.

use super::FILES;
use crate::error::{Error, Result};
use crate::files;
use crate::model::weights;
use crate::run_dir::{COMPLETE, RunDir};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

/// The contents of the marker file.
#[derive(Serialize, Deserialize)]
struct Marker {
    /// The checksums by file name.
    sha256: BTreeMap<String, String>,
}

/// Writes the marker of the checkpoint at `path`, whose other files must exist.
///
/// # Errors
/// If one can't be read, or the marker can't be written.
pub(super) fn write(path: &Path) -> Result<()> {
    let sums =
        FILES.iter().map(|name| Ok(((*name).to_owned(), files::sha256_of(&path.join(name))?)));
    let marker = Marker { sha256: sums.collect::<Result<_>>()? };
    let json = serde_json::to_vec_pretty(&marker)
        .map_err(|e| Error::failed(format!("cannot encode checksums: {e}")))?;
    files::write_atomically(&path.join(COMPLETE), &json)
}

/// Returns what is wrong with the checkpoint at `path`: a file that is missing or has changed since
/// it was written.
///
/// # Errors
/// If an existing file can't be read, which doesn't mean that it is damaged.
pub fn damage(path: &Path) -> Result<Option<String>> {
    let marker = match read(&path.join(COMPLETE))? {
        Ok(marker) => marker,
        Err(what) => return Ok(Some(what)),
    };
    for name in FILES {
        let file = path.join(name);
        if !file.try_exists().map_err(|e| Error::io("read", &file, &e))? {
            return Ok(Some(format!("{} is missing", file.display())));
        }
        if let Err(what) = compare(&file, marker.sha256.get(name).map_or("", String::as_str))? {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

/// Returns what is wrong with the checkpoint at `path` if one of its weights files is truncated.
/// Unlike [`damage`] it reads only their headers.
///
/// # Errors
/// If a file can't be read.
pub fn truncated(path: &Path) -> Result<Option<String>> {
    for file in FILES.map(|name| path.join(name)) {
        let is_weights = file.extension().is_some_and(|ending| ending == "safetensors");
        if is_weights && file.exists() && !weights::is_whole(&file)? {
            return Ok(Some(format!("{} is truncated", file.display())));
        }
    }
    Ok(None)
}

/// Checks that a weights file in a checkpoint hasn't changed since it was written. Files elsewhere
/// pass, because nothing is known about them.
///
/// # Errors
/// Names the damaged file: the weights, or the marker next to them.
pub fn verify_weights(file: &Path) -> Result<()> {
    let path = file.with_file_name(COMPLETE);
    if !path.try_exists().map_err(|e| Error::io("read", &path, &e))? {
        return Ok(());
    }
    let marker = match read(&path)? {
        Ok(marker) => marker,
        Err(what) if file.with_file_name("state.json").exists() => return Err(Error::failed(what)),
        // An unrelated file of that name.
        Err(_) => return Ok(()),
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    match marker.sha256.get(&*name) {
        Some(wanted) => compare(file, wanted)?.map_err(|what| Error::failed(what + &earlier(file))),
        None => Ok(()),
    }
}

/// Names the file of the checkpoint before that of `file`, as the rest of a sentence, if there is
/// one.
fn earlier(file: &Path) -> String {
    let earlier = || {
        let step =
            file.parent()?.file_name()?.to_str()?.strip_prefix("step_")?.parse::<u64>().ok()?;
        let run = RunDir::of_weights(file)?;
        let before = run.checkpoints().into_iter().rfind(|other| *other < step)?;
        Some(run.checkpoint(before).join(file.file_name()?))
    };
    earlier().map_or(String::new(), |path| format!("; the one before it is {}", path.display()))
}

/// Reads the marker at `path`, or returns what is wrong with it.
fn read(path: &Path) -> Result<std::result::Result<Marker, String>> {
    match files::read(path) {
        Ok(json) => Ok(serde_json::from_slice(&json)
            .map_err(|e| format!("{} is damaged ({e})", path.display()))),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Ok(Err(format!("{} is missing", path.display())))
        }
        Err(e) => Err(Error::io("read", path, &e)),
    }
}

fn compare(file: &Path, wanted: &str) -> Result<std::result::Result<(), String>> {
    let same = files::sha256_of(file)? == wanted;
    let damaged =
        || format!("{} is damaged: its checksum differs from when it was written", file.display());
    Ok(same.then_some(()).ok_or_else(damaged))
}
