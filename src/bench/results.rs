//! Files of results, as they are read.

use crate::error::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// Reads a file that the benchmark wrote as JSON; `remedy` completes the error.
///
/// # Errors
/// If it can't be read or is something else.
pub(super) fn read(path: &Path, remedy: &str) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| refused(path, &format!("not JSON ({e})"), remedy))?;
    if value["command"] != "bench" {
        return Err(refused(path, "not the result of soda bench", remedy));
    }
    Ok(value)
}

/// Returns the error for a file whose rows can't be read because of `why`.
pub(super) fn unreadable(path: &Path, why: &serde_json::Error, remedy: &str) -> Error {
    refused(path, &format!("its rows can't be read ({why})"), remedy)
}

fn refused(path: &Path, what: &str, remedy: &str) -> Error {
    Error::usage(format!("{}: {what}; {remedy}", path.display()))
}
