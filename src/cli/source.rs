//! Where a command's weights come from.

use crate::data::Dataset;
use crate::device::Selected;
use crate::error::{Error, Result};
use crate::eval::features::Frozen;
use crate::model::Soda;
use crate::model::weights::WeightsFile;
use crate::run_dir::RunDir;
use std::path::{Path, PathBuf};

/// Which trained networks to use.
#[derive(clap::Args, Clone, Debug)]
pub struct WeightsArgs {
    /// A run directory; its newest EMA weights are used (default: runs/quickstart).
    #[arg(long, value_name = "DIR", conflicts_with = "weights")]
    pub run: Option<PathBuf>,
    /// A weights file, or `latest` for the newest checkpoint below runs/.
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
            (None, Some(weights)) => weights.clone(),
            (None, None) => RunDir::new(QUICKSTART).weights().map_err(|_| {
                Error::usage(format!(
                    "no weights named and none in {QUICKSTART}; name --run or --weights, or run `soda quickstart` first"
                ))
            })?,
        };
        WeightsFile::open(&path)
    }
}

/// The networks of `weights` before the images of `data`: features that were taken once are kept for the next command.
pub fn frozen<'a>(weights: &'a WeightsFile, model: &'a Soda, data: &'a Dataset, device: &'a Selected) -> Frozen<'a> {
    let driver = device.adapter.as_ref().map_or("", |a| &a.driver);
    let place = format!("{} {} {driver}", device.backend, device.name);
    Frozen::new(model, &weights.config, data, &device.device).kept(Frozen::folder(), &weights.sha256, &place)
}

/// Where `soda quickstart` works by default.
pub const QUICKSTART: &str = "runs/quickstart";

/// The run below runs/ whose newest checkpoint is the youngest.
fn latest() -> Result<PathBuf> {
    let runs = std::fs::read_dir("runs").map(|entries| entries.flatten().map(|e| RunDir::new(e.path())).collect::<Vec<_>>());
    let weights = runs.unwrap_or_default().into_iter().filter_map(|run| run.weights().ok());
    let newest = weights.filter_map(|w| Some((std::fs::metadata(&w).ok()?.modified().ok()?, w))).max();
    newest
        .map(|(_, path)| path)
        .ok_or_else(|| Error::usage("--weights latest: there is no checkpoint below runs/; train one first (`soda train`)"))
}
