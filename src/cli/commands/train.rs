//! `soda train`: training of a recipe.

mod args;
mod auto_batch;
mod newest;
mod preview;
mod refusal;
mod resume;
mod several;
mod watchdog;

pub use args::Args;

use self::refusal::{may_train, too_much};
use self::resume::{finished, resume_command};
use crate::cli::args::Common;
use crate::cli::args::images;
use crate::cli::args::weights;
use crate::cli::device;
use crate::cli::device_failure::{Advice, advise};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{Output, refuse_occupied};
use serde_json::json;
use soda::config::{Config, MicroBatch, differences};
use soda::data;
use soda::device::Selected;
use soda::error::{Error, Result};
use soda::model::weights::WeightsFile;
use soda::progress::say;
use soda::ranks::watch;
use soda::run_dir::RunDir;
use soda::train::checkpoint::check_networks;
use soda::train::cooldown::cool_down;
use soda::train::exchange::{Among, dismiss};
use soda::train::run::{Called, Options, Summary, train};
use soda::train::saver;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Trains, or prints what would be trained.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    // These modes don't train, so they don't join the other ranks.
    if args.dry_run || args.try_step || args.fits.is_some() {
        args.several.check()?;
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

/// A directory that is removed again if the call fails before training starts.
struct Tentative(Option<PathBuf>);

impl Drop for Tentative {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_dir_all(path);
        }
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
    let mut tentative = Tentative(None);
    let run = match args.cooldown {
        Some(length) if args.fits.is_none() => {
            let cooled = cool_down(&run, length)?;
            tentative.0 = Some(cooled.path.clone());
            cooled
        }
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
    if args.resume && !run.exists() && args.config.is_none() && args.from.is_none() {
        run.require().map_err(|e| {
            Error::usage(format!(
                "--resume: {e} (`soda runs` lists those below runs/), or start one with --config"
            ))
        })?;
    }
    refuse_occupied("--run", &run)?;
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
        if let Some(weights) = from.as_ref().filter(|_| !resumed) {
            check_networks(&config, weights)?;
        }
        out!("{}", config.to_toml());
    }
    let mut output = Output::new("train");
    let device = if args.dry_run { device::selected(common)? } else { device::chosen(common)? };
    if args.dry_run {
        let dataset = images::of_run(common, resumed.then_some(&run), config.data.side)?;
        say_unused(&config);
        let images_per_s = preview::tell(&config, &dataset, &device, args.max_minutes)?;
        output.device(&device);
        output.data(&dataset, "train", dataset.train.len());
        output.merge(json!({ "dry_run": true, "recipe": config, "images_per_s": images_per_s }));
        return output.write(common);
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
    tentative.0 = None;
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
