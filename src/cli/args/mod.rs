//! Flags shared by several commands.

pub mod images;
mod precision;
mod sampling;
pub mod weights;

pub use precision::PrecisionArgs;
pub use sampling::SamplingArgs;
pub use weights::WeightsArgs;

use std::path::PathBuf;

/// Flags of every command.
#[derive(clap::Args, Clone, Debug)]
pub struct Common {
    /// Device: auto, cpu, or wgpu, vulkan, metal, dx12 or gl, each optionally with :INDEX or :NAME.
    #[arg(long, global = true, default_value = "auto")]
    pub device: String,
    /// Images: a folder, CIFAR-10 or CIFAR-100, a pack file, or `bundled`. Other formats: see
    /// docs/data.md; pack files are written by `soda data pack`. Default: the run's own data; without
    /// a run the first of $SODA_DATA, CIFAR-10 from `soda data fetch`, and the bundled subset.
    #[arg(long, global = true, value_name = "PATH")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub taking: images::Taking,
    /// Also write the result as JSON to this file. With `-` it goes to standard output, and
    /// messages go to standard error.
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Print more log messages (-v, -vv). RUST_LOG is honoured.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Suppress progress and informational lines; print only results, warnings and errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// Parses a time limit in minutes, for clap.
pub fn minutes(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(m) if m > 0.0 && m <= 1e6 => Ok(m),
        _ => Err("expected a number of minutes above 0 and up to 1000000".into()),
    }
}
