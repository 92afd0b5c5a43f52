//! What an output path leads to: a file, which may be replaced, or something that must not be.

use crate::error::{Error, Result};
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The target of an output path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output: `-`, or its pipe or file under another name, such as `/dev/stdout`.
    Output,
    /// Standard error under another name, such as `/dev/stderr`.
    Messages,
    /// An existing or future file (or a folder, which can't be written to), with all links
    /// resolved.
    File(PathBuf),
    /// A pipe or a device: opened and written to, never replaced.
    Stream,
}

/// The largest number of links to follow, as on Linux.
const LINKS: usize = 40;

impl Destination {
    /// Resolves `path`. Nothing is opened, as opening a pipe already blocks.
    ///
    /// # Errors
    /// If it is a link that leads back to itself.
    pub fn of(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Output);
        }
        match std::fs::metadata(path) {
            Ok(found) if is(&found, io::stdout()) => Ok(Self::Output),
            Ok(found) if is(&found, io::stderr()) => Ok(Self::Messages),
            Ok(found) if !found.is_file() && !found.is_dir() => Ok(Self::Stream),
            _ => behind_links(path).map(Self::File),
        }
    }

    /// Writes all of `from` to a destination other than [`Destination::File`]; errors call it
    /// `path`. It is not an error if the reader has gone.
    ///
    /// # Errors
    /// If it can't be opened or written.
    pub(super) fn pour(&self, path: &Path, mut from: impl Read) -> Result<()> {
        fn copy(from: &mut impl Read, mut to: impl Write) -> io::Result<()> {
            io::copy(from, &mut to).and_then(|_| to.flush())
        }
        let (name, done) = match self {
            Self::Output => (Path::new("to standard output"), copy(&mut from, io::stdout().lock())),
            Self::Messages => {
                (Path::new("to standard error"), copy(&mut from, io::stderr().lock()))
            }
            Self::Stream | Self::File(_) => {
                (path, OpenOptions::new().write(true).open(path).and_then(|to| copy(&mut from, to)))
            }
        };
        match done {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("write", name, &e)),
            _ => Ok(()),
        }
    }
}

/// Follows the links at `path`, the last of which may have no target.
fn behind_links(path: &Path) -> Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..=LINKS {
        match std::fs::read_link(&at) {
            Ok(next) => at = super::folder(&at).join(next),
            // Not a link, or nothing there: opening it reports what is wrong.
            Err(_) => return Ok(at),
        }
    }
    Err(Error::usage(format!(
        "{} is a link that leads back to itself; name another file",
        path.display()
    )))
}

/// Checks whether `found` is the pipe or the file that this process has open as `stream`. (A device
/// doesn't count: it can be opened again, and several streams may be the same device.)
#[cfg(unix)]
fn is(found: &Metadata, stream: impl std::os::fd::AsFd) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let own =
        || stream.as_fd().try_clone_to_owned().and_then(|own| std::fs::File::from(own).metadata());
    !found.file_type().is_char_device()
        && own().is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn is<S>(_found: &Metadata, _stream: S) -> bool {
    false
}
