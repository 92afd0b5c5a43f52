//! The commands that make the parts of a report.

use crate::cli::args::Common;
use crate::cli::output;
use serde_json::{Value, json};
use soda::error::{Error, Result};
use soda::progress::{say, warn};
use soda::shell::quoted;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs commands and keeps what they write.
pub struct Subcommands<'a> {
    /// The run directory.
    pub run: &'a Path,
    /// Flags of every command.
    pub common: &'a Common,
    /// `--data` of every command.
    pub data: Option<PathBuf>,
    /// SHA-256 of the weights that the page is about.
    pub weights: &'a str,
    /// Test images.
    pub images: usize,
    /// Where numbers and pictures are kept.
    pub folder: PathBuf,
}

/// Runs a command of this program in a process of its own, which gives back its memory at its end.
/// What it says on stderr is passed on; its error is the line that says so.
fn execute(line: &[OsString]) -> Result<()> {
    let failed = |e: std::io::Error| Error::failed(format!("cannot start this program again: {e}"));
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(line).stderr(Stdio::piped());
    if output::taken() {
        command.stdout(std::io::stderr());
    }
    let mut child = command.spawn().map_err(failed)?;
    let mut error = None;
    for line in child
        .stderr
        .take()
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines)
        .map_while(|line| line.ok())
    {
        error = line.strip_prefix("error: ").map(str::to_owned).or(error);
        // It keeps quiet by itself.
        warn(&line);
    }
    let status = child.wait().map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::failed(error.unwrap_or_else(|| format!("ended by {status}")))),
    }
}

/// What a command came to.
pub struct Finished {
    /// The command line, as a reader would type it.
    pub typed: String,
    /// Its JSON, or why there is none.
    pub result: Result<Value>,
    /// Its picture.
    pub picture: PathBuf,
}

impl Subcommands<'_> {
    /// `soda WORDS --run RUN`, under the name `name`; `draws` where the command writes a picture.
    pub fn run(&self, name: &str, words: &str, draws: bool) -> Finished {
        let typed = typed(words, self.run, self.data.as_deref());
        say(&typed);
        let (json, picture) =
            (self.folder.join(format!("{name}.json")), self.folder.join(format!("{name}.png")));
        let mut line: Vec<OsString> = words.split(' ').map(Into::into).collect();
        line.extend(["--run".into(), self.run.into(), "--json".into(), json.clone().into()]);
        line.extend(["--device".into(), self.common.device.clone().into()]);
        if self.common.quiet {
            line.push("--quiet".into());
        }
        if let Some(data) = &self.data {
            line.extend(["--data".into(), data.into()]);
        }
        if draws {
            line.extend(["--out".into(), picture.clone().into()]);
        }
        let read = || -> Result<Value> {
            let bytes = std::fs::read(&json).map_err(|e| Error::io("read", &json, &e))?;
            serde_json::from_slice(&bytes)
                .map_err(|e| Error::failed(format!("{}: {e}", json.display())))
        };
        // A run that goes on writes newer weights: a page of two is none.
        let same = |v: Value| match v["weights"]["sha256"] == json!(self.weights) {
            true => Ok(v),
            false => Err(Error::failed(
                "the run has newer weights by now; write the report again when it rests",
            )),
        };
        let result = execute(&line).and_then(|()| read()).and_then(same);
        Finished { typed, result, picture }
    }
}

/// Returns `soda WORDS --run RUN --data DATA`, as a user types it.
pub fn typed(words: &str, run: &Path, data: Option<&Path>) -> String {
    let data = data.map_or(String::new(), |data| format!(" --data {}", quoted(data)));
    format!("soda {words} --run {}{data}", quoted(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word_each() {
        let command = typed("quality -n 12", Path::new("it's/a run"), Some(Path::new("my data")));
        let words = shlex::split(&command).expect("a command");
        assert_eq!(
            words,
            ["soda", "quality", "-n", "12", "--run", "it's/a run", "--data", "my data"]
        );
        assert_eq!(
            typed("health", Path::new("runs/quick-1"), None),
            "soda health --run runs/quick-1"
        );
    }
}
