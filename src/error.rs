//! The error type of the crate: a sentence that names the file, field or device, and the remedy.

mod fault;
mod hint;

pub use fault::Fault;
pub use hint::{Hint, Wording, word_with};

use std::error::Error as StdError;
use std::fmt::{Display, Formatter};
use std::io;
use std::path::{Path, PathBuf};

/// The result of the crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure that a user can act on. `Display` writes one sentence, ready to print after `error: `;
/// some errors add a list, one line per item.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A request that can't be met, on the command line, in the configuration or in an argument.
    Usage(String),
    /// A failure during the work.
    Failed(String),
    /// A failure to read, write or create a file or folder.
    Io {
        /// The action that failed: "read", "create".
        action: String,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A device that was lost, ran out of memory or failed in another way.
    Device {
        /// What it was doing: "reading the losses of step 7".
        doing: String,
        /// The first line of the message of wgpu or CubeCL, or what the program detected.
        said: String,
        /// How it failed.
        fault: Fault,
    },
}

impl Clone for Error {
    fn clone(&self) -> Self {
        match self {
            Self::Usage(message) => Self::Usage(message.clone()),
            Self::Failed(message) => Self::Failed(message.clone()),
            Self::Io { action, path, source } => Self::io(action, path, source),
            Self::Device { doing, said, fault } => {
                Self::Device { doing: doing.clone(), said: said.clone(), fault: *fault }
            }
        }
    }
}

/// The maximum length of a message in characters.
const LONGEST: usize = 2000;

/// Turns `message` into one line of bounded length without control characters. Names in files from
/// elsewhere may have any length and hold any characters.
fn line(message: String) -> String {
    let harmless = |c: char| match c {
        '\n' | '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let n = message.chars().count();
    if n <= LONGEST {
        return message.chars().map(harmless).collect();
    }
    // The beginning names the file, and the end the remedy.
    let (start, end) =
        (message.chars().take(LONGEST / 2), message.chars().skip(n - LONGEST / 2 + 4));
    start.chain(" .. ".chars()).chain(end).map(harmless).collect()
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(message) | Self::Failed(message) => f.write_str(message),
            Self::Io { action, path, source } => {
                let remedy = remedy(action, source.kind());
                let message = format!("cannot {action} {}: {source}{remedy}", path.display());
                f.write_str(&line(message))
            }
            Self::Device { doing, said, .. } => {
                f.write_str(&line(format!("the device failed while {doing} ({said})")))
            }
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Returns what a user can do about a failure of the file system.
fn remedy(action: &str, kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind;
    match kind {
        ErrorKind::PermissionDenied if action.starts_with("read") => {
            "; choose a place you may read, or allow it"
        }
        ErrorKind::NotFound => "; check the path",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; choose a place you may write to"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; free some space and run the command again"
        }
        _ => "",
    }
}

impl Error {
    /// Makes an error of the command line or the configuration. `message` names the field and the
    /// remedy.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(line(message.into()))
    }

    /// Makes an error of the work itself. `message` names the file or device and the remedy.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(line(message.into()))
    }

    /// Makes an error with a list: `what`, which names the file, one line for each of `items`, and
    /// the remedy.
    pub fn list(what: &str, items: impl Iterator<Item = String>, remedy: &str) -> Self {
        let items: String = items.map(|item| format!("\n  {}", line(item))).collect();
        Self::Failed(format!("{}{items}\n{}", line(what.to_owned()), line(remedy.to_owned())))
    }

    /// Makes an error of a device that failed while `doing` something ("reading the losses of step
    /// 7"). `source` is the error of wgpu or CubeCL.
    pub fn device(doing: &str, source: &dyn Display) -> Self {
        let source = source.to_string();
        let said = source.lines().next().unwrap_or_default().to_owned();
        Self::Device { doing: doing.to_owned(), said, fault: Fault::of(&source) }
    }

    /// Makes an error of a device that reports success without having done the work. `found` says
    /// how that was detected.
    pub fn left_out(doing: &str, found: impl Into<String>) -> Self {
        Self::Device { doing: doing.to_owned(), said: found.into(), fault: Fault::LeftOut }
    }

    /// Makes an error of a failed `action` ("read", "create") on `path`.
    pub fn io(action: &str, path: &Path, source: &io::Error) -> Self {
        // `io::Error` can't be cloned.
        let source = match source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => {
                // The names of temporary files say nothing to a user.
                let said = source.to_string();
                let said = said.split(" at path \"").next().unwrap_or_default().to_owned();
                io::Error::new(source.kind(), said)
            }
        };
        Self::Io { action: action.to_owned(), path: path.to_owned(), source }
    }

    /// Returns the exit code of the process: 2 for usage, 1 for failures.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) | Self::Io { .. } | Self::Device { .. } => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_of_bounded_length_whatever_names_a_file_contains() {
        assert_eq!(
            Error::failed("a.bin is bad; get it again").to_string(),
            "a.bin is bad; get it again"
        );
        let name = "\x1b[2Jevil\nerror: \u{9b}x";
        assert_eq!(
            Error::usage(format!("w has {name}")).to_string(),
            "w has \u{fffd}[2Jevil error: \u{fffd}x"
        );
        let long = Error::failed(format!(
            "w.bin has no tensor {}; give another file",
            "\u{e9}".repeat(100_000)
        ))
        .to_string();
        assert_eq!(long.chars().count(), LONGEST);
        assert!(
            long.starts_with("w.bin has no tensor")
                && long.ends_with("; give another file")
                && long.contains(" .. ")
        );
        let io = Error::io("read", Path::new("a\rb"), &std::io::Error::other("x"));
        assert_eq!((io.to_string().as_str(), io.exit_code()), ("cannot read a\u{fffd}b: x", 1));
    }
}
