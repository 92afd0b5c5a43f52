//! The command line: flags in [`args`], one file a command in [`commands`].

// First, for its macros.
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

/// SODA: a diffusion model that learns what images are, on any GPU, without CUDA or Python.
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
    /// Score and show the shipped weights beside raw pixels, then train a small network from random
    /// weights for a minute.
    Quickstart(quickstart::Args),
    /// Train a recipe.
    Train(train::Args),
    /// Run the step that broke a training run once more, and say what in it isn't finite.
    Replay(replay::Args),
    /// Score frozen features: linear probe, logistic regression, nearest neighbours.
    Probe(probe::Args),
    /// Draw images from their z alone, beside the originals.
    Reconstruct(reconstruct::Args),
    /// Generate new images, with z sampled from a Gaussian mixture.
    Sample(sample::Args),
    /// Measure reconstructions (PSNR, SSIM) and drawn images (Frechet distance, precision, recall
    /// in z).
    Quality(quality::Args),
    /// Is the representation healthy? Alignment, uniformity, rank, purity; a probe's confusion
    /// matrix and confidence.
    Health(health::Args),
    /// Does the denoiser use z, and how is z spread? How much of the loss z explains, by noise
    /// level.
    Diagnose(diagnose::Args),
    /// Draw the way from one image to another, in z.
    Interpolate(interpolate::Args),
    /// Take sections of z from one image and the rest from another: content and style by
    /// resolution.
    Mix(mix::Args),
    /// Take images to z and the noise they come from, and back.
    Invert(invert::Args),
    /// Draw another crop or the mirror image, from z; for weights trained with view conditioning.
    View(view::Args),
    /// Draw what lies along the directions of z: its principal components, and the classes.
    Directions(directions::Args),
    /// List the runs in a folder: how far each is, what it scores, what it began from.
    Runs(runs::Args),
    /// Write one page about a run: curves, scores, pictures, and the commands that repeat them.
    Report(report::Args),
    /// Write the features of images to a file of NumPy, safetensors or Parquet.
    Embed(embed::Args),
    /// Draw the training images whose features are nearest to those of an image.
    #[command(alias = "neighbors")]
    Neighbours(neighbours::Args),
    /// Draw images as points (or thumbnails) in the plane, near where their features are near.
    Map(map::Args),
    /// Fetch, import or verify data sets.
    Data(data::Args),
    /// Take weights from another program's checkpoint (`soda data import` takes data sets).
    Import(import::Args),
    /// Export weights and their metadata to one file (`--half`: 16-bit).
    Export(export::Args),
    /// Measure this machine's devices: kernels, training steps, inference, view pipeline.
    Bench(bench::Args),
    /// Test every kernel on a device against the CPU.
    Selftest,
    /// Write the texts of all shaders, and what each needs, to a folder.
    #[command(hide = true)]
    Shaders(shaders::Args),
    /// List the devices, and which one `auto` takes.
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
/// One sentence for the user; clap's own usage errors end the process with code 2.
pub fn run() -> std::result::Result<(), Failure> {
    let Cli { command, common } = Cli::parse();
    let level = ["warn,wgpu=error,naga=error,cubecl=error", "info", "debug"]
        [usize::from(common.verbose.min(2))];
    let mut logger =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level));
    // Who asked for no log reads sentences.
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
    // Hidden: how often progress says where it is, for tests.
    if let Some(pace) =
        std::env::var("SODA_PROGRESS").ok().and_then(|milliseconds| milliseconds.parse().ok())
    {
        terminal::set_pace(pace);
    }
    // Hidden: to compare the SIMD paths of one machine, and to run what GPUs run where there is
    // none.
    if let Ok(path) = std::env::var("SODA_SIMD") {
        soda::kernels::testing::force_simd(&path)
            .map_err(|e| Error::usage(format!("SODA_SIMD: {e}")))?;
    }
    match std::env::var("SODA_CLASS").as_deref() {
        Ok("gpu") => soda::kernels::testing::treat_adapters_as_gpus(),
        Ok(other) => {
            return Err(Error::usage(format!("SODA_CLASS: expected gpu, got {other}")).into());
        }
        Err(_) => {}
    }
    // Of several processes that train the first one writes.
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
