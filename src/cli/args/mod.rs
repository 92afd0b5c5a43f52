//! Flags shared by several commands.

pub mod images;
mod number;
mod precision;
mod sampling;
mod unused;
pub mod weights;

pub use number::{count, number};
pub use precision::PrecisionArgs;
pub use sampling::SamplingArgs;
pub use weights::WeightsArgs;

use images::Taking;
use std::path::PathBuf;

/// What the flags shared by several commands say. A command that doesn't have a flag finds its
/// default here.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// `--device`.
    pub device: String,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--layout`, `--split-ratio`, `--skip-unreadable`.
    pub taking: Taking,
    /// `--json`.
    pub json: Option<PathBuf>,
    /// `--verbose`, `--quiet`.
    pub verbosity: Verbosity,
}

/// The flags of every command.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Verbosity {
    /// Print more log messages (-v, -vv). RUST_LOG is honoured.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Suppress progress and informational lines; print only results, warnings and errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(clap::Args)]
struct Device {
    /// Device: auto, cpu, or wgpu, vulkan, metal, dx12 or gl, each optionally with :INDEX or :NAME.
    #[arg(long, default_value = "auto")]
    device: String,
}

#[derive(clap::Args)]
struct Data {
    /// Images: a folder, CIFAR-10 or CIFAR-100, a packed file, or `bundled`. Other formats: see
    /// docs/data.md; `soda data pack` writes packed files. Default: the run's own data; without a run
    /// the first of $SODA_DATA, CIFAR-10 from `soda data fetch`, and the bundled subset.
    #[arg(long, global = true, value_name = "PATH")]
    data: Option<PathBuf>,
    #[command(flatten)]
    taking: Taking,
}

#[derive(clap::Args)]
struct Json {
    /// Also write the result as JSON to this file. With `-` it goes to standard output, and
    /// messages go to standard error.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The shared flags of a command that computes on images.
#[derive(clap::Args)]
pub struct OnImages {
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    json: Json,
}

/// The shared flags of a command that computes, but not on images.
#[derive(clap::Args)]
pub struct OnDevice {
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    json: Json,
}

/// The shared flags of a command that handles images without computing.
#[derive(clap::Args)]
pub struct OnFiles {
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    json: Json,
}

/// The shared flags of a command that only reports.
#[derive(clap::Args)]
pub struct Reporting {
    #[command(flatten)]
    json: Json,
}

impl From<OnImages> for Common {
    fn from(OnImages { device, data, json }: OnImages) -> Self {
        let (Device { device }, Data { data, taking }, Json { json }) = (device, data, json);
        Self { device, data, taking, json, ..Self::default() }
    }
}

impl From<OnDevice> for Common {
    fn from(OnDevice { device, json }: OnDevice) -> Self {
        Self { device: device.device, json: json.json, ..Self::default() }
    }
}

impl From<OnFiles> for Common {
    fn from(OnFiles { data: Data { data, taking }, json }: OnFiles) -> Self {
        Self { data, taking, json: json.json, ..Self::default() }
    }
}

impl From<Reporting> for Common {
    fn from(Reporting { json }: Reporting) -> Self {
        Self { json: json.json, ..Self::default() }
    }
}

/// A command's own flags `A`, and those it shares with others.
#[derive(clap::Args)]
pub struct With<A: clap::Args, Shared: clap::Args> {
    #[command(flatten)]
    pub own: A,
    #[command(flatten)]
    pub shared: Shared,
}

/// Parses a time limit in minutes, for clap.
pub fn minutes(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(m) if m > 0.0 && m <= 1e6 => Ok(m),
        _ => Err("expected a number of minutes above 0 and up to 1000000".into()),
    }
}
