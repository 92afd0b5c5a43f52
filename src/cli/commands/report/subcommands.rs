//! The commands that produce the parts of a report.

use crate::cli::args::Common;
use serde_json::{Value, json};
use soda::error::{Error, Result};
use soda::progress::{say, warn};
use soda::report::html::{Figure, Section};
use soda::shell::{continued, quoted};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs commands and keeps their output files.
pub struct Subcommands<'a> {
    /// The run directory.
    pub run: &'a Path,
    /// The common flags of all commands.
    pub common: &'a Common,
    /// The SHA-256 of the weights that the page is about.
    pub weights: &'a str,
    /// The number of test images.
    pub images: usize,
    /// The number of classes.
    pub classes: usize,
    /// The folder for results and pictures.
    pub folder: PathBuf,
}

/// Runs a command of this program in a separate process, which releases its memory when it ends.
/// Its stderr is passed on; its result is on the page. The returned error is its error line.
fn execute(line: &[OsString]) -> Result<()> {
    let failed = |e: std::io::Error| Error::failed(format!("cannot start this program again: {e}"));
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(line).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let mut error = None;
    // Libraries and drivers may write other encodings than UTF-8.
    let lines = child.stderr.take().map(BufReader::new).into_iter().flat_map(|r| r.split(b'\n'));
    for line in lines.map_while(|line| line.ok()) {
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        error = line.strip_prefix("error: ").map(str::to_owned).or(error);
        // The command itself applies --quiet.
        warn(line);
    }
    let status = child.wait().map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::failed(error.unwrap_or_else(|| format!("ended by {status}")))),
    }
}

/// The result of a command.
pub struct Finished {
    /// The command line, as a reader would type it.
    pub typed: String,
    /// Its JSON, or the error.
    pub result: Result<Value>,
    /// The path of its picture.
    pub picture: PathBuf,
}

impl Subcommands<'_> {
    /// Returns `n`, or the number of test images if there are fewer.
    pub fn most(&self, n: usize) -> usize {
        n.min(self.images)
    }

    /// Runs `soda WORDS --run RUN` and stores its output under `name`; `draws` if the command
    /// writes a picture.
    pub fn run(&self, name: &str, words: &str, draws: bool) -> Finished {
        let typed = typed(words, self.run, self.common);
        say(&typed);
        let (json, picture) =
            (self.folder.join(format!("{name}.json")), self.folder.join(format!("{name}.png")));
        let mut line: Vec<OsString> = words.split(' ').map(Into::into).collect();
        line.extend(["--run".into(), self.run.into(), "--json".into(), json.clone().into()]);
        line.extend(["--device".into(), self.common.device.clone().into()]);
        if self.common.verbosity.quiet {
            line.push("--quiet".into());
        }
        line.extend(self.common.data_flags());
        if draws {
            line.extend(["--out".into(), picture.clone().into()]);
        }
        let read = || -> Result<Value> {
            let bytes = std::fs::read(&json).map_err(|e| Error::io("read", &json, &e))?;
            serde_json::from_slice(&bytes)
                .map_err(|e| Error::failed(format!("{}: {e}", json.display())))
        };
        // A run that is still training may have written newer weights; a page must not mix two.
        let same = |v: Value| match v["weights"]["sha256"] == json!(self.weights) {
            true => Ok(v),
            false => Err(Error::failed(
                "the run has newer weights now; write the report again when training has stopped",
            )),
        };
        let result = execute(&line).and_then(|()| read()).and_then(same);
        Finished { typed, result, picture }
    }
}

/// Adds the result of `finished` to `section`: its picture with `caption`, its command, and the
/// sentences that `words` derives from its JSON.
pub fn add(
    section: &mut Section,
    finished: &Finished,
    caption: &str,
    words: impl FnOnce(&Value) -> Vec<String>,
) {
    let figure = |v: &Value| Ok((Figure::read(&finished.picture, caption, false)?, words(v)));
    match finished
        .result
        .as_ref()
        .map_err(ToString::to_string)
        .and_then(|v| figure(v).map_err(|e: Error| e.to_string()))
    {
        Ok((figure, words)) => {
            section.words.extend(words);
            section.figures.push(figure);
            section.commands.push(finished.typed.clone());
        }
        Err(reason) => section.missing.push(format!("{}: {reason}", finished.typed)),
    }
}

/// Returns `soda WORDS --run RUN` with the flags for the data, as a user types it.
pub fn typed(words: &str, run: &Path, common: &Common) -> String {
    format!("soda {words} --run {}{}", quoted(run), continued(&common.data_flags()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_single_word_of_a_command() {
        let data = Common { data: Some("my data".into()), ..Common::default() };
        let command = typed("quality -n 12", Path::new("it's/a run"), &data);
        let words = shlex::split(&command).expect("a command");
        assert_eq!(
            words,
            ["soda", "quality", "-n", "12", "--run", "it's/a run", "--data", "my data"]
        );
        assert_eq!(
            typed("health", Path::new("runs/quick-1"), &Common::default()),
            "soda health --run runs/quick-1"
        );
    }
}
