//! The arguments of `soda train`.

use super::several;
use soda::train::cooldown::Length;
use std::path::PathBuf;

/// Arguments of `soda train`.
#[derive(Clone, clap::Args)]
pub struct Args {
    /// Recipe: a file, or one of the built-in recipes. These are cifar10 (the default on a GPU),
    /// cifar10-generate, paper, report, futurexiang, gpu_hour, small, tiny, finetune and quick; for
    /// your own images folder64 (GPU) and tiny64 (CPU).
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Override a value of the recipe, e.g. train.batch_size=64 (repeatable).
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Run directory (default: runs/CONFIG-N with a new number).
    #[arg(long, value_name = "DIR")]
    pub(super) run: Option<PathBuf>,
    /// Resume --run from its newest checkpoint, or start it if there is none. Without --run, resume
    /// the newest unfinished run below runs/. Data and starting weights are the run's own.
    #[arg(long)]
    pub(super) resume: bool,
    /// With --resume: use the recipe of --config and --set even if it differs from the run's own.
    #[arg(long, requires = "resume")]
    pub(super) allow_change: bool,
    /// Start a new run from a weights file, or from the built-in weights (`shipped`). Without
    /// --config, the recipe is the one in the file. Optimiser moments and EMA start from scratch.
    #[arg(long, value_name = "FILE")]
    pub(super) from: Option<PathBuf>,
    /// With --from: continue the training that produced the weights, if they record its length.
    /// Step, images seen and random streams carry on; optimiser moments and the warmup start again.
    #[arg(long = "continue", requires = "from")]
    pub(super) continues: bool,
    /// With --resume: cool down a run with a constant learning rate, from its newest checkpoint. In
    /// a separate run directory, DIR-cooldown-STEP, the rate falls to 0 within STEPS steps (or that
    /// fraction of the whole run, e.g. 0.2). DIR is unchanged and can still be resumed.
    #[arg(long, value_name = "STEPS", requires = "resume", conflicts_with_all = ["config", "set", "from", "dry_run"])]
    pub(super) cooldown: Option<Length>,
    /// End within this many minutes as a finished run, closing picture included. The learning-rate
    /// schedule is shortened accordingly, and a checkpoint is written.
    #[arg(long, value_name = "MINUTES", allow_negative_numbers = true, value_parser = crate::cli::args::minutes)]
    pub(super) max_minutes: Option<f64>,
    /// Before training, find the largest micro-batch that fits in memory. It tries the whole batch,
    /// a half, a quarter, .. (train.micro_batch); gradients are accumulated, so the batch stays the
    /// same.
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) auto_batch: bool,
    /// Only run two steps of the recipe, on images of noise, and print the time of the second;
    /// --auto-batch runs this in a separate process.
    #[arg(long, hide = true)]
    pub(super) try_step: bool,
    /// Only find out and report how many images fit; run in place of a process that ran out of
    /// memory.
    #[arg(long, hide = true, value_name = "WHY")]
    pub(super) fits: Option<String>,
    #[command(flatten)]
    pub(super) several: several::Args,
    /// Print the resolved recipe, and on stderr an estimate of what it takes, then stop. The
    /// estimate covers parameters, memory, disk, and time from a step of 2 images.
    #[arg(long)]
    pub(super) dry_run: bool,
}
