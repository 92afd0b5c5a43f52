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
use crate::cli::args::{Common, images, weights};
use crate::cli::device;
use crate::cli::device_failure::{Advice, advise};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{Output, refuse_occupied};
use serde_json::json;
use soda::config::{Config, MicroBatch, differences};
use soda::device::Selected;
use soda::error::{Error, Result};
use soda::model::weights::WeightsFile;
use soda::progress::say;
use soda::ranks::watch;
use soda::run_dir::RunDir;
use soda::train::cooldown::{beside, cool_down};
use soda::train::exchange::{Among, dismiss};
use soda::train::run::{Options, Summary, train};
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
    let Some(run) = named_run(args)? else {
        among.map_or(Ok(()), |among| dismiss(&among.ranks))?;
        return Output::new("train").write(common);
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
    let mut config = recipe(args, &run, resumed, from.as_deref())?;
    if args.dry_run {
        let own = resumed.then_some(&run);
        return preview::run(&config, own, from.as_deref(), args, common);
    }
    let mut output = Output::new("train");
    let device = device::chosen(common)?;
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
    let (at_once, allow_change) =
        choose_parts(&mut config, resumed.then_some(&run), &device, args, common, among)?;
    advise_smaller(&run, at_once / 2, args, common);
    let dataset = images::of_run(common, resumed.then_some(&run), config.data.side)?;
    preview::say_unused(&config, &args.set, &dataset);
    let begun = from
        .as_ref()
        .filter(|_| !resumed)
        .map_or(String::new(), |weights| format!(" from {}", weights.path.display()));
    say(&format!(
        "training {}{begun} on {}, {}",
        run.path.display(),
        device.describe(),
        dataset.describe()
    ));
    tentative.0 = None;
    let options = Options {
        limit: args.max_minutes.map(|m| Duration::from_secs_f64(m * 60.0)),
        resume: args.resume,
        allow_change,
        from,
        continues: args.continues,
        interrupt: Interrupt::listen()?.stop,
        called: weights::called(began.as_ref().map(|(name, _)| name.as_path())),
        among: among.cloned(),
        ..Options::default()
    };
    let summary = train(&config, &dataset, &device, &run, &options)?;
    output.device(&device);
    output.data(&dataset, "train", dataset.train.len());
    output.set("run", json!(run.path));
    output.weights(&WeightsFile::open(&run.weights()?)?);
    output.merge(json!(summary));
    // Written before anything is printed, because the reader of the output may be gone.
    output.write(common)?;
    print_summary(&summary, &run, resumed, args, common);
    Ok(())
}

/// Returns the run directory to train in; `None` if it is to be the newest unfinished one and there
/// is none.
fn named_run(args: &Args) -> Result<Option<RunDir>> {
    match &args.run {
        Some(run) => Ok(Some(RunDir::new(run))),
        None if args.resume => newest::unfinished(),
        None => {
            let named_by = args.config.as_ref().or(args.from.as_ref());
            let name = named_by.map_or(Some("cifar10".as_ref()), |path| path.file_stem());
            Ok(Some(RunDir::numbered(&name.map_or("run".into(), |name| name.to_string_lossy()))))
        }
    }
}

/// Returns the recipe: the one named, else the run's own if it is `resumed`, else that of the
/// weights it starts `from`, else the default.
fn recipe(args: &Args, run: &RunDir, resumed: bool, from: Option<&WeightsFile>) -> Result<Config> {
    match (&args.config, from) {
        (Some(path), _) => Config::named(path, &args.set),
        (None, _) if resumed => Config::load(&run.config(), &args.set),
        (None, Some(weights)) => {
            Config::parse(&weights.config.to_toml(), &weights.path.display().to_string(), &args.set)
        }
        (None, None) => Config::named("configs/cifar10.toml".as_ref(), &args.set),
    }
}

/// Sets how many images of a batch are computed at once (`train.micro_batch`), where the device
/// can't take all. Returns that number for the process with the largest share of a batch, and
/// whether the run that is resumed, `own`, may differ from its recipe.
fn choose_parts(
    config: &mut Config,
    own: Option<&RunDir>,
    device: &Selected,
    args: &Args,
    common: &Common,
    among: Option<&Among>,
) -> Result<(usize, bool)> {
    let mut allow_change = args.allow_change;
    if args.auto_batch {
        if args.set.iter().any(|set| set.starts_with("train.micro_batch=")) {
            return Err(Error::usage(
                "--auto-batch finds train.micro_batch; leave out one of --auto-batch and --set",
            ));
        }
        config.train.micro_batch = MicroBatch::Size(auto_batch::find(config, common, device)?);
        allow_change |= only_the_parts(own, config)?;
    }
    let largest = among
        .map(|among| among.sizes(config.train.batch_size))
        .transpose()?
        .and_then(|sizes| sizes.into_iter().max());
    let mut of_rank = config.for_images(largest.unwrap_or(config.train.batch_size));
    if device.gpu && !args.auto_batch {
        let shortened = watchdog::shorten(&mut of_rank, device)?;
        config.train.micro_batch = of_rank.train.micro_batch.clone();
        allow_change |= shortened && only_the_parts(own, config)?;
    }
    Ok((of_rank.train.at_once(), allow_change))
}

/// Has a failure of the device end with the command that resumes `run`, and with advice to compute
/// `smaller` images at once.
fn advise_smaller(run: &RunDir, smaller: usize, args: &Args, common: &Common) {
    let owned = (run.clone(), args.clone(), common.clone());
    advise(move || {
        let (run, args, common) = &owned;
        let advice = || Advice {
            resume: resume_command(run, args, common),
            run: args.run.is_none().then(|| run.path.clone()),
            smaller: Some(smaller).filter(|smaller| *smaller > 0),
        };
        run.exists().then(advice)
    });
}

/// Prints how training went, and the command to run next.
fn print_summary(summary: &Summary, run: &RunDir, resumed: bool, args: &Args, common: &Common) {
    let Summary { steps, images_per_s, loss_first, loss_last, .. } = summary;
    if resumed && summary.trained == 0 {
        let path = run.path.display();
        outln!("{path} is finished at step {steps}; no step is left to resume");
        return;
    }
    match steps {
        1 => outln!("1 step at {images_per_s:.1} images/s, loss {loss_last:.4}"),
        _ => outln!(
            "{steps} steps at {images_per_s:.1} images/s, loss {loss_first:.4} -> {loss_last:.4}"
        ),
    }
    match summary.interrupted {
        true => outln!(
            "stopped at step {steps}, checkpoint written; resume with: {}",
            resume_command(run, args, common)
        ),
        false => outln!("{}", finished(run)),
    }
    if let Some(best) = summary.best.filter(|best| best != steps) {
        outln!(
            "best k-NN during training: {}",
            run.checkpoint(best).join("ema.safetensors").display()
        );
    }
}

/// Checks whether `config` differs from the recipe of the resumed run `own` only in
/// train.micro_batch, which needs no --allow-change.
fn only_the_parts(own: Option<&RunDir>, config: &Config) -> Result<bool> {
    let own = own.map_or_else(|| Ok(config.clone()), RunDir::read_config)?;
    Ok(differences(&own, config).iter().all(|d| d.starts_with("train.micro_batch:")))
}

/// Returns the newest cooldown of `run`, in the directory next to it, or `run` if there is none.
fn cooled(run: &RunDir) -> RunDir {
    run.checkpoints()
        .into_iter()
        .rev()
        .filter_map(|step| beside(run, step).ok())
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
