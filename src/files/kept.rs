//! Results that are computed once and kept in the user's cache folder.

use super::create_parent;
use crate::error::Result;
use std::path::Path;

/// Returns what `read` finds at `path`, or else the result of `make`, which `write` then stores
/// there. `what` is its name in the log. Without a path nothing is stored.
///
/// # Errors
/// If `make` fails. A file that `read` can't use is replaced. A failure to write is only logged, as
/// it merely costs the next caller some time.
pub fn kept<T>(
    what: &str,
    path: Option<&Path>,
    read: impl FnOnce(&Path) -> Option<T>,
    make: impl FnOnce() -> Result<T>,
    write: impl FnOnce(&T, &Path) -> Result<()>,
) -> Result<T> {
    if let Some(found) = path.filter(|path| path.exists()).and_then(read) {
        return Ok(found);
    }
    let made = make()?;
    if let Some(path) = path
        && let Err(e) = create_parent(path).and_then(|()| write(&made, path))
    {
        log::warn!("{what} is not cached: {e}");
    }
    Ok(made)
}
