//! Files that appear whole or not at all; what is no file is written to and stays what it is.

mod destination;
mod kept;
mod partial;

pub use destination::Destination;
pub use kept::kept;
pub use partial::{Partial, complete, partial};

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// Writes `bytes` to `path` with the permissions of any new file: under another name first, so that
/// nobody finds half of it. Links are followed; what is no regular file is opened and written to;
/// `-` is standard output.
///
/// # Errors
/// If the folder doesn't exist or can't be written, or the disk is full; what was at `path` stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    match Destination::of(path)? {
        Destination::File(_) => {}
        stream => return stream.pour(path, bytes),
    }
    let mut file = partial(path)?;
    crash::point()?;
    file.write_all(bytes).map_err(|e| Error::io("write", path, &e))?;
    crash::point()?;
    complete(file)
}

/// Moves the folder `from` to `to`, which doesn't exist; a power cut leaves one of both names.
///
/// # Errors
/// If that isn't allowed.
pub fn rename_folder(from: &Path, to: &Path) -> Result<()> {
    crash::point()?;
    std::fs::rename(from, to).map_err(|e| Error::io("rename", from, &e))?;
    crash::point()?;
    sync_folder(folder(to))
}

/// Removes the folder `path`, or the file, whether or not it is there.
///
/// # Errors
/// If that isn't allowed; a part may be gone.
pub fn remove_folder(path: &Path) -> Result<()> {
    crash::point()?;
    let removed = match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => std::fs::remove_file(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    crash::point()?;
    removed.map_err(|e| Error::io("remove", path, &e))
}

/// Removes the file `path`, whether or not it is there; behind links, so that they stay and lead to
/// nothing yet.
///
/// # Errors
/// If that isn't allowed.
pub fn remove_file(path: &Path) -> Result<()> {
    let Destination::File(target) = Destination::of(path)? else { return Ok(()) };
    match std::fs::remove_file(target) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, &e)),
        _ => Ok(()),
    }
}

/// Makes names in `path` outlive a power cut, where the system can be asked for that.
fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        let synced = File::open(path).and_then(|folder| folder.sync_all());
        return match synced {
            // Some network file systems know no such thing.
            Err(e)
                if e.kind() != std::io::ErrorKind::InvalidInput
                    && e.kind() != std::io::ErrorKind::Unsupported =>
            {
                Err(Error::io("write", path, &e))
            }
            _ => Ok(()),
        };
    }
    Ok(())
}

/// The folder that `path` lies in.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether something can be written to `path`, found out before the work that makes it; folders
/// that aren't there yet can be made. What is no regular file isn't opened for that: its readers
/// would take it for the end.
///
/// # Errors
/// If `path` is a folder or a socket, or nothing can be written beside it.
pub fn check_writable(path: &Path) -> Result<()> {
    match Destination::of(path)? {
        Destination::File(target) if target.is_dir() => {
            Err(Error::usage(format!("{} is a folder; name a file in it", path.display())))
        }
        Destination::File(target) => {
            let there = |folder: &&Path| {
                folder.as_os_str().is_empty() || std::fs::symlink_metadata(folder).is_ok()
            };
            let nearest =
                folder(&target).ancestors().find(there).filter(|p| !p.as_os_str().is_empty());
            tempfile::tempfile_in(nearest.unwrap_or(Path::new(".")))
                .map(drop)
                .map_err(|e| Error::io("write", path, &e))
        }
        Destination::Stream if is_socket(path) => {
            Err(Error::usage(format!("{} is a socket; name a file or a pipe", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(not(unix))]
fn is_socket(_path: &Path) -> bool {
    false
}

/// Moments between two changes on disk, at which a test can end the work as a kill would.
mod crash {
    use crate::error::Result;

    #[cfg(not(test))]
    pub(super) fn point() -> Result<()> {
        Ok(())
    }

    #[cfg(test)]
    thread_local!(static LEFT: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) });

    #[cfg(test)]
    pub(super) fn point() -> Result<()> {
        match LEFT.get() {
            Some(0) => Err(crate::error::Error::failed("killed")),
            left => {
                LEFT.set(left.map(|n| n - 1));
                Ok(())
            }
        }
    }

    /// The moment number `n` from now, and all after it, fail in this thread; `None`: none does.
    /// Gives how many were left.
    #[cfg(test)]
    pub fn at(n: Option<u32>) -> Option<u32> {
        LEFT.replace(n)
    }
}

#[cfg(test)]
pub use crash::at as crash_at;

/// Lower-case hex digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 of `bytes`, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Opens the plain file `path`: what is a pipe or a device there, in a folder that came from
/// elsewhere, could be waited for or read for ever.
fn open(path: &Path) -> std::io::Result<File> {
    // Looked at before it is opened, as opening a pipe already waits.
    match std::fs::metadata(path)? {
        found if found.is_file() => File::open(path),
        _ => Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no plain file")),
    }
}

/// The contents of the plain file `path`.
///
/// # Errors
/// If it is no plain file, isn't there or can't be read.
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map(|_| bytes)
}

/// SHA-256 of the file `path`, in hex, whatever its length.
///
/// # Errors
/// If it can't be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| Error::io("read", path, &e);
    let mut file = open(path).map_err(failed)?;
    let (mut digest, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&piece[..count]),
        }
    }
}

/// Makes the directory `path` and its parents.
///
/// # Errors
/// If that isn't allowed.
pub fn create_dir(path: &Path) -> Result<()> {
    crash::point()?;
    std::fs::create_dir_all(path).map_err(|e| Error::io("create the directory", path, &e))
}

/// Makes the directory that what is written to `path` lies in.
///
/// # Errors
/// If that isn't allowed.
pub fn create_parent(path: &Path) -> Result<()> {
    match Destination::of(path)? {
        Destination::File(target) => create_dir(folder(&target)),
        _ => Ok(()),
    }
}

#[cfg(all(test, unix))]
mod tests;
