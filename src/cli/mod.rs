//! The command line: one file a verb.

mod bench;
mod data;
mod devices;
mod diagnose;
mod directions;
mod embed;
mod export;
mod health;
mod import;
mod interpolate;
mod invert;
mod map;
mod mix;
mod neighbours;
mod output;
mod probe;
mod quality;
mod quickstart;
mod reconstruct;
mod replay;
mod report;
mod sample;
mod sampling;
mod selftest;
mod source;
mod studio;
mod train;
mod view;

use crate::error::{Error, Result};
use clap::{Parser, Subcommand};
use std::any::Any;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

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
    /// auto, cpu, or wgpu, vulkan, metal, dx12 with :INDEX or :NAME.
    #[arg(long, global = true, default_value = "auto")]
    device: String,
    /// Folder that holds cifar-10-batches-bin, cifar-100-binary or images, or `bundled` (default: $SODA_DATA, else the user's
    /// cache, else the bundled subset).
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Also write the result to this file, for machines.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// More log messages (-v, -vv); RUST_LOG is honoured.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Verb {
    /// Score and show the shipped weights, train them a little further on the bundled images, and do so again: minutes.
    Quickstart(quickstart::Args),
    /// Train a recipe.
    Train(train::Args),
    /// Run the step that broke a training run once more, and say what in it isn't finite.
    Replay(replay::Args),
    /// Score frozen features: linear probe, logistic regression, nearest neighbours.
    Probe(probe::Args),
    /// Draw images from their z alone, beside the originals.
    Reconstruct(reconstruct::Args),
    /// Draw images that nobody took: z from a distribution fitted to those of the training images.
    Sample(sample::Args),
    /// Measure reconstructions (PSNR, SSIM) and drawn images (Frechet distance, precision, recall in z).
    Quality(quality::Args),
    /// Is the representation healthy? Alignment, uniformity, rank, purity; what a probe confuses and how sure it is.
    Health(health::Args),
    /// Does the denoiser use z, and how is z spread? Losses by noise level with the right z, another's and none.
    Diagnose(diagnose::Args),
    /// Draw the way from one image to another, in z.
    Interpolate(interpolate::Args),
    /// Take sections of z from one image and the rest from another: content and style by resolution.
    Mix(mix::Args),
    /// Take images to z and the noise they come from, and back.
    Invert(invert::Args),
    /// Draw another crop or the mirror image, from z; for weights trained with view conditioning.
    View(view::Args),
    /// Draw what lies along the directions of z: its principal components, and the classes.
    Directions(directions::Args),
    /// Write one page about a run: curves, scores, pictures, and the commands that repeat them.
    Report(report::Args),
    /// Write the features of images to a .npy or .safetensors file.
    Embed(embed::Args),
    /// Draw the training images whose features are nearest to those of an image.
    #[command(alias = "neighbors")]
    Neighbours(neighbours::Args),
    /// Draw the test images as points in the plane, near where their features are near.
    Map(map::Args),
    /// Fetch, import or verify data sets.
    Data(data::Args),
    /// Take weights from another program's checkpoint (`soda data import` takes data sets).
    Import(import::Args),
    /// Write weights to one file with all that is known of them, for Python or half the size.
    Export(export::Args),
    /// Measure this machine's devices: kernels, training steps, inference, view pipeline.
    Bench(bench::Args),
    /// Test every kernel on a device against the CPU.
    Selftest,
    /// List the devices, and which one `auto` takes.
    Devices,
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
    let level = ["warn,wgpu=error,naga=error,cubecl=error", "info", "debug"][usize::from(common.verbose.min(2))];
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    dispatch(verb, &common).map_err(|e| match e {
        Error::Device(what) => device_failed(&what),
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
        Verb::Report(args) => report::run(&args, common),
        Verb::Data(args) => data::run(&args, common),
        Verb::Bench(args) => bench::run(&args, common),
        Verb::Selftest => selftest::run(common),
        Verb::Devices => devices::run(common),
        Verb::Embed(args) => embed::run(&args, common),
        Verb::Import(args) => import::run(&args, common),
        Verb::Export(args) => export::run(&args, common),
        Verb::Neighbours(args) => neighbours::run(&args, common),
        Verb::Map(args) => map::run(&args, common),
    }
}

/// What a panic comes to for a user; `None` where nobody is left to tell (the reader of a pipe has gone).
pub fn panicked(panic: &(dyn Any + Send)) -> Option<Error> {
    let message = message(panic);
    if let Some((_, why)) = message.split_once("failed printing to stdout: ") {
        // By number, as it is called otherwise in each language: a closed pipe on Unix, and two names for it on Windows.
        let closed = ["(os error 32)", "(os error 109)", "(os error 232)"].iter().any(|code| why.contains(code));
        return (!closed).then(|| Error::failed(format!("what was found can't be printed: {why}")));
    }
    let first = message.lines().next().unwrap_or_default();
    Some(device_failed(&format!("something failed that should not ({first})")))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().cloned();
    message.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_else(|| "no message".into())
}

/// What wgpu said first in a thread of its own, where a lack of memory becomes a panic that nobody else hears of.
static DEVICE_SAID: OnceLock<String> = OnceLock::new();

/// Looks at every panic, wherever it happens.
pub fn overhear(panic: &(dyn Any + Send)) {
    let message = message(panic);
    if message.starts_with("wgpu error") {
        let _ = DEVICE_SAID.set(message.lines().next().unwrap_or_default().to_owned());
    }
}

/// What a user does about a device that failed, added to `what` happened.
fn device_failed(what: &str) -> Error {
    let said = DEVICE_SAID.get().filter(|said| !what.contains(said.as_str()));
    let what = &said.map_or_else(|| what.to_owned(), |said| format!("{what}: {said}"));
    let advice = ADVICE.lock().map_or_else(|poisoned| poisoned.into_inner().take(), |mut advice| advice.take());
    let advice = advice.and_then(|advice| advice());
    let lower = what.to_lowercase();
    let memory = ["memory", "allocat", "buffer size", "binding size"].iter().any(|word| lower.contains(word));
    // As CubeCL calls it from then on.
    let lost = ["lost", "poisoned"].iter().any(|word| lower.contains(word));
    let lost = if lost { "the device was lost:" } else { "if the device was lost," };
    let remedy = match (advice, memory) {
        (Some(Advice { resume, run }), true) => {
            find_what_fits(what, run);
            format!("the device has too little memory; `{resume} --auto-batch` finds the most images it takes at once")
        }
        (None, true) => "the device has too little memory; take less at once, or --device cpu".into(),
        (Some(Advice { resume, .. }), false) => format!("{lost} go on with `{resume}` or on --device cpu"),
        (None, false) => format!("{lost} run the command again, or on --device cpu"),
    };
    Error::failed(format!("{what}; checkpoints are intact. {remedy}; else report this, with RUST_BACKTRACE=1"))
}

/// Begins the program anew to find out how many images the device has memory for, which it tells in its error: only when this
/// process has ended is the memory that it holds of use again. Returns where the system can't do that.
fn find_what_fits(why: &str, run: Option<PathBuf>) {
    #[cfg(unix)]
    if let Ok(program) = std::env::current_exe() {
        use std::os::unix::process::CommandExt;
        crate::progress::say("the device has too little memory; finding out how many images it takes at once");
        let mut again = std::process::Command::new(program);
        again.args(std::env::args_os().skip(1)).arg("--fits").arg(why);
        again.args(run.iter().flat_map(|run| ["--run".as_ref(), run.as_os_str()]));
        let _ = again.exec();
    }
    #[cfg(not(unix))]
    let _ = (why, run);
}

/// How to go on with training whose device failed.
struct Advice {
    /// The command.
    resume: String,
    /// The run directory, where the command line of this process doesn't name it.
    run: Option<PathBuf>,
}

type Adviser = Box<dyn Fn() -> Option<Advice> + Send>;

/// Gives advice, if what is being done can be gone on with by now; for [`device_failed`].
static ADVICE: Mutex<Option<Adviser>> = Mutex::new(None);

/// Notes what to go on with, should the device fail.
fn advise(adviser: impl Fn() -> Option<Advice> + Send + 'static) {
    if let Ok(mut advice) = ADVICE.lock() {
        *advice = Some(Box::new(adviser));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_fails_gives_one_sentence_and_the_command_that_goes_on() {
        let says = |message: &str| panicked(&message.to_owned()).map(|e| e.to_string());
        let lost = says("wgpu error: Device is lost\ncaused by ..").expect("a failure");
        assert!(lost.contains("Device is lost") && lost.contains("run the command again") && !lost.contains('\n'), "{lost}");
        // A run that isn't there yet can't be resumed.
        advise(|| None);
        assert!(!says("Device is lost").expect("a failure").contains("--resume"));
        advise(|| Some(Advice { resume: "soda train --resume --run r".into(), run: None }));
        let lost = device_failed(&Error::device("reading the losses", &"Device is lost").to_string()).to_string();
        assert!(lost.contains("reading the losses (Device is lost)"), "{lost}");
        assert!(lost.contains("`soda train --resume --run r`"), "{lost}");
        let memory = says("wgpu error: Out of Memory").expect("a failure");
        assert!(memory.contains("too little memory; take less at once"), "{memory}");
    }

    #[test]
    fn only_a_reader_that_has_gone_is_no_failure_to_print() {
        let printing = |why: &str| panicked(&format!("failed printing to stdout: {why}"));
        assert!(printing("Broken pipe (os error 32)").is_none());
        assert!(printing("No space left on device (os error 28)").expect("a failure").to_string().contains("No space left"));
    }
}
