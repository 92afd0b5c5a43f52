//! `soda bench --config`: the recipe whose training step is measured or estimated.

use crate::cli::args::PrecisionArgs;
use soda::config::{Config, Precision};
use soda::error::{Error, Result};
use std::path::PathBuf;
use std::process::Command;

/// Names the recipe.
#[derive(clap::Args)]
pub struct Args {
    /// Measure a training step of this recipe only, named as for `soda train`. With --estimate: the
    /// recipe to estimate (default: configs/cifar10.toml).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["suite", "compare", "merge"])]
    pub config: Option<PathBuf>,
    /// Override a value of the recipe, e.g. train.batch_size=64 (repeatable).
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["suite", "compare", "merge"])]
    pub set: Vec<String>,
}

impl Args {
    /// Reads the recipe to measure in `precision`, if one is named. Its name in the results lists
    /// its changes: "tiny, train.batch_size=64".
    ///
    /// # Errors
    /// If it can't be read, or trains in another precision.
    pub fn read(&self, precision: PrecisionArgs) -> Result<Option<(String, Config)>> {
        let Some(path) = &self.config else {
            return match self.set.is_empty() {
                true => Ok(None),
                false => Err(Error::usage("--set changes a recipe: add --config FILE")),
            };
        };
        let config = Config::named(path, &self.set)?;
        if config.train.precision == Precision::Mixed && precision.name() == "f32" {
            return Err(Error::usage(format!(
                "{} trains in mixed precision: add --precision f16, or --set train.precision=f32",
                path.display()
            )));
        }
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Some(([&[name], self.set.as_slice()].concat().join(", "), config)))
    }

    /// Passes the arguments on to the process of a job.
    pub fn pass(&self, command: &mut Command) {
        if let Some(path) = &self.config {
            command.arg("--config").arg(path);
        }
        command.args(self.set.iter().map(|set| format!("--set={set}")));
    }
}
