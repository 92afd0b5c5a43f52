//! Output shared by all commands: the lines of the result, the JSON, and where both go.

use crate::cli::args::Common;
use serde_json::{Map, Value, json};
use soda::data::Dataset;
use soda::device::Selected;
use soda::error::{Error, Result};
use soda::files::{self, Destination};
use soda::machine;
use soda::model::weights::WeightsFile;
use soda::report::picture;
use soda::run_dir::RunDir;
use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// Prints a line of a command's result: to standard output, or to standard error if standard output
/// carries a file's contents.
macro_rules! outln {
    () => { outln!("") };
    ($($line:tt)*) => { $crate::cli::output::print(format_args!("{}\n", format_args!($($line)*))) };
}

/// Like `outln!`, without the line end.
macro_rules! out {
    ($($text:tt)*) => { $crate::cli::output::print(format_args!($($text)*)) };
}

/// The remedy for a test set that is too small.
pub const TEST_SET_TOO_SMALL: &str =
    "use more test images, or a larger --split-ratio where the data has no test set of its own";

/// The number of test images below which percentages of them are mostly chance.
pub const ENOUGH_TO_SCORE: usize = 30;

/// The JSON of one command, filled in as the command proceeds.
pub struct Output {
    fields: Map<String, Value>,
    started: Instant,
}

impl Output {
    /// Starts with {command, version, commit}.
    pub fn new(command: &str) -> Self {
        let mut output = Self { fields: Map::new(), started: Instant::now() };
        output.set("command", json!(command));
        output.set("version", json!(env!("CARGO_PKG_VERSION")));
        output.set("commit", json!(machine::commit()));
        output
    }

    /// Checks whether a field is set.
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

    /// Sets {device, adapter}.
    pub fn device(&mut self, device: &Selected) {
        self.set("device", json!(device.backend));
        self.set("adapter", json!(device.name));
    }

    /// Sets {weights {path, sha256}}.
    pub fn weights(&mut self, weights: &WeightsFile) {
        self.set("weights", json!({ "path": weights.path, "sha256": weights.sha256 }));
    }

    /// Sets {data {name, sha256, left_out, unreadable}}.
    pub fn dataset(&mut self, data: &Dataset) {
        let (left_out, unreadable) = (data.inventory.left_out_count(), data.inventory.unreadable());
        let (name, sha256) = (&data.name, &data.sha256);
        self.set(
            "data",
            json!({ "name": name, "sha256": sha256, "left_out": left_out, "unreadable": unreadable }),
        );
    }

    /// Like [`Output::dataset`], with the fields {split, n} of the images used.
    pub fn data(&mut self, data: &Dataset, split: &str, n: usize) {
        self.dataset(data);
        self.fields["data"]["split"] = json!(split);
        self.fields["data"]["n"] = json!(n);
    }

    /// Returns the fields so far, with the seconds since the start.
    pub fn finish(&mut self) -> Value {
        let seconds = (self.started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        self.set("seconds", json!(seconds));
        Value::Object(self.fields.clone())
    }

    /// Writes the JSON if `--json` is given.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&mut self, common: &Common) -> Result<()> {
        let value = self.finish();
        common.json.as_deref().map_or(Ok(()), |path| write_json(path, &value))
    }
}

/// Returns the name of the place that a command wrote to: `path`, or "standard output" for `-`.
pub fn place(path: &Path) -> String {
    match Destination::of(path) {
        Ok(Destination::Output) => "standard output".into(),
        _ => path.display().to_string(),
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

/// Formats a mean and its spread as "42.1 % +- 0.3".
pub fn with_spread((mean, spread): (f64, f64)) -> String {
    format!("{mean:.1} % +- {spread:.1}")
}

/// Whether a flag has claimed standard output for a file's contents.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Why a part of the result could not be printed.
static UNPRINTED: OnceLock<String> = OnceLock::new();

/// Implements `outln!` and `out!`. A failure to print does not stop the work; [`printed`] reports
/// it.
pub fn print(text: Arguments) {
    let text = harmless(&text.to_string());
    if taken() {
        // As `progress::say`.
        let _ = stderr().write_all(text.as_bytes());
    } else {
        note(stdout().write_all(text.as_bytes()));
    }
}

/// Replaces control characters other than line ends and tabs, which could do anything to a
/// terminal: names come from folders and files of others.
pub fn harmless(text: &str) -> String {
    let is_harmful = |c: char| c.is_control() && !['\n', '\t'].contains(&c);
    text.chars().map(|c| if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Checks whether lines of the result go to standard error because standard output carries a file's
/// contents.
pub fn taken() -> bool {
    TAKEN.load(Ordering::Relaxed)
}

/// Records a failure to print. A closed pipe is none: its reader has stopped reading.
fn note(printed: std::io::Result<()>) {
    if let Err(e) = printed
        && e.kind() != ErrorKind::BrokenPipe
    {
        let _ = UNPRINTED.set(e.to_string());
    }
}

/// Flushes the result, and checks that all of its lines could be printed (a closed pipe counts as
/// success).
///
/// # Errors
/// If not, for example because the disk is full.
pub fn printed() -> Result<()> {
    note(stdout().flush());
    UNPRINTED
        .get()
        .map_or(Ok(()), |why| Err(Error::failed(format!("the result can't be printed: {why}"))))
}

/// The kind of content written to the path that a flag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Readable text.
    Text,
    /// Binary data, which a terminal can't show.
    Bytes,
    /// A picture, in the format of the file's extension.
    Picture,
}

/// The flags whose paths have been claimed so far, each with its destination.
static CLAIMED: Mutex<Vec<(String, Destination)>> = Mutex::new(Vec::new());

/// Checks before the work that the result of `flag` can be written to `path`. If `path` is standard
/// output, lines go to standard error from now on.
///
/// # Errors
/// If nothing can be written there, a picture's name has no picture extension, or another flag
/// names the same destination.
pub fn claim(flag: &str, path: &Path, holds: Holds) -> Result<()> {
    if holds == Holds::Picture {
        picture::Format::of(path).map_err(|e| Error::usage(format!("{flag} {e}")))?;
    }
    let destination = add(&mut CLAIMED.lock().unwrap_or_else(PoisonError::into_inner), flag, path)?;
    refuse_input(flag, path, &std::env::args().collect::<Vec<_>>())?;
    if destination == Destination::Output {
        if holds != Holds::Text && stdout().is_terminal() {
            return Err(Error::usage(format!(
                "{flag} {}: binary output doesn't go to a terminal; redirect it to a file or \
                 another program",
                path.display()
            )));
        }
        TAKEN.store(true, Ordering::Relaxed);
    }
    files::check_writable(path)
}

/// Refuses to overwrite the file `path`, which `flag` names, if another of the `words` of the command
/// line names it, too: it may be what is read.
fn refuse_input(flag: &str, path: &Path, words: &[String]) -> Result<()> {
    let Ok(file) = std::fs::canonicalize(path) else { return Ok(()) };
    let names = |word: &String| {
        let value = word.split_once('=').filter(|_| word.starts_with('-'));
        let value = value.map_or(word.as_str(), |(_, value)| value);
        std::fs::canonicalize(value).is_ok_and(|named| named == file)
    };
    if !file.is_file() || words.iter().skip(1).filter(|word| names(word)).count() < 2 {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{flag} {}: another word of the command names this file, too; choose another name",
        path.display()
    )))
}

/// Checks that the name of the file `path`, which `flag` names, ends in `.ending`. Standard output,
/// pipes and devices have no such name.
///
/// # Errors
/// If it doesn't.
pub fn require_ending(flag: &str, path: &Path, ending: &str) -> Result<()> {
    let is_file = matches!(Destination::of(path)?, Destination::File(_)) && !path.is_dir();
    if !is_file || path.extension().is_some_and(|own| own.eq_ignore_ascii_case(ending)) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{flag} {}: the file's name must end in .{ending}, such as {}",
        path.display(),
        path.with_extension(ending).display()
    )))
}

/// Like [`claim`], and also creates the file's folder.
///
/// # Errors
/// See [`claim`]; also if the folder can't be created.
pub fn prepare(flag: &str, path: &Path, holds: Holds) -> Result<()> {
    claim(flag, path, holds)?;
    files::create_parent(path)
}

/// Refuses the directory of a new run, named by `flag`, that holds folders or pictures of others.
///
/// # Errors
/// If it does.
pub fn refuse_occupied(flag: &str, run: &RunDir) -> Result<()> {
    run.stranger().map_or(Ok(()), |stranger| {
        Err(Error::usage(format!(
            "{flag} {}: this folder holds {} and no run; name a new folder",
            run.path.display(),
            stranger.display()
        )))
    })
}

/// Adds the destination of `path` to `claimed`, unless another flag has claimed it.
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
            "{name} can't hold the output of both {first} and {flag}; name another file"
        )));
    }
    claimed.push((flag.to_owned(), destination.clone()));
    Ok(destination)
}

/// Returns the canonical path of `file`, which may not exist yet.
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
    fn two_flags_cannot_name_the_same_destination() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let mut claimed = Vec::new();
        let mut add =
            |flag: &str, path: &Path| add(&mut claimed, flag, path).map_err(|e| e.to_string());
        add("--out", Path::new("-")).expect("free");
        let error = add("--json", Path::new("-")).expect_err("taken");
        assert!(
            error.contains("standard output can't hold the output of both --out and --json"),
            "{error}"
        );
        add("--out", &at("a.png")).expect("free");
        add("--json", &at("a.json")).expect("free");
        let error = add("--plot", &folder.path().join(".").join("a.png")).expect_err("taken");
        assert!(error.contains("can't hold the output of both --out and --plot"), "{error}");
        // Folders that don't exist yet.
        add("--out", &at("new/a.png")).expect("free");
        add("--json", &at("new/a.png")).expect_err("taken");
        if cfg!(unix) {
            add("--out", Path::new("/dev/null")).expect("takes anything");
            add("--json", Path::new("/dev/null")).expect("takes anything");
        }
    }

    #[test]
    fn a_file_has_the_ending_of_its_format_and_standard_output_needs_none() {
        let check = |path: &str| require_ending("--out", Path::new(path), "onnx");
        for fine in ["a.onnx", "new/A.ONNX", "-"] {
            check(fine).expect(fine);
        }
        for wrong in ["a.txt", "a", "onnx"] {
            let error = check(wrong).expect_err(wrong);
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("must end in .onnx, such as "), "{error}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_other_print_errors_are() {
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
