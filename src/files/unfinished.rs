//! The files and folders that are being written, which are removed if the program is ended
//! meanwhile.

use std::io::ErrorKind::NotADirectory;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static PATHS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn paths() -> MutexGuard<'static, Vec<PathBuf>> {
    PATHS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary file or folder that [`remove_unfinished`] removes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    pub(crate) fn new(path: &Path) -> Self {
        paths().push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        paths().retain(|path| *path != self.0);
    }
}

/// Removes the temporary files and folders of all writes that are under way, which then fail. For a
/// program that is about to end.
pub fn remove_unfinished() {
    for path in paths().drain(..) {
        // Nothing can be done about what can't be removed.
        if std::fs::remove_dir_all(&path).is_err_and(|e| e.kind() == NotADirectory) {
            let _ = std::fs::remove_file(path);
        }
    }
}
