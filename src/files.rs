//! Files that appear whole or not at all.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Writes `bytes` to `path` with the permissions of any new file: under another name first, so that nobody finds half of it.
///
/// # Errors
/// If the folder doesn't exist or can't be written, or the disk is full; what was at `path` stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = partial(path)?;
    crash::point()?;
    file.write_all(bytes).map_err(|e| Error::io("write", path, &e))?;
    crash::point()?;
    complete(file, path)
}

/// A new file beside `path`, named after it, for [`complete`]; gone when it is dropped before.
///
/// # Errors
/// If the folder doesn't exist or can't be written.
pub fn partial(path: &Path) -> Result<NamedTempFile> {
    // tempfile's own files are for their owner's eyes only; one that we open obeys the umask.
    let open = |name: &Path| std::fs::OpenOptions::new().write(true).create_new(true).open(name);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut builder = tempfile::Builder::new();
    // Who stops the program at once finds it, and sees what it is.
    let builder = builder.prefix(&*name).suffix(".partial");
    builder.make_in(folder(path), open).map_err(|e| Error::io("write", path, &e))
}

/// Puts a [`partial`] file in its place.
///
/// # Errors
/// If the disk is full, or `path` is a folder; what was there stays.
pub fn complete(file: NamedTempFile, path: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("write", path, &e);
    file.as_file().sync_all().map_err(failed)?;
    crash::point()?;
    file.persist(path).map_err(|e| failed(e.error))?;
    crash::point()?;
    sync_folder(folder(path))
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

/// Makes names in `path` outlive a power cut, where the system can be asked for that.
fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        let synced = File::open(path).and_then(|folder| folder.sync_all());
        return match synced {
            // Some network file systems know no such thing.
            Err(e) if e.kind() != std::io::ErrorKind::InvalidInput && e.kind() != std::io::ErrorKind::Unsupported => {
                Err(Error::io("write", path, &e))
            }
            _ => Ok(()),
        };
    }
    Ok(())
}

/// The folder that `path` lies in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a file can be written at `path`, found out before the work that makes it.
///
/// # Errors
/// If `path` is a folder, or nothing can be written beside it.
pub fn check_writable(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::usage(format!("{} is a folder; name a file in it", path.display())));
    }
    let folder = folder(path);
    tempfile::tempfile_in(folder).map(drop).map_err(|e| Error::io("write", path, &e))
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

    /// The moment number `n` from now, and all after it, fail in this thread; `None`: none does. Gives how many were left.
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

/// Opens the plain file `path`: what is a pipe or a device there, in a folder that came from elsewhere, could be waited for or read
/// for ever.
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

/// Makes the directory that `path` lies in.
///
/// # Errors
/// If that isn't allowed.
pub fn create_parent(path: &Path) -> Result<()> {
    create_dir(folder(path))
}
