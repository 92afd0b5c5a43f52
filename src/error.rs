//! The one error type: a sentence that names the file, field or flag and the remedy.

use std::path::Path;

/// What every fallible function of the crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure that a user can act on. `Display` is one sentence, ready to print after `error: `.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or the configuration asks for something impossible (exit code 2).
    #[error("{0}")]
    Usage(String),
    /// The work could not be done (exit code 1).
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// A mistake in the command line or the configuration; `message` names the flag or field and the remedy.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// A failure while working; `message` names the file or device and the remedy.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// An I/O failure while doing `action` ("read", "create", ..) to `path`.
    pub fn io(action: &str, path: &Path, source: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let remedy = match source.kind() {
            ErrorKind::NotFound => "; check the path",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "; choose a place you may write to",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; free some space and run the command again",
            _ => "",
        };
        Self::Failed(format!("cannot {action} {}: {source}{remedy}", path.display()))
    }

    /// Process exit code: 2 for usage, 1 for failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}
