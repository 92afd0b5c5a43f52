//! Where a path leads that something is written to: to a file, which may be replaced, or to what
//! must not be.

use crate::error::{Error, Result};
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What is written to for a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output: `-`, or the pipe or file that it is by another name, such as `/dev/stdout`.
    Output,
    /// Standard error by another name, such as `/dev/stderr`.
    Messages,
    /// A file or none yet (or a folder, which nothing can be written to), behind all links.
    File(PathBuf),
    /// A pipe or a device: opened and written to, never replaced.
    Stream,
}

/// Links that are followed at most, as Linux does.
const LINKS: usize = 40;

impl Destination {
    /// Where `path` leads. Nothing is opened: opening a pipe already waits.
    ///
    /// # Errors
    /// If it is a link that leads nowhere but to itself.
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

    /// Writes all of `from` to what is no [`Destination::File`]; `path` is what errors call it. A
    /// reader that has gone is no error.
    ///
    /// # Errors
    /// If it can't be opened, or takes no more.
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

/// Follows the links at `path`, of which the last may lead to nothing.
fn behind_links(path: &Path) -> Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..=LINKS {
        match std::fs::read_link(&at) {
            Ok(next) => at = super::folder(&at).join(next),
            // No link, or nothing there: opening it says what is wrong.
            Err(_) => return Ok(at),
        }
    }
    Err(Error::usage(format!(
        "{} is a link that leads back to itself; name another file",
        path.display()
    )))
}

/// Whether `found` is the pipe or the file that this process has open as `stream`. (A device can be
/// opened once more, and different streams may be the same one.)
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
