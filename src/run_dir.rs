//! The run directory: its paths and the rows of metrics.jsonl. A run directory alone is enough to resume, evaluate and
//! sample.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::{create_dir, write_atomically};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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
}

/// Paths within a run directory.
#[derive(Clone, Debug)]
pub struct RunDir {
    /// The directory itself.
    pub path: PathBuf,
}

/// Written last into a checkpoint: without it the checkpoint is incomplete and ignored.
pub const COMPLETE: &str = "COMPLETE";

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

    /// The resolved recipe.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// The rows of [`Row`].
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
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
        let Ok(entries) = std::fs::read_dir(self.path.join("checkpoints")) else { return Vec::new() };
        let mut steps: Vec<u64> = entries
            .flatten()
            .filter(|e| e.path().join(COMPLETE).exists())
            .filter_map(|e| e.file_name().to_str()?.strip_prefix("step_")?.parse().ok())
            .collect();
        steps.sort_unstable();
        steps
    }

    /// The newest EMA weights.
    ///
    /// # Errors
    /// If the run has no complete checkpoint.
    pub fn weights(&self) -> Result<PathBuf> {
        match self.checkpoints().last() {
            Some(step) => Ok(self.checkpoint(*step).join("ema.safetensors")),
            None => Err(Error::failed(format!(
                "{} holds no finished checkpoint; train it first (`soda train --run {0}`)",
                self.path.display()
            ))),
        }
    }

    /// The recipe of the run.
    ///
    /// # Errors
    /// If there is none, or it can't be read.
    pub fn read_config(&self) -> Result<Config> {
        Config::load(&self.config(), &[])
    }

    /// The rows of metrics.jsonl; empty where there is none yet.
    ///
    /// # Errors
    /// If a line but the last is no row.
    pub fn read_metrics(&self) -> Result<Vec<Row>> {
        let path = self.metrics();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, &e))?;
        let lines: Vec<&str> = text.lines().collect();
        let mut rows = Vec::with_capacity(lines.len());
        for (i, line) in lines.iter().enumerate() {
            match serde_json::from_str(line) {
                Ok(row) => rows.push(row),
                // A crash or a full disk may have cut the last one.
                Err(_) if i + 1 == lines.len() => {}
                Err(e) => {
                    let path = path.display();
                    return Err(Error::failed(format!("{path} line {} is no row of metrics ({e}); remove the line", i + 1)));
                }
            }
        }
        Ok(rows)
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
