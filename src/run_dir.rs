//! The run directory: its paths and the rows of metrics.jsonl and starts.jsonl. A run directory
//! alone is enough to resume, evaluate and sample.

mod lock;

pub use lock::Lock;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::{self, Destination, create_dir, write_atomically};
use crate::shell::quoted;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One row of metrics.jsonl.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Optimizer steps done.
    pub step: u64,
    /// Images seen.
    pub images: u64,
    /// Mean loss since the last row.
    pub loss: f64,
    /// L2 norm of the last step's gradients before the clip.
    pub grad_norm: f64,
    /// Learning rate of the denoiser.
    pub lr: f64,
    /// Throughput since the last row.
    pub images_per_s: f64,
    /// Seconds of training, interruptions not counted.
    pub seconds: f64,
    /// What the loss is multiplied by before its backward pass; in mixed precision alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Steps of the whole run that were left out because their gradients weren't finite; in mixed
    /// precision alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
    /// Bytes that the memory pools of the adapter have reserved; none on the CPU backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_bytes: Option<u64>,
    /// Bytes of them that are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_bytes_used: Option<u64>,
}

/// A row of metrics.jsonl about what z is worth: scores of the averaged weights on the validation
/// split, per cent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Optimizer steps done.
    pub step: u64,
    /// Images seen.
    pub images: u64,
    /// Top-1 of `knn`.
    pub knn: f64,
    /// Top-1 of `linear`.
    pub linear: f64,
    /// Images that k-NN and probe learnt from.
    pub n_train: usize,
    /// Images that judged.
    pub n_validation: usize,
}

/// A line of metrics.jsonl.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Row(Row),
    Evaluation(Evaluation),
}

/// All of metrics.jsonl, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// How training goes.
    pub rows: Vec<Row>,
    /// What z is worth.
    pub evaluations: Vec<Evaluation>,
}

impl Metrics {
    /// The evaluation with the best k-NN, the first of several, among those whose step is in
    /// `kept`.
    pub fn best(&self, kept: &[u64]) -> Option<&Evaluation> {
        self.evaluations
            .iter()
            .filter(|e| kept.contains(&e.step))
            .reduce(|best, e| if e.knn > best.knn { e } else { best })
    }

    /// Drops what comes after `step`.
    pub fn truncate(&mut self, step: u64) {
        self.rows.retain(|r| r.step <= step);
        self.evaluations.retain(|e| e.step <= step);
    }

    /// The lines of the file, by step; an evaluation follows the row of its step.
    pub fn to_jsonl(&self) -> String {
        let rows = self.rows.iter().map(|r| (r.step, 0, json_line(r)));
        let evaluations = self.evaluations.iter().map(|e| (e.step, 1, json_line(e)));
        let mut lines: Vec<_> = rows.chain(evaluations).collect();
        lines.sort_by_key(|(step, kind, _)| (*step, *kind));
        lines.into_iter().map(|(.., line)| line).collect()
    }
}

/// `row` as a line of metrics.jsonl.
pub fn json_line(row: &impl Serialize) -> String {
    serde_json::to_string(row).expect("a row is JSON") + "\n"
}

/// A row of starts.jsonl: one call of training, and what it ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// When, in UTC (RFC 3339).
    pub time: String,
    /// Step that it continued after; 0 for a new run.
    pub step: u64,
    /// SHA-256 of the weights file that a new run began with; none where it began with random
    /// weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What that file was called: `shipped`, or its absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_name: Option<String>,
    /// Images that had been seen before, by the training that made those weights and whatever that
    /// began with; where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_images: Option<u64>,
    /// The command line, where there is one.
    pub command: Vec<String>,
    /// Version of the program.
    pub version: String,
    /// Commit that it was built from, where it is known.
    pub commit: Option<String>,
    /// `cpu`, `vulkan`, `metal`, `dx12` or `gl`.
    pub device: String,
    /// The adapter's name, or the processor's.
    pub adapter: String,
    /// The adapter's driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// See [`crate::machine::describe`].
    pub machine: serde_json::Value,
    /// Name of the data.
    pub data: String,
    /// Where it lay: the absolute path of its folder, or `bundled`. Older versions didn't note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_location: Option<String>,
    /// How its images were taken.
    #[serde(default, skip_serializing_if = "crate::data::Options::are_default")]
    pub data_options: crate::data::Options,
    /// Its SHA-256.
    pub data_sha256: String,
    /// Training images.
    pub images: usize,
}

impl Start {
    /// What the numbers of the training depend on to their last digit: the adapter and its driver,
    /// or the processor.
    pub fn place(&self) -> String {
        let Self { device, adapter, .. } = self;
        let more = self
            .driver
            .as_deref()
            .or_else(|| self.machine["cpu"].as_str().filter(|_| device == "cpu"));
        more.map_or_else(
            || format!("{device} {adapter}"),
            |more| format!("{device} {adapter} ({more})"),
        )
    }
}

/// failure.json: where the numbers of a run stopped being finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The step.
    pub step: u64,
    /// Its learning rate.
    pub lr: f64,
    /// What wasn't finite.
    pub what: String,
}

/// Paths within a run directory.
#[derive(Clone, Debug)]
pub struct RunDir {
    /// The directory itself.
    pub path: PathBuf,
}

/// Written last into a checkpoint: without it the checkpoint is incomplete and ignored.
pub const COMPLETE: &str = "COMPLETE";
/// Extension of a checkpoint that is being written.
pub const PARTIAL: &str = "partial";
/// Extension of a checkpoint that is being removed.
pub const OLD: &str = "removed";
/// Extension of a checkpoint that was found damaged.
pub const DAMAGED: &str = "damaged";

/// What lies in `folder`, is called after one of `names` and has that `extension`, in order; others
/// may keep something there.
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
    /// The run directory `path`, which needn't exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// runs/NAME-N with the first number N that is free.
    pub fn numbered(name: &str) -> Self {
        let path = (1..).map(|n| PathBuf::from(format!("runs/{name}-{n}"))).find(|p| !p.exists());
        Self::new(path.expect("some number is free"))
    }

    /// The run that a weights file belongs to, if it lies in one of a run's checkpoints.
    pub fn of_weights(file: &Path) -> Option<Self> {
        let above = |file: &Path| {
            let checkpoints = file.parent()?.parent()?;
            let run = checkpoints
                .parent()
                .filter(|run| checkpoints.ends_with("checkpoints") && *run != Path::new(""))?;
            Some(Self::new(run)).filter(|run| run.exists() || run.starts().exists())
        };
        // As it was named, else wherever that leads.
        above(file).or_else(|| above(&std::fs::canonicalize(file).ok()?))
    }

    /// The resolved recipe.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// The lines of [`Metrics`].
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The rows of [`Start`].
    pub fn starts(&self) -> PathBuf {
        self.path.join("starts.jsonl")
    }

    /// The [`Failure`] that ended the last call of training; gone once it has been passed.
    pub fn failure(&self) -> PathBuf {
        self.path.join("failure.json")
    }

    /// The [`Evaluation`] with the best k-NN so far: its checkpoint is kept.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.json")
    }

    /// The loss curve.
    pub fn loss_plot(&self) -> PathBuf {
        self.path.join("loss.png")
    }

    /// The reconstruction grid of `step`.
    pub fn sample(&self, step: u64) -> PathBuf {
        self.path.join("samples").join(format!("step_{step}.png"))
    }

    /// The checkpoint of `step`.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.path.join("checkpoints").join(format!("step_{step}"))
    }

    /// Whether a run was started here.
    pub fn exists(&self) -> bool {
        self.config().exists()
    }

    /// Steps of the complete checkpoints, oldest first.
    pub fn checkpoints(&self) -> Vec<u64> {
        let found = self.found_checkpoints().unwrap_or_default();
        found.into_iter().filter(|step| self.checkpoint(*step).join(COMPLETE).exists()).collect()
    }

    /// Steps of all folders that are called checkpoints, whole or not, oldest first.
    ///
    /// # Errors
    /// If the folder of the checkpoints is there and can't be read: that says nothing of what is in
    /// it.
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
                    // A leading zero or sign is somebody else's name.
                    steps.extend(
                        step.filter(|step| folder && self.checkpoint(*step).ends_with(&name)),
                    );
                }
            }
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// Folders among the checkpoints that are none, or no longer, by their `extension`: what a kill
    /// left.
    pub fn leftovers(&self, extension: &str) -> Vec<PathBuf> {
        own(&self.path.join("checkpoints"), &["step_"], extension)
    }

    /// Removes the files that a kill left half-written, here and where links of the run lead to
    /// files of the same names. Whoever calls it holds the run's lock.
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

    /// The newest EMA weights.
    ///
    /// # Errors
    /// If the run has no complete checkpoint.
    pub fn weights(&self) -> Result<PathBuf> {
        match self.checkpoints().last() {
            Some(step) => Ok(self.checkpoint(*step).join("ema.safetensors")),
            None => Err(Error::failed(format!(
                "{} holds no finished checkpoint; train it first (`soda train --run {}`)",
                self.path.display(),
                quoted(&self.path)
            ))),
        }
    }

    /// The recipe of the run.
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

    /// The evaluation with the best k-NN so far; none where nothing was evaluated or the file is
    /// damaged.
    pub fn read_best(&self) -> Option<Evaluation> {
        serde_json::from_slice(&files::read(&self.best()).ok()?).ok()
    }

    /// What metrics.jsonl holds; empty where there is none yet.
    ///
    /// # Errors
    /// If a line but the last is no row.
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
                // A crash or a full disk may have cut the last one.
                Err(_) if i + 1 == lines.len() => {}
                Err(e) => {
                    let path = path.display();
                    return Err(Error::failed(format!(
                        "{path} line {} is no row of metrics ({e}); remove the line",
                        i + 1
                    )));
                }
            }
        }
        Ok(metrics)
    }

    /// Every call of training so far, oldest first; lines that can't be read are left out.
    pub fn read_starts(&self) -> Vec<Start> {
        let bytes = files::read(&self.starts()).unwrap_or_default();
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Removes the starts that an attempt left which never became a run.
    ///
    /// # Errors
    /// If that isn't allowed.
    pub fn forget_starts(&self) -> Result<()> {
        files::remove_file(&self.starts())
    }

    /// Adds `start` to starts.jsonl.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn add_start(&self, start: &Start) -> Result<()> {
        let mut lines = files::read(&self.starts()).unwrap_or_default();
        // A line that was cut stays one that can't be read.
        if lines.last().is_some_and(|last| *last != b'\n') {
            lines.push(b'\n');
        }
        lines.extend(json_line(start).bytes());
        write_atomically(&self.starts(), &lines)
    }

    /// Makes the directory and writes the recipe.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn create(&self, config: &Config) -> Result<()> {
        create_dir(&self.path)?;
        write_atomically(&self.config(), config.to_toml().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_a_checkpoint_names_the_command_that_trains_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::new(folder.path().join("it's a run"));
        let message = run.weights().unwrap_err().to_string();
        let command = message.split('`').nth(1).and_then(shlex::split).expect("a command");
        assert_eq!(command, ["soda", "train", "--run", &*run.path.to_string_lossy()]);
    }

    #[test]
    fn weights_in_a_checkpoint_are_their_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::new(folder.path().join("a run"));
        let weights = run.checkpoint(4).join("ema.safetensors");
        std::fs::create_dir_all(run.checkpoint(4)).expect("writable");
        std::fs::write(&weights, "").expect("writable");
        let found = |file: &Path| RunDir::of_weights(file).map(|run| run.path);
        assert_eq!(found(&weights), None, "nothing says that it is a run");
        std::fs::write(run.config(), "").expect("writable");
        assert_eq!(found(&weights).as_ref(), Some(&run.path));
        let roundabout = run.checkpoint(4).join("../step_4/ema.safetensors");
        assert_eq!(found(&roundabout), std::fs::canonicalize(&run.path).ok());
        for other in [
            run.path.join("ema.safetensors"),
            "assets/weights/tiny.safetensors".into(),
            "w.safetensors".into(),
        ] {
            assert_eq!(found(&other), None, "{}", other.display());
        }
    }

    #[test]
    fn starts_of_older_versions_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::new(folder.path());
        let old = r#"{"time":"2026-11-24T00:00:00Z","step":0,"from":"ab","command":["soda"],"version":"0.1.0","commit":null,"device":"cpu","adapter":"a","machine":{},"data":"CIFAR-10","data_sha256":"cd","images":9}"#;
        std::fs::write(run.starts(), format!("{old}\n")).expect("writable");
        let [start] = &run.read_starts()[..] else { panic!("not one start") };
        assert_eq!(
            (start.from.as_deref(), &start.from_name, start.from_images),
            (Some("ab"), &None, None)
        );
        assert_eq!((start.data_sha256.as_str(), &start.data_location), ("cd", &None));
        assert_eq!(json_line(start).trim_end(), old, "what isn't known isn't written");
    }
}
