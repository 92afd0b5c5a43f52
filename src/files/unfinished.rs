//! The files that are being written, which are removed if the program is ended meanwhile.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static PATHS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn paths() -> MutexGuard<'static, Vec<PathBuf>> {
    PATHS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary file that [`remove_unfinished`] removes, until this is dropped.
#[derive(Debug)]
pub(super) struct Unfinished(PathBuf);

impl Unfinished {
    pub(super) fn new(path: &Path) -> Self {
        paths().push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        paths().retain(|path| *path != self.0);
    }
}

/// Removes the temporary files of all writes that are under way, which then fail. For a program that
/// is about to end.
pub fn remove_unfinished() {
    // Nothing can be done about a file that can't be removed.
    paths().drain(..).for_each(|path| drop(std::fs::remove_file(path)));
}
