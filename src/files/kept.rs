//! What is found once and kept in the user's cache folder.

use super::create_parent;
use crate::error::Result;
use std::path::Path;

/// What `read` finds at `path`, or what `make` gives, which `write` then puts there. `what` is its
/// name in the log. Without a path nothing is kept.
///
/// # Errors
/// If it can't be made. A file that `read` makes nothing of is replaced, and one that can't be
/// written is only logged: the next caller pays for it with some time, nothing else.
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
