//! What can go wrong in a shard, panics of the library included.

use crate::error::{Error, Result};
use ::parquet::errors::ParquetError;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// Runs `read` on the shard at `path`. The library may panic on deliberately damaged files. A panic
/// while `elsewhere` is true didn't come from the library and is propagated.
pub(crate) fn guarded<T>(
    path: &Path,
    elsewhere: &Cell<bool>,
    read: impl FnOnce() -> std::result::Result<T, Fault>,
) -> Result<T> {
    let wrong = |e: &dyn std::fmt::Display| {
        let path = path.display();
        Err(Error::failed(format!(
            "{path} cannot be read as a Parquet file ({e}); it is truncated or damaged: get it \
             again"
        )))
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Fault::Damaged(e))) => wrong(&e),
        Ok(Err(Fault::Other(e))) => Err(e),
        Err(panic) if elsewhere.get() => resume_unwind(panic),
        Err(_) => wrong(&"its contents are invalid"),
    }
}

/// Why the reading of a shard ended.
pub(crate) enum Fault {
    /// The shard is damaged; holds what is wrong with it.
    Damaged(String),
    /// Another error.
    Other(Error),
}

impl From<ParquetError> for Fault {
    fn from(e: ParquetError) -> Self {
        Self::Damaged(match e {
            ParquetError::General(reason)
            | ParquetError::EOF(reason)
            | ParquetError::NYI(reason) => reason,
            other => other.to_string(),
        })
    }
}
