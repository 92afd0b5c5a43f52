//! Files that appear whole or not at all.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Writes `bytes` to `path` with the permissions of any new file: under another name first, so that nobody finds half of it.
///
/// # Errors
/// If the folder doesn't exist or can't be written, or the disk is full; what was at `path` stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = partial(path)?;
    file.write_all(bytes).map_err(|e| Error::io("write", path, &e))?;
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
    file.persist(path).map_err(|e| failed(e.error))?;
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

/// Lower-case hex digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 of `bytes`, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of the file `path`, in hex, whatever its length.
///
/// # Errors
/// If it can't be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| Error::io("read", path, &e);
    let mut file = std::fs::File::open(path).map_err(failed)?;
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
    std::fs::create_dir_all(path).map_err(|e| Error::io("create the directory", path, &e))
}

/// Makes the directory that `path` lies in.
///
/// # Errors
/// If that isn't allowed.
pub fn create_parent(path: &Path) -> Result<()> {
    create_dir(folder(path))
}
