//! The command line: shared flags in [`args`], one file per command in [`commands`].

// First, because the other modules use its macros.
#[macro_use]
mod output;

mod args;
mod commands;
mod device;
mod device_failure;
mod fitted;
mod hints;
mod interrupt;
mod launcher;
mod scores;
mod session;
mod summary;
mod terminal;

pub use device_failure::{finish, overhear, panicked};

use args::Common;
use clap::{CommandFactory, Parser, Subcommand};
use commands::*;
use device_failure::Failure;
use output::Holds;
use soda::error::{Error, Result};
use std::io::Write;

/// Trains and evaluates SODA, diffusion-based representation learning, on any GPU or CPU, without
/// CUDA or Python.
#[derive(Parser)]
#[command(name = "soda", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// Score the shipped weights against raw pixels, then train a small network for a minute.
    Quickstart(quickstart::Args),
    /// Train a model from a recipe.
    Train(train::Args),
    /// Re-run the step that ended a training run, and report which values are not finite.
    Replay(replay::Args),
    /// Evaluate frozen features: linear probe, logistic regression, k-NN.
    Probe(probe::Args),
    /// Reconstruct test images from z alone.
    Reconstruct(reconstruct::Args),
    /// Generate new images, with z sampled from a Gaussian mixture.
    Sample(sample::Args),
    /// Measure reconstructions (PSNR, SSIM) and samples (Frechet distance, precision, recall in z).
    Quality(quality::Args),
    /// Measure the representation: alignment, uniformity, rank, purity, confusion matrix.
    Health(health::Args),
    /// Measure how much of the denoiser's loss z explains, by noise level, and how z is spread.
    Diagnose(diagnose::Args),
    /// Interpolate between two images in z.
    Interpolate(interpolate::Args),
    /// Combine sections of z from different images: content and style by resolution.
    Mix(mix::Args),
    /// Invert images to z and the noise x_T, and back (DDIM inversion).
    Invert(invert::Args),
    /// Generate another crop or the mirror image from z (needs view conditioning).
    View(view::Args),
    /// Traverse z along its principal components and class directions.
    Directions(directions::Args),
    /// List the runs in a folder: state, steps, scores, starting weights.
    Runs(runs::Args),
    /// Write a one-page report on a run: curves, scores, pictures, and the commands behind them.
    Report(report::Args),
    /// Write the features of images to a NumPy, safetensors or Parquet file.
    Embed(embed::Args),
    /// Find the training images whose features are nearest to those of given images.
    #[command(alias = "neighbors")]
    Neighbours(neighbours::Args),
    /// Plot images in two dimensions by their features (t-SNE or PCA).
    Map(map::Args),
    /// Fetch, import, verify, inspect or pack data sets.
    Data(data::Args),
    /// Import weights from another program's checkpoint (data sets: `soda data import`).
    Import(import::Args),
    /// Export weights and their metadata to one file (`--half`: 16-bit).
    Export(export::Args),
    /// Benchmark this machine's devices: kernels, training steps, inference, view pipeline.
    Bench(bench::Args),
    /// Test every kernel on a device against the CPU.
    Selftest,
    /// Write the source of all shaders, and the features each needs, to a folder.
    #[command(hide = true)]
    Shaders(shaders::Args),
    /// List the devices, and the one that `auto` selects.
    Devices,
    /// Print the completion script of a shell.
    Completions(completions::Args),
    /// Write the manual pages to a folder.
    #[command(hide = true)]
    Man(completions::ManArgs),
}

/// Runs the command line of this process.
///
/// # Errors
/// The command's error, as one sentence for the user. clap's own usage errors end the process with
/// code 2.
pub fn run() -> std::result::Result<(), Failure> {
    let Cli { command, common } = Cli::parse();
    let level = ["warn,wgpu=error,naga=error,cubecl=error", "info", "debug"]
        [usize::from(common.verbose.min(2))];
    let mut logger =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level));
    // Without -v or RUST_LOG, log messages read like the program's own.
    if common.verbose == 0 && std::env::var_os("RUST_LOG").is_none() {
        logger.format(|out, record| match (record.level(), record.args()) {
            (log::Level::Warn, what) => writeln!(out, "warning: {what}"),
            (level, what) => writeln!(out, "[{level} {}] {what}", record.target()),
        });
    }
    logger.init();
    soda::progress::listen(terminal::Terminal);
    soda::error::word_with(hints::word);
    if common.quiet {
        terminal::be_quiet();
    }
    // Hidden, for tests: the interval between progress lines.
    if let Some(pace) =
        std::env::var("SODA_PROGRESS").ok().and_then(|milliseconds| milliseconds.parse().ok())
    {
        terminal::set_pace(pace);
    }
    // Hidden: SODA_SIMD compares the SIMD paths of one machine; SODA_CLASS runs the GPU code paths
    // where there is no GPU.
    if let Ok(path) = std::env::var("SODA_SIMD") {
        soda::kernels::testing::force_simd(&path)
            .map_err(|e| Error::usage(format!("SODA_SIMD: {e}")))?;
    }
    match std::env::var("SODA_CLASS").as_deref() {
        Ok("gpu") => soda::kernels::testing::treat_adapters_as_gpus(device::environment),
        Ok(other) => {
            return Err(Error::usage(format!("SODA_CLASS: expected gpu, got {other}")).into());
        }
        Err(_) => {}
    }
    // Of several training processes, only rank 0 writes.
    let others =
        matches!(command, Command::Train(_) | Command::Bench(_)) && launcher::is_follower();
    if let Some(path) = common.json.as_ref().filter(|_| !others) {
        output::claim("--json", path, Holds::Text)?;
    }
    dispatch(command, &common)?;
    Ok(output::printed()?)
}

fn dispatch(command: Command, common: &Common) -> Result<()> {
    match command {
        Command::Quickstart(args) => quickstart::run(&args, common),
        Command::Train(args) => train::run(&args, common),
        Command::Replay(args) => replay::run(&args, common),
        Command::Probe(args) => probe::run(&args, common),
        Command::Reconstruct(args) => reconstruct::run(&args, common),
        Command::Sample(args) => sample::run(&args, common),
        Command::Quality(args) => quality::run(&args, common),
        Command::Health(args) => health::run(&args, common),
        Command::Diagnose(args) => diagnose::run(&args, common),
        Command::Interpolate(args) => interpolate::run(&args, common),
        Command::Directions(args) => directions::run(&args, common),
        Command::Mix(args) => mix::run(&args, common),
        Command::Invert(args) => invert::run(&args, common),
        Command::View(args) => view::run(&args, common),
        Command::Runs(args) => runs::run(&args, common),
        Command::Report(args) => report::run(&args, common),
        Command::Data(args) => data::run(&args, common),
        Command::Bench(args) => bench::run(&args, common),
        Command::Selftest => selftest::run(common),
        Command::Shaders(args) => shaders::run(&args, common),
        Command::Devices => devices::run(common),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => completions::man(&args, Cli::command()),
        Command::Embed(args) => embed::run(&args, common),
        Command::Import(args) => import::run(&args, common),
        Command::Export(args) => export::run(&args, common),
        Command::Neighbours(args) => neighbours::run(&args, common),
        Command::Map(args) => map::run(&args, common),
    }
}
