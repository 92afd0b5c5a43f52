//! `soda train`

use super::Common;
use super::output::Output;
use super::source;
use crate::config::Config;
use crate::data;
use crate::device::{self, Selected};
use crate::error::{Error, Result};
use crate::model::weights::WeightsFile;
use crate::run_dir::RunDir;
use crate::train::run::{Options, Summary, train};
use serde_json::json;
use signal_hook::flag;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Arguments of `soda train`.
#[derive(clap::Args)]
pub struct Args {
    /// The recipe: a file, or one of the program's own configs/cifar10.toml (the default), cifar10-generate.toml, paper.toml,
    /// report.toml, futurexiang.toml, tiny.toml, quick.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override one value of the recipe, for example train.batch_size=64; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run directory (default: runs/CONFIG-N with a new number).
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Continue --run from its newest checkpoint, or start it when there is none.
    #[arg(long, requires = "run")]
    resume: bool,
    /// Start a new run from a weights file (`shipped`: those that the program carries) instead of random weights; without
    /// --config with the recipe in the file. Moments and average begin anew.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// End after this many minutes as a finished run: the learning rate follows, a checkpoint is written.
    #[arg(long, value_name = "MINUTES", value_parser = super::minutes)]
    max_minutes: Option<f64>,
    /// Print the resolved recipe and stop.
    #[arg(long)]
    dry_run: bool,
}

/// Trains, or prints what would be trained.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let path = args.config.clone().unwrap_or_else(|| "configs/cifar10.toml".into());
    let named_by = args.config.as_ref().or(args.from.as_ref()).unwrap_or(&path);
    let name = named_by.file_stem().map_or("run".into(), |s| s.to_string_lossy().into_owned());
    let run = args.run.as_ref().map_or_else(|| RunDir::numbered(&name), RunDir::new);
    let resumed = args.resume && run.exists();
    if resumed && !args.set.is_empty() {
        return Err(Error::usage(format!(
            "--set: {} continues with its own recipe; start another --run to change it",
            run.path.display()
        )));
    }
    let from = args.from.as_deref().map(source::named).transpose()?;
    let config = match &from {
        _ if resumed => run.read_config()?,
        Some(weights) if args.config.is_none() => {
            Config::parse(&weights.config.to_toml(), &weights.path.display().to_string(), &args.set)?
        }
        _ => Config::load(&path, &args.set)?,
    };
    if resumed && args.config.is_some() && config != Config::load(&path, &[])? {
        let (run, path) = (run.path.display(), path.display());
        return Err(Error::usage(format!(
            "--config {path}: {run} continues with its own recipe, which differs; leave --config out"
        )));
    }
    if args.dry_run {
        print!("{}", config.to_toml());
        return Ok(());
    }
    let mut output = Output::new("train");
    let device = device::select(&common.device)?;
    let dataset = data::open(common.data.as_deref())?;
    let begun = from.as_ref().map_or(String::new(), |weights| format!(" from {}", weights.path.display()));
    eprintln!("training {}{begun} on {}, {}", run.path.display(), device.describe(), dataset.describe());
    let (before, summary) = (run.checkpoints().last().copied(), train_with(&config, &dataset, &device, &run, from, args)?);
    if resumed && before == Some(summary.steps) {
        println!("{} is finished at step {}; nothing to resume", run.path.display(), summary.steps);
    } else {
        let Summary { steps, images_per_s, loss_first, loss_last } = &summary;
        println!("{steps} steps at {images_per_s:.1} images/s, loss {loss_first:.4} -> {loss_last:.4}");
        println!("run directory {}; next: soda probe --run {0}", run.path.display());
    }
    output.device(&device);
    output.data(&dataset, "train", dataset.train.len());
    output.set("run", json!(run.path));
    output.weights(&WeightsFile::open(&run.weights()?)?);
    output.merge(json!(summary));
    output.write(common)
}

fn train_with(
    config: &Config,
    dataset: &data::Dataset,
    device: &Selected,
    run: &RunDir,
    from: Option<WeightsFile>,
    args: &Args,
) -> Result<Summary> {
    let limit = args.max_minutes.map(|m| Duration::from_secs_f64(m * 60.0));
    let interrupt = Interrupt::listen()?.stop;
    train(config, dataset, device, run, &Options { limit, resume: args.resume, from: from.map(Arc::new), interrupt })
}

/// What Ctrl-C (and SIGTERM) do: the first one asks the run to end with a checkpoint, a second one ends it at once.
pub struct Interrupt {
    /// Set by the first one.
    pub stop: Arc<AtomicBool>,
    /// Once set, Ctrl-C ends the program as if nobody listened.
    pub let_go: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens from now on.
    pub fn listen() -> Result<Self> {
        let (stop, let_go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // Those registered first act first: the shutdown sees a flag that only an earlier signal has set.
            flag::register_conditional_default(signal, let_go.clone())
                .and_then(|_| flag::register_conditional_shutdown(signal, 130, stop.clone()))
                .and_then(|_| flag::register(signal, stop.clone()))
                .map_err(|e| Error::failed(format!("cannot listen for Ctrl-C: {e}")))?;
        }
        Ok(Self { stop, let_go })
    }
}
