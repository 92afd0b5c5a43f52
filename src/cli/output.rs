//! What every command's output has in common: the lines of its result, its JSON, and where both go.

use crate::cli::args::Common;
use serde_json::{Map, Value, json};
use soda::data::Dataset;
use soda::device::Selected;
use soda::error::{Error, Result};
use soda::files::{self, Destination};
use soda::machine;
use soda::model::weights::WeightsFile;
use soda::report::picture;
use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// Prints a line of a command's result: to standard output, or to standard error where that takes a
/// file's contents.
macro_rules! outln {
    () => { outln!("") };
    ($($line:tt)*) => { $crate::cli::output::print(format_args!("{}\n", format_args!($($line)*))) };
}

/// As `outln!`, without the end of the line.
macro_rules! out {
    ($($text:tt)*) => { $crate::cli::output::print(format_args!($($text)*)) };
}

/// What to do about a test set that is too small.
pub const TEST_SET_TOO_SMALL: &str = "a larger --split-ratio, or more images, make it larger";

/// The JSON of one command, filled in as it goes.
pub struct Output {
    fields: Map<String, Value>,
    started: Instant,
}

impl Output {
    /// {command, version, commit}.
    pub fn new(command: &str) -> Self {
        let mut output = Self { fields: Map::new(), started: Instant::now() };
        output.set("command", json!(command));
        output.set("version", json!(env!("CARGO_PKG_VERSION")));
        output.set("commit", json!(machine::commit()));
        output
    }

    /// Whether a field is set.
    pub fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// Sets one field.
    pub fn set(&mut self, key: &str, value: Value) {
        self.fields.insert(key.into(), value);
    }

    /// Sets every field of `block`.
    pub fn merge(&mut self, block: Value) {
        if let Value::Object(block) = block {
            self.fields.extend(block);
        }
    }

    /// {device, adapter}.
    pub fn device(&mut self, device: &Selected) {
        self.set("device", json!(device.backend));
        self.set("adapter", json!(device.name));
    }

    /// {weights {path, sha256}}.
    pub fn weights(&mut self, weights: &WeightsFile) {
        self.set("weights", json!({ "path": weights.path, "sha256": weights.sha256 }));
    }

    /// {data {name, split, n, sha256, left_out, unreadable}}.
    pub fn data(&mut self, data: &Dataset, split: &str, n: usize) {
        let (left_out, unreadable) = (data.inventory.left_out_count(), data.inventory.unreadable());
        self.set(
            "data",
            json!({ "name": data.name, "split": split, "n": n, "sha256": data.sha256, "left_out": left_out, "unreadable": unreadable }),
        );
    }

    /// The fields so far, with the seconds since the start.
    pub fn finish(&mut self) -> Value {
        let seconds = (self.started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        self.set("seconds", json!(seconds));
        Value::Object(self.fields.clone())
    }

    /// Writes `--json`, if asked for.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&mut self, common: &Common) -> Result<()> {
        let value = self.finish();
        common.json.as_deref().map_or(Ok(()), |path| write_json(path, &value))
    }
}

/// Writes `value` to `path`, indented.
///
/// # Errors
/// If the file can't be written.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::failed(format!("cannot encode {}: {e}", path.display())))?;
    text.push(b'\n');
    files::create_parent(path)?;
    files::write_atomically(path, &text)
}

/// "42.1 % +- 0.3" for a mean and its spread.
pub fn with_spread((mean, spread): (f64, f64)) -> String {
    format!("{mean:.1} % +- {spread:.1}")
}

/// Whether standard output takes what a flag named it for.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Why a part of the result could not be printed.
static UNPRINTED: OnceLock<String> = OnceLock::new();

/// What `outln!` and `out!` do. The work goes on where nothing can be printed; [`printed`] tells.
pub fn print(text: Arguments) {
    if taken() {
        // As `progress::say`.
        let _ = stderr().write_fmt(text);
    } else {
        note(stdout().write_fmt(text));
    }
}

/// Whether lines of the result go to standard error, as standard output takes a file's contents.
pub fn taken() -> bool {
    TAKEN.load(Ordering::Relaxed)
}

/// Who has stopped reading wants no error; all else is one.
fn note(printed: std::io::Result<()>) {
    if let Err(e) = printed
        && e.kind() != ErrorKind::BrokenPipe
    {
        let _ = UNPRINTED.set(e.to_string());
    }
}

/// Whether all lines of the result could be printed, as far as anybody reads them.
///
/// # Errors
/// If not: a full disk, for example.
pub fn printed() -> Result<()> {
    note(stdout().flush());
    UNPRINTED
        .get()
        .map_or(Ok(()), |why| Err(Error::failed(format!("what was found can't be printed: {why}"))))
}

/// What is written to the place that a flag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Lines for people and machines.
    Text,
    /// Numbers that no terminal shows.
    Bytes,
    /// A picture; the name of its file says in which format.
    Picture,
}

/// What flags have named so far, each with where it leads.
static CLAIMED: Mutex<Vec<(String, Destination)>> = Mutex::new(Vec::new());

/// Looks before the work at `path`, which `flag` names for its result. If it is standard output,
/// lines go to standard error from now on.
///
/// # Errors
/// Nothing can be written there; a picture's name has no picture's ending; another flag names the
/// same.
pub fn claim(flag: &str, path: &Path, holds: Holds) -> Result<()> {
    if holds == Holds::Picture {
        picture::Format::of(path).map_err(|e| Error::usage(format!("{flag} {e}")))?;
    }
    let destination = add(&mut CLAIMED.lock().unwrap_or_else(PoisonError::into_inner), flag, path)?;
    if destination == Destination::Output {
        if holds != Holds::Text && stdout().is_terminal() {
            return Err(Error::usage(format!(
                "{flag} {}: a terminal shows no such bytes; lead them into a file or another program",
                path.display()
            )));
        }
        TAKEN.store(true, Ordering::Relaxed);
    }
    files::check_writable(path)
}

/// As [`claim`], for what is written without further ado: the folder of a file is made.
///
/// # Errors
/// As [`claim`]; the folder can't be made.
pub fn prepare(flag: &str, path: &Path, holds: Holds) -> Result<()> {
    claim(flag, path, holds)?;
    files::create_parent(path)
}

/// Adds where `path` leads to `claimed`, if it may be there.
fn add(claimed: &mut Vec<(String, Destination)>, flag: &str, path: &Path) -> Result<Destination> {
    let destination = match Destination::of(path)? {
        Destination::File(file) => Destination::File(absolute(&file)),
        other => other,
    };
    let once = matches!(destination, Destination::Output | Destination::File(_));
    if let Some((first, _)) = claimed.iter().find(|(_, other)| once && *other == destination) {
        let name = if destination == Destination::Output {
            "standard output".into()
        } else {
            path.display().to_string()
        };
        return Err(Error::usage(format!(
            "{name} can't hold two things, those of {first} and {flag}; name another file"
        )));
    }
    claimed.push((flag.to_owned(), destination.clone()));
    Ok(destination)
}

/// The one name of `file`, which may not be there yet.
fn absolute(file: &Path) -> PathBuf {
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    match (whole.parent().map(std::fs::canonicalize), whole.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_flags_name_two_places() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let mut claimed = Vec::new();
        let mut add =
            |flag: &str, path: &Path| add(&mut claimed, flag, path).map_err(|e| e.to_string());
        add("--out", Path::new("-")).expect("free");
        let error = add("--json", Path::new("-")).expect_err("taken");
        assert!(
            error.contains("standard output can't hold two things")
                && error.contains("--out and --json"),
            "{error}"
        );
        add("--out", &at("a.png")).expect("free");
        add("--json", &at("a.json")).expect("free");
        let error = add("--plot", &folder.path().join(".").join("a.png")).expect_err("taken");
        assert!(error.contains("two things") && error.contains("--plot"), "{error}");
        // Folders that are not there yet.
        add("--out", &at("new/a.png")).expect("free");
        add("--json", &at("new/a.png")).expect_err("taken");
        if cfg!(unix) {
            add("--out", Path::new("/dev/null")).expect("takes anything");
            add("--json", Path::new("/dev/null")).expect("takes anything");
        }
    }

    #[test]
    fn only_a_reader_that_has_gone_is_no_failure_to_print() {
        note(Err(ErrorKind::BrokenPipe.into()));
        printed().expect("nobody reads");
        note(Err(ErrorKind::StorageFull.into()));
        let error = printed().expect_err("lost");
        assert!(
            error.exit_code() == 1
                && error.to_string().contains("can't be printed: no storage space"),
            "{error}"
        );
    }
}
