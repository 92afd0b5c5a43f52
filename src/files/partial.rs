//! Files that are written piece by piece, and stand in their place when they are whole.

use super::{Destination, crash, folder, sync_folder};
use crate::error::{Error, Result};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file being written, which [`complete`] puts in its place; gone when it is dropped before.
#[derive(Debug)]
pub struct Partial {
    file: NamedTempFile,
    path: PathBuf,
    destination: Destination,
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Partial {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

/// A new file for `path`, beside it and named after it; for what is no regular file, among the
/// system's temporary files.
///
/// # Errors
/// If the folder doesn't exist or can't be written.
pub fn partial(path: &Path) -> Result<Partial> {
    let destination = Destination::of(path)?;
    let file = match &destination {
        Destination::File(target) => beside(target).map_err(|e| Error::io("write", path, &e)),
        _ => NamedTempFile::new().map_err(|e| Error::io("write to", &std::env::temp_dir(), &e)),
    };
    Ok(Partial { file: file?, path: path.to_owned(), destination })
}

fn beside(target: &Path) -> std::io::Result<NamedTempFile> {
    // tempfile's own files are for their owner's eyes only; one that we open obeys the umask.
    let open = |name: &Path| std::fs::OpenOptions::new().write(true).create_new(true).open(name);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let mut builder = tempfile::Builder::new();
    // Who stops the program at once finds it, and sees what it is.
    let builder = builder.prefix(&*name).suffix(".partial");
    builder.make_in(folder(target), open)
}

/// Puts a [`partial`] file in its place, or its contents into what is no regular file.
///
/// # Errors
/// If the disk is full, or a folder is in its place; what was there stays.
pub fn complete(partial: Partial) -> Result<()> {
    let Partial { mut file, path, destination } = partial;
    let failed = |e: std::io::Error| Error::io("write", &path, &e);
    let Destination::File(target) = destination else {
        file.rewind().map_err(failed)?;
        return destination.pour(&path, file);
    };
    file.as_file().sync_all().map_err(failed)?;
    crash::point()?;
    file.persist(&target).map_err(|e| failed(e.error))?;
    crash::point()?;
    sync_folder(folder(&target))
}
