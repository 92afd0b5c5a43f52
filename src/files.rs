//! Atomic file writes: a file appears whole or not at all. Pipes and devices are written to, never
//! replaced.

mod destination;
mod kept;
mod partial;
mod unfinished;

pub use destination::Destination;
pub use kept::kept;
pub use partial::{Partial, complete, partial};
pub(crate) use unfinished::Unfinished;
pub use unfinished::remove_unfinished;

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// Writes `bytes` to `path` with the permissions of any new file. The data goes to a temporary name
/// first, so that no reader finds half of it. Links are followed; a pipe or a device is opened and
/// written to; `-` is standard output.
///
/// # Errors
/// If the folder doesn't exist or can't be written, or the disk is full. What was at `path` then
/// stays.
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

/// Renames the folder `from` to `to`, which must not exist; a power cut leaves one of the two
/// names.
///
/// # Errors
/// If that isn't allowed.
pub fn rename_folder(from: &Path, to: &Path) -> Result<()> {
    crash::point()?;
    std::fs::rename(from, to).map_err(|e| Error::io("rename", from, &e))?;
    crash::point()?;
    sync_folder(folder(to))
}

/// Removes the folder or file `path`, if it exists.
///
/// # Errors
/// If that isn't allowed; part of the folder may be gone by then.
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

/// Removes the file `path`, if it exists. Links are followed, so that they stay, with no target.
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

/// Makes the names in the folder `path` survive a power cut, on systems that support it.
fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        let synced = File::open(path).and_then(|folder| folder.sync_all());
        return match synced {
            // Some network file systems don't support this.
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

/// Returns the folder that contains `path`.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Checks that `path` can be written, before the work that produces its contents. Missing folders
/// are fine, as they can be created. A pipe or a device isn't opened for the check, as its reader
/// would see an end of file.
///
/// # Errors
/// If `path` is a folder or a socket, or its folder can't be written.
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

/// Points between two changes on disk at which a test can stop the work like a kill.
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

    /// Makes point number `n` from now, and all after it, fail in this thread; with `None`, none
    /// fails. Returns how many points were left.
    #[cfg(test)]
    pub fn at(n: Option<u32>) -> Option<u32> {
        LEFT.replace(n)
    }
}

#[cfg(test)]
pub use crash::at as crash_at;

/// Returns `bytes` as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Returns the SHA-256 of `bytes`, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Opens the regular file `path`. A pipe or a device, in a folder from an untrusted source, could
/// block or be read for ever.
fn open(path: &Path) -> std::io::Result<File> {
    // Checked before it is opened, as opening a pipe already blocks.
    match std::fs::metadata(path)? {
        found if found.is_file() => File::open(path),
        _ => Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// Returns the contents of the regular file `path`.
///
/// # Errors
/// If it isn't a regular file, doesn't exist or can't be read.
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map(|_| bytes)
}

/// Returns the contents of the regular file `path`; nothing if it doesn't exist.
///
/// # Errors
/// If it can't be read.
pub fn read_if_exists(path: &Path) -> Result<Vec<u8>> {
    match read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|e| Error::io("read", path, &e)),
    }
}

/// Returns the SHA-256 of the file `path`, in hex, read in pieces.
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

/// Creates the directory `path` and its parents.
///
/// # Errors
/// If that isn't allowed.
pub fn create_dir(path: &Path) -> Result<()> {
    crash::point()?;
    std::fs::create_dir_all(path).map_err(|e| Error::io("create the directory", path, &e))
}

/// Creates the directory in which a file written to `path` ends up.
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
