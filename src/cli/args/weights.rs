//! The weights a command uses.

use indicatif::HumanCount;
use soda::error::{Error, Result};
use soda::model::shipped;
use soda::model::weights::WeightsFile;
use soda::progress::say;
use soda::run_dir::{RunDir, Start};
use soda::train::checkpoint;
use soda::train::run::Called;
use std::path::{Path, PathBuf};

/// The trained networks to use.
#[derive(clap::Args, Clone, Debug)]
pub struct WeightsArgs {
    /// Run directory whose newest EMA weights are used.
    #[arg(long, value_name = "DIR", conflicts_with = "weights")]
    pub run: Option<PathBuf>,
    /// Weights file, `latest`, or `shipped` (the default). `latest` is the newest checkpoint below
    /// runs/, `shipped` the built-in trained weights.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
}

impl WeightsArgs {
    /// Opens the weights.
    ///
    /// # Errors
    /// If there are none, or they can't be read.
    pub fn open(&self) -> Result<WeightsFile> {
        let path = match (&self.run, &self.weights) {
            (Some(run), _) => RunDir::new(run).weights()?,
            (None, Some(weights)) if weights == Path::new("latest") => latest()?,
            (None, Some(weights)) if weights.is_dir() => {
                return Err(Error::usage(format!(
                    "--weights {}: this is a folder; name a weights file, or a run directory with \
                     --run",
                    weights.display()
                )));
            }
            (None, Some(weights)) => weights.clone(),
            (None, None) => {
                let weights = shipped::open()?;
                say(&format!(
                    "using the {}; --run or --weights selects others",
                    describe(&weights)
                ));
                return Ok(weights);
            }
        };
        named(&path)
    }
}

/// Opens the weights in `file`, or the built-in ones for `shipped`.
///
/// # Errors
/// If `file` is a folder, or they can't be read.
pub fn named(file: &Path) -> Result<WeightsFile> {
    if file == Path::new("shipped") {
        return shipped::open();
    }
    if file.is_dir() {
        let example = RunDir::new(file).weights();
        let example = example.map_or(String::new(), |file| format!(", such as {}", file.display()));
        return Err(Error::usage(format!(
            "{} is a folder; name a weights file{example}",
            file.display()
        )));
    }
    checkpoint::verify_weights(file)?;
    WeightsFile::open(file)
}

/// Returns the record of this call for a run; `from` names the weights it starts from.
pub fn called(from: Option<&Path>) -> Called {
    let from = from.map(|file| match file == Path::new("shipped") {
        true => "shipped".into(),
        false => std::path::absolute(file)
            .unwrap_or_else(|_| file.to_owned())
            .to_string_lossy()
            .into_owned(),
    });
    Called {
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        from,
    }
}

/// Returns the name of the weights that the run with this first `start` started from; `None` if
/// they were random, or if an older version recorded only their checksum.
pub fn began_with(start: &Start) -> Option<String> {
    let is_shipped =
        || shipped::open().is_ok_and(|weights| start.from.as_ref() == Some(&weights.sha256));
    start.from.as_ref()?;
    start.from_name.clone().or_else(|| is_shipped().then(|| "shipped".into()))
}

/// Returns whether `start` is a call that began or continued a cooldown.
pub fn cools_down(start: &Start) -> bool {
    start.command.iter().any(|word| word == "--cooldown" || word.starts_with("--cooldown="))
}

/// Describes the shipped weights: `shipped weights assets/weights/small.safetensors (6,000
/// steps, 192,000 images seen)`.
pub fn describe(weights: &WeightsFile) -> String {
    let seen = weights.trained().map_or(String::new(), |t| {
        format!(" ({} steps, {} images seen)", HumanCount(t.step), HumanCount(t.images))
    });
    format!("shipped weights {}{seen}", weights.path.display())
}

/// The default folder of `soda quickstart`.
pub const QUICKSTART: &str = "runs/quickstart";

/// Finds the newest weights of all runs below runs/.
fn latest() -> Result<PathBuf> {
    let runs = std::fs::read_dir("runs")
        .map(|entries| entries.flatten().map(|e| RunDir::new(e.path())).collect::<Vec<_>>());
    let weights = runs.unwrap_or_default().into_iter().filter_map(|run| run.weights().ok());
    let newest =
        weights.filter_map(|w| Some((std::fs::metadata(&w).ok()?.modified().ok()?, w))).max();
    newest.map(|(_, path)| path).ok_or_else(|| {
        Error::usage(
            "--weights latest: there is no checkpoint below runs/; train one first (`soda train`)",
        )
    })
}
