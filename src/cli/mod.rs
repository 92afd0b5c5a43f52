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

use args::{Common, OnDevice, OnFiles, OnImages, Reporting, Verbosity, With};
use clap::{CommandFactory, Parser, Subcommand};
use commands::*;
use device_failure::Failure;
use output::Holds;
use soda::error::{Error, Result};
use std::ffi::OsString;
use std::io::Write;

/// Trains and evaluates SODA, diffusion-based representation learning, on any GPU or CPU, without
/// CUDA or Python.
#[derive(Parser)]
#[command(name = "soda", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    verbosity: Verbosity,
}

#[derive(Subcommand)]
enum Command {
    /// Score the shipped weights against raw pixels, then train a small network for 200 steps.
    Quickstart(With<quickstart::Args, OnImages>),
    /// Train a model from a recipe.
    Train(With<train::Args, OnImages>),
    /// Re-run the step that ended a training run, and report which values are not finite.
    Replay(With<replay::Args, OnImages>),
    /// Evaluate frozen features: linear probe, logistic regression, k-NN.
    Probe(With<probe::Args, OnImages>),
    /// Reconstruct test images from z alone.
    Reconstruct(With<reconstruct::Args, OnImages>),
    /// Generate new images, with z sampled from a Gaussian mixture.
    Sample(With<sample::Args, OnImages>),
    /// Measure reconstructions (PSNR, SSIM) and samples (Frechet distance, precision, recall in z).
    Quality(With<quality::Args, OnImages>),
    /// Measure the representation: alignment, uniformity, rank, purity, confusion matrix.
    Health(With<health::Args, OnImages>),
    /// Measure how much of the denoiser's loss z explains, by noise level, and how z is spread.
    Diagnose(With<diagnose::Args, OnImages>),
    /// Interpolate between two images in z.
    Interpolate(With<interpolate::Args, OnImages>),
    /// Combine z of different images by resolution: content and style.
    Mix(With<mix::Args, OnImages>),
    /// Invert images to z and the noise x_T, and back (DDIM inversion).
    Invert(With<invert::Args, OnImages>),
    /// Generate another crop or the mirror image from z (needs view conditioning).
    View(With<view::Args, OnImages>),
    /// Traverse z along its principal components and class directions.
    Directions(With<directions::Args, OnImages>),
    /// List the runs in a folder: state, steps, scores, starting weights.
    Runs(With<runs::Args, Reporting>),
    /// Write a one-page report on a run: curves, scores, pictures, and the commands behind them.
    Report(With<report::Args, OnImages>),
    /// Write the features of images to a NumPy, safetensors or Parquet file.
    Embed(With<embed::Args, OnImages>),
    /// Find the training images whose features are nearest to those of given images.
    #[command(alias = "neighbors")]
    Neighbours(With<neighbours::Args, OnImages>),
    /// Plot images in two dimensions by their features (t-SNE or PCA).
    Map(With<map::Args, OnImages>),
    /// Fetch, import, verify, inspect or pack data sets.
    Data(With<data::Args, OnFiles>),
    /// Import weights from another program's checkpoint (data sets: `soda data import`).
    Import(With<import::Args, Reporting>),
    /// Export weights and their metadata to one file (`--half`: 16-bit).
    Export(With<export::Args, OnImages>),
    /// Benchmark this machine's devices: kernels, training steps, inference, view pipeline.
    Bench(With<bench::Args, OnDevice>),
    /// Test every kernel on a device against the CPU.
    Selftest(OnDevice),
    /// Write the source of all shaders, and the features each needs, to a folder.
    #[command(hide = true)]
    Shaders(shaders::Args),
    /// List the devices, and the one that `auto` selects.
    Devices(Reporting),
    /// Print the completion script of a shell.
    Completions(completions::Args),
    /// Write the manual pages to a folder.
    Man(completions::ManArgs),
}

/// Makes this thread one of rayon's. Otherwise it hands every kernel to them and sleeps until it is
/// done, which costs about a tenth of a training step. If rayon has one thread only, that stays a
/// separate one: this thread waits for images, and rayon's decode them.
fn compute_on_this_thread() {
    // As rayon counts them.
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
    let threads = asked
        .filter(|threads| *threads > 0)
        .or_else(|| std::thread::available_parallelism().ok().map(std::num::NonZeroUsize::get));
    if threads.is_some_and(|threads| threads > 1) {
        // It fails where the threads exist already; then they compute as usual.
        let _ = rayon::ThreadPoolBuilder::new().use_current_thread().build_global();
    }
}

/// Refuses words that aren't valid Unicode: paths are printed, and stored as JSON.
fn refuse_other_encodings(words: impl Iterator<Item = OsString>) -> Result<()> {
    match words.into_iter().find(|word| word.to_str().is_none()) {
        Some(word) => Err(Error::usage(format!(
            "{} isn't valid UTF-8; rename the file or folder, or name a link to it",
            word.display()
        ))),
        None => Ok(()),
    }
}

/// Runs the command line of this process.
///
/// # Errors
/// The command's error, as one sentence for the user. clap's own usage errors end the process with
/// code 2.
pub fn run() -> std::result::Result<(), Failure> {
    refuse_other_encodings(std::env::args_os())?;
    let Cli { command, verbosity } = Cli::parse();
    compute_on_this_thread();
    let level = ["warn,wgpu=error,naga=error,cubecl=error", "info", "debug"]
        [usize::from(verbosity.verbose.min(2))];
    let mut logger =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level));
    // Without -v or RUST_LOG, log messages read like the program's own.
    if verbosity.verbose == 0 && std::env::var_os("RUST_LOG").is_none() {
        logger.format(|out, record| match (record.level(), record.args()) {
            (log::Level::Warn, what) => writeln!(out, "warning: {what}"),
            (level, what) => writeln!(out, "[{level} {}] {what}", record.target()),
        });
    }
    logger.init();
    soda::progress::listen(terminal::Terminal);
    soda::error::word_with(hints::word);
    if verbosity.quiet {
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
    dispatch(command, verbosity)?;
    Ok(output::printed()?)
}

/// Runs a command with its flags.
fn run_with<A: clap::Args, Shared: clap::Args + Into<Common>>(
    flags: With<A, Shared>,
    verbosity: Verbosity,
    command: impl FnOnce(&A, &Common) -> Result<()>,
) -> Result<()> {
    command(&flags.own, &common(flags.shared, verbosity)?)
}

/// Returns what the shared flags say, after checking that `--json` can be written.
fn common(shared: impl Into<Common>, verbosity: Verbosity) -> Result<Common> {
    let common = Common { verbosity, ..shared.into() };
    // Of several processes, only rank 0 writes.
    if let Some(path) = common.json.as_ref().filter(|_| !launcher::is_follower()) {
        output::claim("--json", path, Holds::Text)?;
    }
    Ok(common)
}

fn dispatch(command: Command, verbosity: Verbosity) -> Result<()> {
    match command {
        Command::Quickstart(flags) => run_with(flags, verbosity, quickstart::run),
        Command::Train(flags) => run_with(flags, verbosity, train::run),
        Command::Replay(flags) => run_with(flags, verbosity, replay::run),
        Command::Probe(flags) => run_with(flags, verbosity, probe::run),
        Command::Reconstruct(flags) => run_with(flags, verbosity, reconstruct::run),
        Command::Sample(flags) => run_with(flags, verbosity, sample::run),
        Command::Quality(flags) => run_with(flags, verbosity, quality::run),
        Command::Health(flags) => run_with(flags, verbosity, health::run),
        Command::Diagnose(flags) => run_with(flags, verbosity, diagnose::run),
        Command::Interpolate(flags) => run_with(flags, verbosity, interpolate::run),
        Command::Directions(flags) => run_with(flags, verbosity, directions::run),
        Command::Mix(flags) => run_with(flags, verbosity, mix::run),
        Command::Invert(flags) => run_with(flags, verbosity, invert::run),
        Command::View(flags) => run_with(flags, verbosity, view::run),
        Command::Runs(flags) => run_with(flags, verbosity, runs::run),
        Command::Report(flags) => run_with(flags, verbosity, report::run),
        Command::Data(flags) => run_with(flags, verbosity, data::run),
        Command::Bench(flags) => run_with(flags, verbosity, bench::run),
        Command::Selftest(shared) => selftest::run(&common(shared, verbosity)?),
        Command::Shaders(args) => shaders::run(&args),
        Command::Devices(shared) => devices::run(&common(shared, verbosity)?),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => completions::man(&args, Cli::command()),
        Command::Embed(flags) => run_with(flags, verbosity, embed::run),
        Command::Import(flags) => run_with(flags, verbosity, import::run),
        Command::Export(flags) => run_with(flags, verbosity, export::run),
        Command::Neighbours(flags) => run_with(flags, verbosity, neighbours::run),
        Command::Map(flags) => run_with(flags, verbosity, map::run),
    }
}
