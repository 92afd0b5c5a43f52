//! `soda train`: training of a recipe.

mod auto_batch;
mod newest;
mod preview;
mod several;
mod watchdog;

use crate::cli::args::Common;
use crate::cli::args::images;
use crate::cli::args::weights;
use crate::cli::device;
use crate::cli::device_failure::{Advice, advise};
use crate::cli::interrupt::Interrupt;
use crate::cli::launcher;
use crate::cli::output::Output;
use serde_json::json;
use soda::config::{Config, MicroBatch, differences};
use soda::data;
use soda::device::Selected;
use soda::error::{Error, Result};
use soda::model::weights::WeightsFile;
use soda::progress::say;
use soda::ranks::watch;
use soda::run_dir::RunDir;
use soda::shell::quoted;
use soda::train::cooldown::{Length, cool_down};
use soda::train::exchange::{Among, dismiss};
use soda::train::run::{Called, Options, Summary, train};
use soda::train::saver;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Arguments of `soda train`.
#[derive(Clone, clap::Args)]
pub struct Args {
    /// Recipe: a file, or one of the built-in recipes. These are cifar10 (the default on a GPU),
    /// cifar10-generate, paper, report, futurexiang, small, tiny, finetune and quick; for your own
    /// images folder64 (GPU) and tiny64 (CPU).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override a value of the recipe, e.g. train.batch_size=64 (repeatable).
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Run directory (default: runs/CONFIG-N with a new number).
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Resume --run from its newest checkpoint, or start it if there is none. Without --run, resume
    /// the newest unfinished run below runs/. Data and starting weights are the run's own.
    #[arg(long)]
    resume: bool,
    /// With --resume: use the recipe of --config and --set even if it differs from the run's own.
    #[arg(long, requires = "resume")]
    allow_change: bool,
    /// Start a new run from a weights file, or from the built-in weights (`shipped`). Without
    /// --config, the recipe is the one in the file. Optimiser moments and EMA start from scratch.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// With --from: continue the training that produced the weights, if they record its length.
    /// Step, images seen and random streams carry on; optimiser moments and the warmup start again.
    #[arg(long = "continue", requires = "from")]
    continues: bool,
    /// With --resume: cool down a run with a constant learning rate, from its newest checkpoint. In
    /// a separate run directory, DIR-cooldown-STEP, the rate falls to 0 within STEPS steps (or that
    /// fraction of the whole run, e.g. 0.2). DIR is unchanged and can still be resumed.
    #[arg(long, value_name = "STEPS", requires = "resume", conflicts_with_all = ["config", "set", "from", "dry_run"])]
    cooldown: Option<Length>,
    /// End within this many minutes as a finished run, closing picture included. The learning-rate
    /// schedule is shortened accordingly, and a checkpoint is written.
    #[arg(long, value_name = "MINUTES", value_parser = crate::cli::args::minutes)]
    max_minutes: Option<f64>,
    /// Before training, find the largest micro-batch that fits in memory. It tries the whole batch,
    /// a half, a quarter, .. (train.micro_batch); gradients are accumulated, so the batch stays the
    /// same.
    #[arg(long)]
    auto_batch: bool,
    /// Only run two steps of the recipe, on images of noise, and print the time of the second;
    /// --auto-batch runs this in a separate process.
    #[arg(long, hide = true)]
    try_step: bool,
    /// Only find out and report how many images fit; run in place of a process that ran out of
    /// memory.
    #[arg(long, hide = true, value_name = "WHY")]
    fits: Option<String>,
    #[command(flatten)]
    several: several::Args,
    /// Print the resolved recipe, and on stderr an estimate of what it takes, then stop. The
    /// estimate covers parameters, memory, disk, and time from a step of 2 images.
    #[arg(long)]
    dry_run: bool,
}

/// Trains, or prints what would be trained.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    // These modes don't train, so they don't join the other ranks.
    if args.dry_run || args.try_step || args.fits.is_some() {
        return run_among(args, common, None);
    }
    match args.several.join()? {
        Some(among) => {
            watch::begin(&among.ranks, saver::is_writing)?;
            if among.ranks.rank() == 0 {
                run_among(args, common, Some(&among))?;
            } else {
                several::run(&among, common)?;
            }
            several::end(among)
        }
        None => run_among(args, common, None),
    }
}

/// Implements [`run`] as the only process, or as rank 0 of several.
fn run_among(args: &Args, common: &Common, among: Option<&Among>) -> Result<()> {
    let path = args.config.clone().unwrap_or_else(|| "configs/cifar10.toml".into());
    let named_by = args.config.as_ref().or(args.from.as_ref()).unwrap_or(&path);
    let name = named_by.file_stem().map_or("run".into(), |s| s.to_string_lossy().into_owned());
    let run = match &args.run {
        Some(run) => RunDir::new(run),
        None if args.resume => match newest::unfinished()? {
            Some(run) => run,
            None => {
                among.map_or(Ok(()), |among| dismiss(&among.ranks))?;
                return Output::new("train").write(common);
            }
        },
        None => RunDir::numbered(&name),
    };
    let run = match args.cooldown {
        Some(length) if args.fits.is_none() => cool_down(&run, length)?,
        // The cooldown that ran out of memory already exists; the command that resumes it names its
        // directory.
        Some(_) => cooled(&run),
        None => run,
    };
    if among.is_some() && args.auto_batch {
        return Err(Error::usage(
            "--auto-batch is for one process, because it starts others to try sizes; find the size \
             with one process, then set train.micro_batch",
        ));
    }
    let among =
        among.map(|among| Among { resume: resume_command(&run, args, common), ..among.clone() });
    let among = among.as_ref();
    let resumed = args.resume && run.exists();
    let began = began(&run, args)?;
    let from = began.as_ref().map(|(_, weights)| Arc::clone(weights));
    let mut config = match &from {
        _ if args.config.is_some() => Config::named(&path, &args.set)?,
        _ if resumed => Config::load(&run.config(), &args.set)?,
        Some(weights) => Config::parse(
            &weights.config.to_toml(),
            &weights.path.display().to_string(),
            &args.set,
        )?,
        None => Config::named(&path, &args.set)?,
    };
    if args.dry_run {
        out!("{}", config.to_toml());
    }
    let mut output = Output::new("train");
    let device = if args.dry_run { device::selected(common)? } else { device::chosen(common)? };
    if args.dry_run {
        let dataset = images::of_run(common, resumed.then_some(&run), config.data.side)?;
        say_unused(&config);
        return preview::tell(&config, &dataset, &device, args.max_minutes);
    }
    if args.try_step {
        return auto_batch::try_step(&config, &device);
    }
    may_train(&device)?;
    if args.config.is_none() && args.from.is_none() && !resumed && !device.gpu {
        return Err(too_much(common));
    }
    if let Some(why) = &args.fits {
        return Err(Error::failed(format!(
            "{why}. {}",
            what_fits(&run, &config, &device, args, common)
        )));
    }
    let mut allow_change = args.allow_change;
    if args.auto_batch {
        config.train.micro_batch = MicroBatch::Size(auto_batch::find(&config, common, &device)?);
        allow_change |= only_the_parts(&run, resumed, &config)?;
    }
    // The recipe for the process with the largest part of a batch.
    let largest = among
        .map(|among| among.sizes(config.train.batch_size))
        .transpose()?
        .and_then(|sizes| sizes.into_iter().max());
    let mut own = config.for_images(largest.unwrap_or(config.train.batch_size));
    if device.gpu && !args.auto_batch {
        let shortened = watchdog::shorten(&mut own, &device)?;
        config.train.micro_batch = own.train.micro_batch.clone();
        allow_change |= shortened && only_the_parts(&run, resumed, &config)?;
    }
    let owned = (run.clone(), args.clone(), common.clone(), own.train.at_once() / 2);
    advise(move || {
        let (run, args, common, smaller) = &owned;
        let unnamed = args.run.is_none().then(|| run.path.clone());
        let advice = || Advice {
            resume: resume_command(run, args, common),
            run: unnamed,
            smaller: Some(*smaller).filter(|smaller| *smaller > 0),
        };
        run.exists().then(advice)
    });
    let dataset = images::of_run(common, resumed.then_some(&run), config.data.side)?;
    say_unused(&config);
    let begun =
        from.as_ref().map_or(String::new(), |weights| format!(" from {}", weights.path.display()));
    say(&format!(
        "training {}{begun} on {}, {}",
        run.path.display(),
        device.describe(),
        dataset.describe()
    ));
    let called = weights::called(began.as_ref().map(|(name, _)| name.as_path()));
    let summary =
        train_with(&config, &dataset, &device, &run, (from, called), allow_change, args, among)?;
    output.device(&device);
    output.data(&dataset, "train", dataset.train.len());
    output.set("run", json!(run.path));
    output.weights(&WeightsFile::open(&run.weights()?)?);
    output.merge(json!(summary));
    // Written before anything is printed, because the reader of the output may be gone.
    output.write(common)?;
    if resumed && summary.trained == 0 {
        outln!(
            "{} is finished at step {}; no step is left to resume",
            run.path.display(),
            summary.steps
        );
    } else {
        let Summary { steps, images_per_s, loss_first, loss_last, .. } = &summary;
        match steps {
            1 => outln!("1 step at {images_per_s:.1} images/s, loss {loss_last:.4}"),
            _ => outln!(
                "{steps} steps at {images_per_s:.1} images/s, loss {loss_first:.4} -> \
                 {loss_last:.4}"
            ),
        }
        match summary.interrupted {
            true => outln!(
                "stopped at step {steps}, checkpoint written; resume with: {}",
                resume_command(&run, args, common)
            ),
            false => outln!("{}", finished(&run)),
        }
        if let Some(best) = summary.best.filter(|best| best != steps) {
            outln!(
                "best k-NN during training: {}",
                run.checkpoint(best).join("ema.safetensors").display()
            );
        }
    }
    Ok(())
}

/// Checks whether `config` differs from the run's own recipe only in train.micro_batch, which needs
/// no --allow-change.
fn only_the_parts(run: &RunDir, resumed: bool, config: &Config) -> Result<bool> {
    let own = if resumed { run.read_config()? } else { config.clone() };
    Ok(differences(&own, config).iter().all(|d| d.starts_with("train.micro_batch:")))
}

/// Reports attention in the recipe that no stage of the denoiser uses.
fn say_unused(config: &Config) {
    if let [side, ..] = config.unused_attention()[..] {
        say(&format!(
            "model.unet.attention: no stage of the denoiser has feature maps of {side} x {side} \
             pixels, so {side} has no effect"
        ));
    }
}

/// Refuses to train on the CPU by mistake, for days, if there is a GPU that can't be used.
fn may_train(device: &Selected) -> Result<()> {
    match &device.missed {
        Some(why) => {
            Err(Error::usage(format!("{why}. To train on the CPU anyway, add --device cpu")))
        }
        None => Ok(()),
    }
}

/// Returns the error for `soda train` without a recipe on a CPU, which would not finish; suggests
/// recipes that do.
fn too_much(common: &Common) -> Error {
    let place = place(common);
    // Several lines, so that the commands can be copied.
    Error::Usage(format!(
        "`soda train` without --config trains configs/cifar10.toml, which takes days on a GPU and months to years on a CPU. Try:
  soda train --config quick{place}    (minutes, on the bundled images)
  soda train --config tiny --max-minutes 120{place}    (the recipe of the shipped weights; `soda data fetch` gets the full CIFAR-10 for it)
--config cifar10 starts it anyway, and --dry-run estimates how long it would take"
    ))
}

/// Returns the newest cooldown of `run`, in the directory next to it, or `run` if there is none.
fn cooled(run: &RunDir) -> RunDir {
    let path = if run.path.file_name().is_some() {
        run.path.clone()
    } else {
        std::fs::canonicalize(&run.path).unwrap_or_default()
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = |step: u64| RunDir::new(path.with_file_name(format!("{name}-cooldown-{step}")));
    run.checkpoints()
        .into_iter()
        .rev()
        .map(beside)
        .find(RunDir::exists)
        .unwrap_or_else(|| run.clone())
}

/// Describes how many images the device has memory for, and how to resume with them, for a run that
/// ran out of memory.
fn what_fits(
    run: &RunDir,
    config: &Config,
    device: &Selected,
    args: &Args,
    common: &Common,
) -> String {
    let resume = resume_command(run, args, common);
    let now = run.read_config().map_or(config.train.at_once(), |own| own.train.at_once());
    let fits = match auto_batch::find(config, common, device) {
        Ok(0) => config.train.batch_size,
        Ok(n) => n,
        Err(e) => return e.to_string(),
    };
    if fits < now {
        format!(
            "The device has memory for {fits} images at once, not {now}: resume with `{resume} \
             --auto-batch`"
        )
    } else {
        format!(
            "Steps of {now} images at once do fit on their own: resume with `{resume}` once other \
             programs leave the device more memory"
        )
    }
}

#[allow(clippy::too_many_arguments, reason = "everything the command line specifies")]
fn train_with(
    config: &Config,
    dataset: &data::Dataset,
    device: &Selected,
    run: &RunDir,
    (from, called): (Option<Arc<WeightsFile>>, Called),
    allow_change: bool,
    args: &Args,
    among: Option<&Among>,
) -> Result<Summary> {
    let limit = args.max_minutes.map(|m| Duration::from_secs_f64(m * 60.0));
    let interrupt = Interrupt::listen()?.stop;
    let continues = args.continues;
    let among = among.cloned();
    let options = Options {
        limit,
        resume: args.resume,
        allow_change,
        from,
        continues,
        interrupt,
        called,
        among,
    };
    train(config, dataset, device, run, &options)
}

/// Returns the weights that `run` starts from, and their name: those of `--from`, else those that a
/// run without a checkpoint started from.
fn began(run: &RunDir, args: &Args) -> Result<Option<(PathBuf, Arc<WeightsFile>)>> {
    let opened = |name: PathBuf| {
        let weights = weights::named(&name)?;
        weights.require_denoiser()?;
        Ok(Some((name, Arc::new(weights))))
    };
    if let Some(named) = &args.from {
        return opened(named.clone());
    }
    let first = || run.read_starts().into_iter().next();
    let noted = (args.resume && run.exists() && run.checkpoints().is_empty()).then(first).flatten();
    let Some(name) = noted.as_ref().and_then(weights::began_with) else { return Ok(None) };
    opened(name.into()).map_err(|e| {
        let run = run.path.display();
        Error::usage(format!(
            "{run} holds no checkpoint yet, and the weights it started from can't be opened: {e}; \
             name them with --from FILE"
        ))
    })
}

/// Names the directory of a finished run and the command that scores it.
fn finished(run: &RunDir) -> String {
    format!("run directory {}; next: soda probe --run {}", run.path.display(), quoted(&run.path))
}

/// Returns the command that resumes `run` on the same device; the run records its data and its
/// starting weights.
fn resume_command(run: &RunDir, args: &Args, common: &Common) -> String {
    let mut command =
        format!("{}soda train --resume --run {}", launcher::prefix(), quoted(&run.path));
    if common.device != "auto" {
        command += &format!(" --device {}", quoted(&common.device));
    }
    if let Some(minutes) = args.max_minutes {
        command += &format!(" --max-minutes {minutes}");
    }
    command + &args.several.given()
}

/// Returns the flags for data and device, as given.
fn place(common: &Common) -> String {
    let data =
        common.data.as_ref().map_or(String::new(), |data| format!(" --data {}", quoted(data)));
    let device = if common.device == "auto" {
        String::new()
    } else {
        format!(" --device {}", quoted(&common.device))
    };
    data + &device
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
        #[command(flatten)]
        common: Common,
    }

    #[test]
    fn the_command_that_resumes_a_run_keeps_each_flag_and_path_as_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::new(folder.path().join("it's a run"));
        let resume = |more: &[&str]| {
            let Line { args, common } = Line::parse_from(["train"].iter().chain(more));
            shlex::split(&resume_command(&run, &args, &common)).expect("whole quotes")
        };
        let path = run.path.to_string_lossy();
        let plain = ["soda", "train", "--resume", "--run", &*path];
        assert_eq!(resume(&[]), plain);
        let more = ["--device", "vulkan:Radeon RX", "--max-minutes", "1.5"];
        assert_eq!(resume(&more), [&plain[..], &more].concat());
        // The run records its data and starting weights.
        let own = ["--from", "old weights/'a'.safetensors", "--data", "my \"data\""];
        assert_eq!(resume(&[&own[..], &more].concat()), [&plain[..], &more].concat());
    }

    #[test]
    fn a_gpu_that_cannot_be_used_is_not_replaced_by_the_cpu_without_leave() {
        let missed = Selected {
            missed: Some("a GPU is there, hidden".into()),
            ..Selected::cpu("no GPU found")
        };
        let error = may_train(&missed).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains("a GPU is there, hidden. To train on the CPU anyway, add --device cpu")
        );
        assert!(
            may_train(&soda::device::select("cpu").expect("always there")).is_ok(),
            "the CPU was requested"
        );
    }

    #[test]
    fn a_finished_run_names_the_command_that_scores_it() {
        let line = finished(&RunDir::new("it's a run"));
        let (_, command) = line.split_once("next: ").expect("a command");
        assert_eq!(
            shlex::split(command).expect("whole quotes"),
            ["soda", "probe", "--run", "it's a run"]
        );
    }
}
