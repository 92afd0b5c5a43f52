//! `soda replay`: a step of a run, repeated.

use crate::cli::args::{Common, count, images};
use crate::cli::device;
use crate::cli::output::Output;
use serde_json::json;
use soda::error::{Error, Result};
use soda::files;
use soda::progress::say;
use soda::run_dir::{Failure, RunDir};
use soda::train::replay::{Replayed, replay};
use soda::units::grouped;
use std::path::PathBuf;

/// Arguments of `soda replay`.
#[derive(clap::Args)]
pub struct Args {
    /// Run directory.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Step to re-run, from 1 (default: the one that ended the run).
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count::<u64>(1..))]
    step: Option<u64>,
}

/// Re-runs a step of a run and reports which values are not finite.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("replay");
    let run = RunDir::new(&args.run);
    run.require()?;
    let config = run.read_config()?;
    let failure = failure(&run)?;
    let step = args.step.or(failure.as_ref().map(|failure| failure.step)).ok_or_else(|| {
        Error::usage(format!(
            "{} records no failed step; name a step with --step",
            run.path.display()
        ))
    })?;
    let last = last_step(&run, failure.as_ref())?;
    if step > last {
        return Err(Error::usage(format!(
            "--step {step}: {} has {}; name one of them",
            run.path.display(),
            if last == 1 { "one step".into() } else { format!("{} steps", grouped(last)) }
        )));
    }
    let device = device::selected(common)?;
    let dataset = images::of_run(common, Some(&run), config.data.side)?;
    say(&format!(
        "replaying {} up to step {step} on {}, {}",
        run.path.display(),
        device.describe(),
        dataset.describe()
    ));
    let replayed = replay(&config, &dataset, &device, &run, step, failure.as_ref())?;
    let Replayed { step, lr, seed, images, loss, grad_norm, left_out, broken_before, broken_after } =
        &replayed;
    let lr = if *lr == 0.0 { "0".into() } else { format!("{lr:.3e}") };
    outln!("step {step}: lr {lr}, loss {loss:.6}, gradient norm {grad_norm:.6}");
    if *left_out {
        outln!(
            "its gradients are not finite: mixed precision skips the step and halves the loss scale"
        );
    }
    outln!("seed {seed}; training images {images:?}");
    for (when, broken) in [("before", broken_before), ("after", broken_after)] {
        match broken.as_slice() {
            [] => outln!("weights and moments {when} the step: all finite"),
            [first, rest @ ..] => {
                outln!("not finite {when} the step: {first} and {} other tensors", rest.len())
            }
        }
    }
    output.device(&device);
    output.data(&dataset, "train", dataset.train.len());
    output.set("finite", json!(replayed.is_finite()));
    output.merge(json!(replayed));
    output.write(common)
}

/// Returns the last step that the run has taken, or tried.
fn last_step(run: &RunDir, failure: Option<&Failure>) -> Result<u64> {
    let logged = run.read_metrics()?.rows.last().map(|row| row.step);
    let saved = run.checkpoints().last().copied();
    Ok([logged, saved, failure.map(|failure| failure.step)]
        .into_iter()
        .flatten()
        .max()
        .unwrap_or(0))
}

/// Reads the record of the step that ended the run, if there is one.
fn failure(run: &RunDir) -> Result<Option<Failure>> {
    let path = run.failure();
    let Ok(json) = files::read(&path) else { return Ok(None) };
    serde_json::from_slice(&json).map(Some).map_err(|e| {
        Error::failed(format!(
            "{} is damaged ({e}); remove it and name the step with --step",
            path.display()
        ))
    })
}
