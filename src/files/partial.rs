//! Files that are written piece by piece and moved into place when they are complete.

use super::unfinished::Unfinished;
use super::{Destination, crash, folder, sync_folder};
use crate::error::{Error, Result};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file being written, which [`complete`] moves into place; it is removed if dropped before.
#[derive(Debug)]
pub struct Partial {
    _unfinished: Unfinished,
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

/// Creates a new file for `path`, next to it and named after it; for a pipe or a device, among the
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
    let file = file?;
    let _unfinished = Unfinished::new(file.path());
    Ok(Partial { _unfinished, file, path: path.to_owned(), destination })
}

fn beside(target: &Path) -> std::io::Result<NamedTempFile> {
    // tempfile makes files that only their owner can read; opening it here obeys the umask.
    let open = |name: &Path| std::fs::OpenOptions::new().write(true).create_new(true).open(name);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // Names have at most 255 bytes.
    let name = &name[..name.floor_char_boundary(200)];
    let mut builder = tempfile::Builder::new();
    // If the program is killed, the name of the leftover file says what it is.
    let builder = builder.prefix(name).suffix(".partial");
    builder.make_in(folder(target), open)
}

/// Moves a [`partial`] file into place, or copies its contents to a pipe or a device.
///
/// # Errors
/// If the disk is full, or a folder is in its place. What was there then stays.
pub fn complete(partial: Partial) -> Result<()> {
    let Partial { _unfinished, mut file, path, destination } = partial;
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
