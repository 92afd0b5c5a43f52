//! The run directory: its paths and the rows of metrics.jsonl and starts.jsonl. A run directory
//! alone is enough to resume, evaluate and sample.

mod lock;
mod metrics;
mod start;

pub use lock::Lock;
pub use metrics::{Evaluation, Metrics, Row, json_line};
pub use start::Start;

use metrics::Line;

use crate::config::Config;
use crate::error::{Error, Hint, Result};
use crate::files::{self, Destination, create_dir, write_atomically};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The contents of failure.json: where the values of a run stopped being finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The step.
    pub step: u64,
    /// Its learning rate.
    pub lr: f64,
    /// What wasn't finite.
    pub what: String,
}

/// The paths within a run directory.
#[derive(Clone, Debug)]
pub struct RunDir {
    /// The directory itself.
    pub path: PathBuf,
}

/// The file written last into a checkpoint; without it the checkpoint is incomplete and ignored.
pub const COMPLETE: &str = "COMPLETE";
/// Extension of a checkpoint that is being written.
pub const PARTIAL: &str = "partial";
/// Extension of a checkpoint that is being removed.
pub const OLD: &str = "removed";
/// Extension of a checkpoint that was found damaged.
pub const DAMAGED: &str = "damaged";

/// Returns the entries of `folder` whose name begins with one of `names` and has this `extension`,
/// sorted. Anything else there isn't ours.
fn own(folder: &Path, names: &[&str], extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        names.iter().any(|own| name.starts_with(own))
            && path.extension().is_some_and(|e| e == extension)
    };
    let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).filter(ours).collect();
    paths.sort_unstable();
    paths
}

impl RunDir {
    /// Returns the run directory `path`, which needn't exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns runs/NAME-N with the first free number N.
    pub fn numbered(name: &str) -> Self {
        let path = (1..).map(|n| PathBuf::from(format!("runs/{name}-{n}"))).find(|p| !p.exists());
        Self::new(path.expect("some number is free"))
    }

    /// Returns the run that a weights file belongs to, if it lies in one of a run's checkpoints.
    pub fn of_weights(file: &Path) -> Option<Self> {
        let above = |file: &Path| {
            let checkpoints = file.parent()?.parent()?;
            let run = checkpoints
                .parent()
                .filter(|run| checkpoints.ends_with("checkpoints") && *run != Path::new(""))?;
            Some(Self::new(run)).filter(|run| run.exists() || run.starts().exists())
        };
        // By the path as given, else by what it resolves to.
        above(file).or_else(|| above(&std::fs::canonicalize(file).ok()?))
    }

    /// Returns the path of the resolved recipe.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// Returns the path of the [`Metrics`].
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Returns the path of the file with a [`Start`] per line.
    pub fn starts(&self) -> PathBuf {
        self.path.join("starts.jsonl")
    }

    /// Returns the path of the [`Failure`] that ended the last invocation of training; the file is
    /// removed once training is past it.
    pub fn failure(&self) -> PathBuf {
        self.path.join("failure.json")
    }

    /// Returns the path of the [`Evaluation`] with the best k-NN score so far, whose checkpoint is
    /// kept.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.json")
    }

    /// Returns the path of the loss curve.
    pub fn loss_plot(&self) -> PathBuf {
        self.path.join("loss.png")
    }

    /// Returns the path of the reconstruction grid of `step`.
    pub fn sample(&self, step: u64) -> PathBuf {
        self.path.join("samples").join(format!("step_{step}.png"))
    }

    /// Returns the path of the checkpoint of `step`.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.path.join("checkpoints").join(format!("step_{step}"))
    }

    /// Returns whether a run was started here.
    pub fn exists(&self) -> bool {
        self.config().exists()
    }

    /// Checks that a run was started here.
    ///
    /// # Errors
    /// A usage error if there is no such folder, or if it holds no run.
    pub fn require(&self) -> Result<()> {
        let path = self.path.display();
        if self.exists() {
            return Ok(());
        }
        let what = if self.path.is_dir() {
            "holds no run: there is no config.toml in it"
        } else if self.path.exists() {
            "is not a folder"
        } else {
            "does not exist"
        };
        Err(Error::usage(format!("{path} {what}; name a run directory")))
    }

    /// Returns the steps of the complete checkpoints, oldest first.
    pub fn checkpoints(&self) -> Vec<u64> {
        let found = self.found_checkpoints().unwrap_or_default();
        found.into_iter().filter(|step| self.checkpoint(*step).join(COMPLETE).exists()).collect()
    }

    /// Returns the steps of all folders named like checkpoints, complete or not, oldest first.
    ///
    /// # Errors
    /// If the folder of the checkpoints exists and can't be read, as its contents are then unknown.
    pub fn found_checkpoints(&self) -> Result<Vec<u64>> {
        let folder = self.path.join("checkpoints");
        let failed = |e: std::io::Error| Error::io("read", &folder, &e);
        let mut steps = Vec::new();
        match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            entries => {
                for entry in entries.map_err(failed)? {
                    let entry = entry.map_err(failed)?;
                    let (name, kind) = (entry.file_name(), entry.file_type().map_err(failed)?);
                    let folder = kind.is_dir() || (kind.is_symlink() && entry.path().is_dir());
                    let step =
                        name.to_str().and_then(|name| name.strip_prefix("step_")?.parse().ok());
                    // A name with a leading zero or sign isn't ours.
                    steps.extend(
                        step.filter(|step| folder && self.checkpoint(*step).ends_with(&name)),
                    );
                }
            }
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// Returns the folders among the checkpoints with this `extension`, which are not or no longer
    /// checkpoints: the leftovers of a kill.
    pub fn leftovers(&self, extension: &str) -> Vec<PathBuf> {
        own(&self.path.join("checkpoints"), &["step_"], extension)
    }

    /// Returns something in this folder that isn't a run's, if it holds no run: a folder, or a
    /// picture of another name. (Other files, such as the log of a launcher, do no harm.)
    pub fn stranger(&self) -> Option<PathBuf> {
        if self.exists() {
            return None;
        }
        let own = ["checkpoints", "samples", "report"];
        let drawn = ["loss.png", "reconstruction.png", "from_scratch.png"];
        let is_stranger = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            if name.starts_with('.') {
                return false;
            }
            let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
            let is_picture = ["png", "jpg", "jpeg", "webp", "bmp", "gif"].contains(&ending);
            path.is_dir() && !own.contains(&&*name) || is_picture && !drawn.contains(&&*name)
        };
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(&self.path).ok()?.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        entries.into_iter().find(is_stranger)
    }

    /// Removes the files that a kill left half-written, here and where links of the run lead to
    /// files of the same names. The caller must hold the run's lock.
    pub fn tidy(&self) {
        let names = [
            "config.toml",
            "metrics.jsonl",
            "starts.jsonl",
            "best.json",
            "failure.json",
            "loss.png",
        ];
        let linked = names.iter().flat_map(|name| match Destination::of(&self.path.join(name)) {
            Ok(Destination::File(file)) if file.ends_with(name) => {
                own(file.parent().unwrap_or(&self.path), &[*name], PARTIAL)
            }
            _ => Vec::new(),
        });
        let here = own(&self.path, &names, PARTIAL).into_iter().chain(own(
            &self.path.join("samples"),
            &["step_"],
            PARTIAL,
        ));
        for path in here.chain(linked) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Returns the path of the newest EMA weights.
    ///
    /// # Errors
    /// If there is no run, or it has no complete checkpoint.
    pub fn weights(&self) -> Result<PathBuf> {
        if let Some(step) = self.checkpoints().last() {
            return Ok(self.checkpoint(*step).join("ema.safetensors"));
        }
        self.require()?;
        Err(Error::failed(format!(
            "{} holds no finished checkpoint; {}",
            self.path.display(),
            Hint::Train(self.path.clone())
        )))
    }

    /// Reads the recipe of the run.
    ///
    /// # Errors
    /// If there is none, or it can't be read.
    pub fn read_config(&self) -> Result<Config> {
        let path = self.config();
        let text = files::read(&path)
            .and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
        Config::parse(
            &text.map_err(|e| Error::io("read", &path, &e))?,
            &path.display().to_string(),
            &[],
        )
    }

    /// Reads the evaluation with the best k-NN score so far; returns `None` where nothing was
    /// evaluated or the file is damaged.
    pub fn read_best(&self) -> Option<Evaluation> {
        serde_json::from_slice(&files::read(&self.best()).ok()?).ok()
    }

    /// Reads metrics.jsonl; returns no rows where it doesn't exist yet.
    ///
    /// # Errors
    /// If a line other than the last is invalid.
    pub fn read_metrics(&self) -> Result<Metrics> {
        let (path, mut metrics) = (self.metrics(), Metrics::default());
        if !path.exists() {
            return Ok(metrics);
        }
        let bytes = files::read(&path).map_err(|e| Error::io("read", &path, &e))?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            match serde_json::from_str(line) {
                Ok(Line::Row(row)) => metrics.rows.push(row),
                Ok(Line::Evaluation(row)) => metrics.evaluations.push(row),
                // A crash or a full disk may have cut off the last one.
                Err(_) if i + 1 == lines.len() => {}
                Err(e) => {
                    let path = path.display();
                    return Err(Error::failed(format!(
                        "{path} line {} is not a row of metrics ({e}); remove the line",
                        i + 1
                    )));
                }
            }
        }
        Ok(metrics)
    }

    /// Reads every invocation of training so far, oldest first; lines that can't be read are
    /// skipped.
    pub fn read_starts(&self) -> Vec<Start> {
        let bytes = files::read(&self.starts()).unwrap_or_default();
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Removes the starts left by an attempt that never became a run.
    ///
    /// # Errors
    /// If that isn't allowed.
    pub fn forget_starts(&self) -> Result<()> {
        files::remove_file(&self.starts())
    }

    /// Appends `start` to starts.jsonl.
    ///
    /// # Errors
    /// If it can't be read or written.
    pub fn add_start(&self, start: &Start) -> Result<()> {
        let mut lines = files::read_if_exists(&self.starts())?;
        // A truncated line stays a line of its own, which can't be read.
        if lines.last().is_some_and(|last| *last != b'\n') {
            lines.push(b'\n');
        }
        lines.extend(json_line(start).bytes());
        write_atomically(&self.starts(), &lines)
    }

    /// Creates the directory and writes the recipe.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn create(&self, config: &Config) -> Result<()> {
        create_dir(&self.path)?;
        write_atomically(&self.config(), config.to_toml().as_bytes())
    }
}

#[cfg(test)]
mod tests;
