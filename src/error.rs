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
    /// The device was lost, ran out of memory or gave up otherwise (exit code 1); the command line
    /// adds what to do then.
    #[error("{0}")]
    Device(String),
}

/// Most characters of a message.
const LONGEST: usize = 2000;

/// `message` as one line that a terminal shows as it is: names in a foreign file may be of any
/// length and hold anything.
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
    // Its beginning names the file, its end the remedy.
    let (start, end) =
        (message.chars().take(LONGEST / 2), message.chars().skip(n - LONGEST / 2 + 4));
    start.chain(" .. ".chars()).chain(end).map(harmless).collect()
}

impl Error {
    /// A mistake in the command line or the configuration; `message` names the flag or field and
    /// the remedy.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(line(message.into()))
    }

    /// A failure while working; `message` names the file or device and the remedy.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(line(message.into()))
    }

    /// A failure with a list: `what` with the file it is about, a line for each of `items`, and the
    /// remedy.
    pub fn list(what: &str, items: impl Iterator<Item = String>, remedy: &str) -> Self {
        let items: String = items.map(|item| format!("\n  {}", line(item))).collect();
        Self::Failed(format!("{}{items}\n{}", line(what.to_owned()), line(remedy.to_owned())))
    }

    /// A device that failed while `doing` something ("reading the losses of step 7").
    pub fn device(doing: &str, source: &dyn std::fmt::Display) -> Self {
        let source = source.to_string();
        let first = source.lines().next().unwrap_or_default();
        Self::Device(line(format!("the device failed while {doing} ({first})")))
    }

    /// An I/O failure while doing `action` ("read", "create", ..) to `path`.
    pub fn io(action: &str, path: &Path, source: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let remedy = match source.kind() {
            ErrorKind::NotFound => "; check the path",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                "; choose a place you may write to"
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "; free some space and run the command again"
            }
            _ => "",
        };
        Self::failed(format!("cannot {action} {}: {source}{remedy}", path.display()))
    }

    /// Process exit code: 2 for usage, 1 for failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) | Self::Device(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_of_bounded_length_whatever_a_file_calls_its_parts() {
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
