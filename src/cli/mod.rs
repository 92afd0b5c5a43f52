//! The command line: one file a verb.

// First, for its macros.
#[macro_use]
mod output;

mod bench;
mod data;
mod devices;
mod diagnose;
mod directions;
mod embed;
mod estimate;
mod export;
mod failure;
mod health;
mod images;
mod import;
mod interpolate;
mod invert;
mod map;
mod mix;
mod neighbours;
mod precision;
mod probe;
mod quality;
mod quickstart;
mod reconstruct;
mod replay;
mod report;
mod runs;
mod sample;
mod sampling;
mod selftest;
mod shaders;
mod source;
mod studio;
mod train;
mod view;
mod web;

pub use failure::{overhear, panicked, report};

use crate::device::{self, Kind, Selected};
use crate::error::{Error, Result};
use crate::progress;
use clap::{Parser, Subcommand};
use output::Holds;
use std::io::Write;
use std::path::PathBuf;

/// SODA: a diffusion model that learns what images are, on any GPU, without CUDA or Python.
#[derive(Parser)]
#[command(name = "soda", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    common: Common,
}

/// Flags of every command.
#[derive(clap::Args, Clone, Debug)]
struct Common {
    /// auto, cpu, or wgpu, vulkan, metal, dx12, gl with :INDEX or :NAME.
    #[arg(long, global = true, default_value = "auto")]
    device: String,
    /// Images: a folder of them, CIFAR-10 or CIFAR-100, one of the other formats of docs/data.md, a
    /// file of `soda data pack`, or `bundled` (default: the data that the run was trained on;
    /// without a run $SODA_DATA, else the user's cache, else the bundled subset).
    #[arg(long, global = true, value_name = "PATH")]
    data: Option<PathBuf>,
    #[command(flatten)]
    taking: images::Taking,
    /// Also write the result to this file, for machines; `-` is standard output, and messages then
    /// go to standard error.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// More log messages (-v, -vv); RUST_LOG is honoured.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// No progress and no other lines that only inform; results, warnings and errors stay.
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Verb {
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
}

/// The device of the command line. `auto` takes an integrated GPU only where it is faster than the
/// CPU.
///
/// # Errors
/// If there is no such device.
fn chosen(common: &Common) -> Result<Selected> {
    chosen_nth(common, 0)
}

/// As [`chosen`], for process number `nth` of several on this machine.
///
/// # Errors
/// If there is no such device.
fn chosen_nth(common: &Common, nth: usize) -> Result<Selected> {
    let device = device::select_nth(&common.device, nth)?;
    match &device.adapter {
        Some(adapter) if common.device == "auto" && adapter.kind == Kind::IntegratedGpu => {
            crate::selftest::faster(device)
        }
        _ => Ok(device),
    }
}

/// The device of the command line; warns where a GPU is there that `auto` can't take.
///
/// # Errors
/// If there is no such device.
fn device(common: &Common) -> Result<Selected> {
    let device = chosen(common)?;
    if let Some(why) = &device.missed {
        progress::warn(&format!("warning: {why}; using the CPU"));
    }
    Ok(device)
}

/// A time limit in minutes, for clap.
fn minutes(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(m) if m > 0.0 && m <= 1e6 => Ok(m),
        _ => Err("expected a number of minutes above 0 and up to 1000000".into()),
    }
}

/// Runs the command line of this process.
///
/// # Errors
/// One sentence for the user; clap's own usage errors end the process with code 2.
pub fn run() -> Result<()> {
    let Cli { verb, common } = Cli::parse();
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
    if common.quiet {
        progress::be_quiet();
    }
    // Hidden: how often progress says where it is, for tests.
    if let Some(pace) =
        std::env::var("SODA_PROGRESS").ok().and_then(|milliseconds| milliseconds.parse().ok())
    {
        progress::set_pace(pace);
    }
    // Hidden: to compare the SIMD paths of one machine, and to run what GPUs run where there is
    // none.
    if let Ok(path) = std::env::var("SODA_SIMD") {
        crate::kernels::testing::force_simd(&path)
            .map_err(|e| Error::usage(format!("SODA_SIMD: {e}")))?;
    }
    match std::env::var("SODA_CLASS").as_deref() {
        Ok("gpu") => crate::kernels::testing::treat_adapters_as_gpus(),
        Ok(other) => return Err(Error::usage(format!("SODA_CLASS: expected gpu, got {other}"))),
        Err(_) => {}
    }
    // Of several processes that train the first one writes.
    let others = matches!(verb, Verb::Train(_) | Verb::Bench(_)) && crate::ranks::is_follower();
    if let Some(path) = common.json.as_ref().filter(|_| !others) {
        output::claim("--json", path, Holds::Text)?;
    }
    dispatch(verb, &common).and_then(|()| output::printed()).map_err(|e| match e {
        Error::Device(what) => failure::device_failed(&what),
        other => other,
    })
}

fn dispatch(verb: Verb, common: &Common) -> Result<()> {
    match verb {
        Verb::Quickstart(args) => quickstart::run(&args, common),
        Verb::Train(args) => train::run(&args, common),
        Verb::Replay(args) => replay::run(&args, common),
        Verb::Probe(args) => probe::run(&args, common),
        Verb::Reconstruct(args) => reconstruct::run(&args, common),
        Verb::Sample(args) => sample::run(&args, common),
        Verb::Quality(args) => quality::run(&args, common),
        Verb::Health(args) => health::run(&args, common),
        Verb::Diagnose(args) => diagnose::run(&args, common),
        Verb::Interpolate(args) => interpolate::run(&args, common),
        Verb::Directions(args) => directions::run(&args, common),
        Verb::Mix(args) => mix::run(&args, common),
        Verb::Invert(args) => invert::run(&args, common),
        Verb::View(args) => view::run(&args, common),
        Verb::Runs(args) => runs::run(&args, common),
        Verb::Report(args) => report::run(&args, common),
        Verb::Data(args) => data::run(&args, common),
        Verb::Bench(args) => bench::run(&args, common),
        Verb::Selftest => selftest::run(common),
        Verb::Shaders(args) => shaders::run(&args, common),
        Verb::Devices => devices::run(common),
        Verb::Embed(args) => embed::run(&args, common),
        Verb::Import(args) => import::run(&args, common),
        Verb::Export(args) => export::run(&args, common),
        Verb::Neighbours(args) => neighbours::run(&args, common),
        Verb::Map(args) => map::run(&args, common),
    }
}
