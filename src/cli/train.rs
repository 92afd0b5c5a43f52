//! `soda train`

use super::Common;
use super::output::Output;
use crate::config::Config;
use crate::data;
use crate::device::{self, Selected};
use crate::error::{Error, Result};
use crate::run_dir::RunDir;
use crate::train::run::{Options, Summary, train};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Arguments of `soda train`.
#[derive(clap::Args)]
pub struct Args {
    /// The recipe.
    #[arg(long, value_name = "FILE", default_value = "configs/cifar10.toml")]
    config: PathBuf,
    /// Override one value of the recipe, for example train.batch_size=64; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run directory (default: runs/CONFIG-N with a new number).
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Continue --run from its newest checkpoint, or start it when there is none.
    #[arg(long, requires = "run")]
    resume: bool,
    /// End after this many minutes as a finished run: the learning rate follows, a checkpoint is written.
    #[arg(long, value_name = "MINUTES")]
    max_minutes: Option<f64>,
    /// Print the resolved recipe and stop.
    #[arg(long)]
    dry_run: bool,
}

/// Trains, or prints what would be trained.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let name = args.config.file_stem().map_or("run".into(), |s| s.to_string_lossy().into_owned());
    let run = args.run.as_ref().map_or_else(|| RunDir::numbered(&name), RunDir::new);
    let resumed = args.resume && run.exists();
    if resumed && !args.set.is_empty() {
        return Err(Error::usage(format!(
            "--set: {} continues with its own recipe; start another --run to change it",
            run.path.display()
        )));
    }
    let config = if resumed { run.read_config()? } else { Config::load(&args.config, &args.set)? };
    if args.dry_run {
        print!("{}", config.to_toml());
        return Ok(());
    }
    if let Some(minutes) = args.max_minutes.filter(|m| !(*m > 0.0 && m.is_finite())) {
        return Err(Error::usage(format!("--max-minutes {minutes}: must be above 0")));
    }
    let mut output = Output::new("train");
    let device = device::select(&common.device)?;
    let dataset = data::open(common.data.as_deref())?;
    eprintln!("training {} on {}, {}", run.path.display(), device.describe(), dataset.describe());
    let (before, summary) = (run.checkpoints().last().copied(), train_with(&config, &dataset, &device, &run, args)?);
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
    output.set("train", json!(summary));
    output.write(common)
}

fn train_with(config: &Config, dataset: &data::Dataset, device: &Selected, run: &RunDir, args: &Args) -> Result<Summary> {
    let limit = args.max_minutes.map(|m| Duration::from_secs_f64(m * 60.0));
    train(config, dataset, device, run, &Options { limit, resume: args.resume, interrupt: interrupt()? })
}

/// Set by Ctrl-C (and SIGTERM): the run then ends with a checkpoint; a second one ends it at once.
pub fn interrupt() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Registered first: acts only once the flag is set, that is from the second signal on.
        signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
            .map_err(|e| Error::failed(format!("cannot listen for Ctrl-C: {e}")))?;
    }
    debug_assert!(!flag.load(Ordering::Relaxed));
    Ok(flag)
}
