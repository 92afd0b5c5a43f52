//! The training loop.

mod due;
mod keeper;
mod limit;
mod log;
mod pace;
mod pictures;
mod pools;
mod watch;

use self::due::{Due, Work};
use self::keeper::Keeper;
use self::limit::Limit;
use self::log::Log;
use self::pace::Pace;
use self::pictures::{Picture, draw_reconstructions, store};
use self::watch::{Doing, Watch};
use super::checkpoint::{self, Snapshot, State};
use super::exchange::{Among, Order, lead};
use super::limits;
use super::optim::learning_rate;
use super::plan::Plan;
use super::step::{Pair, step};
use super::trial;
use crate::config::{Config, Precision, differences};
use crate::data::Dataset;
use crate::data::loader::Loader;
use crate::device::Selected;
use crate::diffusion::Schedule;
use crate::error::{Error, Result};
use crate::eval::validation::validate;
use crate::machine;
use crate::model::weights::{Tensors, WeightsFile};
use crate::progress::{say, warn};
use crate::run_dir::{Row, RunDir, Start};
use crate::selftest;
use crate::shell::quoted;
use crate::units::grouped;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a call of [`train`] may decide.
#[derive(Clone, Default)]
pub struct Options {
    /// Stop within this much time, closing work included, ending like a finished run; at least one
    /// step is taken.
    pub limit: Option<Duration>,
    /// Continue from the newest checkpoint, or start when there is none.
    pub resume: bool,
    /// What a new run starts from; none: random weights. Of a run that goes on it is ignored.
    pub from: Option<Arc<WeightsFile>>,
    /// Go on with the training that made those, instead of beginning anew at step 0.
    pub continues: bool,
    /// Go on with a recipe that isn't the run's own, where its networks are the same.
    pub allow_change: bool,
    /// Set from outside to stop after the current step, with a checkpoint.
    pub interrupt: Arc<AtomicBool>,
    /// What starts.jsonl is to note of the command line.
    pub called: Called,
    /// The processes that train together, of which this is rank 0; none: it trains alone.
    pub among: Option<Among>,
}

/// How training was asked for.
#[derive(Clone, Debug, Default)]
pub struct Called {
    /// The command line, word by word.
    pub command: Vec<String>,
    /// What the weights of [`Options::from`] are called: `shipped`, or their absolute path.
    pub from: Option<String>,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Steps of the whole run.
    pub steps: u64,
    /// Throughput of the whole run: training alone, checkpoints and pictures not counted.
    pub images_per_s: f64,
    /// Mean loss of the first row of the log.
    pub loss_first: f64,
    /// Mean loss of the last row.
    pub loss_last: f64,
    /// Steps of this call.
    pub trained: u64,
    /// Whether it was interrupted before its last step.
    pub interrupted: bool,
    /// Step of the checkpoint with the best k-NN on held-out training images, where that was
    /// scored.
    pub best: Option<u64>,
}

/// Trains `config` on the training images of `data` until its last step, the time limit or an
/// interrupt; all of them leave a checkpoint.
///
/// # Errors
/// If `run` already holds a run and `resume` isn't set, another process trains it, its directory
/// can't be written, its recipe or data is another, `device` fails the self test or takes no
/// tensors of the recipe's size, or the loss is no longer finite; in the last case earlier
/// checkpoints stay.
pub fn train(
    config: &Config,
    data: &Dataset,
    device: &Selected,
    run: &RunDir,
    options: &Options,
) -> Result<Summary> {
    let began = Instant::now();
    let bar = Log::bar(config);
    let watch = Watch::new(&options.interrupt, &bar, options.limit.filter(|_| device.gpu));
    let mut lock = if run.exists() { Some(run.lock()?) } else { None };
    let now = described(data, device, &options.called);
    let (mut state, changed) = start(config, data, device, run, &now, options)?;
    let batch = config.train.batch_size;
    let own = match &options.among {
        Some(among) => &config.for_images(among.sizes(batch)?[0]),
        None => config,
    };
    if !state.position.finished {
        limits::check(own, device)?;
        selftest::once(device)?;
    }
    let mut exchange = options
        .among
        .as_ref()
        .map(|among| lead(among, config, data, device, &state))
        .transpose()?;
    let schedule = Schedule::new(&config.diffusion);
    let autodiff = device.device.clone().autodiff();
    let train = &config.train;
    let last_step = train.steps as u64;
    let rows = (batch, 0..own.train.batch_size);
    let mut batches = Loader::of_rows(
        data.train.clone(),
        config.data.clone(),
        rows,
        config.seed,
        state.position.step,
    )?;
    // Only now: a mistake found above leaves nothing behind.
    let new = lock.is_none();
    if new {
        lock = Some(run.lock()?);
        if run.exists() {
            return Err(already_there(run));
        }
        run.forget_starts()?;
    }
    if !state.position.finished {
        let from = options.from.as_ref().filter(|_| state.position.updates == 0);
        // Images seen before `--continue` are counted as the run's own.
        let counted = state.position.continued.map_or(0, |continued| continued.images);
        run.add_start(&Start {
            step: state.position.step,
            from: from.map(|weights| weights.sha256.clone()),
            from_name: options.called.from.clone().filter(|_| from.is_some()),
            from_images: from
                .and_then(|weights| checkpoint::images_behind(weights)?.checked_sub(counted)),
            ..now
        })?;
        // The recipe last: it is what makes a directory a run.
        if new || changed {
            run.create(config)?;
        }
    }
    let before = state.position.step;
    let mut log = Log::open(run, config, &state, &device.device, bar)?;
    let mut keeper = Keeper::new(run, train);
    let score = |state: &State, log: &mut Log, keeper: &mut Keeper| {
        let scores =
            validate(&state.ema.model(), config, data, train.evaluate_images, &device.device)?;
        let written = log.evaluated(state.position.step, state.position.images, scores);
        keeper.noted(written, log)
    };
    // A kill may have come between a checkpoint and its scores.
    let scored =
        state.position.finished || before.is_multiple_of(train.evaluate_every.max(1) as u64);
    if train.evaluate_every > 0
        && before > 0
        && scored
        && log.metrics.evaluations.iter().all(|e| e.step != before)
    {
        log.say(&format!("step {} has no scores yet: taking them", grouped(before)));
        let pause = Instant::now();
        selftest::once(device)?;
        score(&state, &mut log, &mut keeper)?;
        log.pause(pause);
    }
    let already = state.position.seconds;
    let mut interrupted = false;
    let mut linear = None;
    let clock = Instant::now();
    let (mut pace, mut limit) = begin(config, own, data, device, options, &state, began, &log)?;
    log.pause(clock);

    while !state.position.finished && !interrupted {
        let clock = Instant::now();
        let number = state.position.step + 1;
        watch.doing(if pace.taken == 0 {
            Doing::FirstStep(number)
        } else {
            Doing::Step(number, pace.seconds())
        });
        // Never back, not even where a resumed call has more time than the first one.
        let progress =
            state.position.progress.max(limit.share(&pace)).max(number as f64 / last_step as f64);
        let lr = learning_rate(train, state.position.updates + 1, progress);
        let batch = batches.next()?;
        let view = config.model.unet.view_conditioning.then_some(batch.geometry);
        let pair = Pair::new(config.model.sides, batch.source, batch.target, view, &autodiff);
        let outcome;
        let stop = options.interrupt.load(Ordering::Relaxed);
        (state, outcome, interrupted) = match &mut exchange {
            None => {
                let (state, outcome) = step(state, pair, &schedule, config, number, lr);
                (state, outcome, stop)
            }
            Some(exchange) => {
                exchange.order(Order::Step { number, lr })?;
                exchange.step(state, pair, &schedule, config, number, lr, stop)?
            }
        };
        log.add(outcome, lr);

        if let Some(news) = pace.stepped(|pace| limit.to_go(number, pace))? {
            log.say(&news);
        }
        interrupted |= options.interrupt.load(Ordering::Relaxed);
        let due = Due::after(number, train, interrupted, |work| limit.is_over(&pace, work));
        if due.cut {
            log.say(&limit.ends(number));
        }
        if due.save {
            watch.doing(Doing::Saving(number));
        }
        let images = state.position.images;
        let row = due.row.then(|| log.row(number, images, &mut state.tally)).transpose()?;
        log.stepping += clock.elapsed();
        state.position.seconds = already + log.stepping.as_secs_f64();
        if let Some(row) = row {
            state.position.loss_first.get_or_insert(row.loss);
            let written = log.write(Row { seconds: state.position.seconds, ..row }, || {
                limit.time_left(number, &pace)
            });
            keeper.noted(written, &log)?;
        }
        log.show(number, pace.images_per_s(), || limit.time_left(number, &pace))?;
        (state.position.finished, state.position.planned) = (due.last, last_step);
        state.position.progress = progress;
        let pause = Instant::now();
        let mut elsewhere = Tensors::new();
        if let Some(exchange) = exchange.as_mut().filter(|_| due.save || due.draw || due.score) {
            exchange.order(Order::Collect)?;
            elsewhere = exchange.collect(&mut state)?;
        }
        if due.save {
            keeper.ready(&log)?;
            let snapshot = Snapshot::of(&state, config)?.with_moments(elsewhere);
            // Before it takes the place of a good one: whether it is what the device should have
            // computed.
            state.tally.check()?;
            if !snapshot.is_finite() {
                return Err(log.broken(number, lr, "the weights after it are not finite"));
            }
            let copied = pause.elapsed();
            keeper.save(snapshot, &log)?;
            let [copied, all] = [copied, pause.elapsed()].map(|time| 1e3 * time.as_secs_f64());
            ::log::info!(
                "checkpoint of step {number}: training waited {copied:.0} ms for its copy, {all:.0} ms in all"
            );
            keeper.noted(log.plot(), &log)?;
        }
        if due.draw {
            watch.doing(Doing::Work("the picture", number));
            let whole = Picture::closing(config, data);
            let picture =
                if due.last { limit.picture(&pace) } else { Picture::between(config, data) };
            if due.last
                && let Some(lacks) = picture.lacks(whole, &limit.about(Work::Picture, &pace), run)
            {
                log.say(&lacks);
            }
            let clock = Instant::now();
            let drawn = draw_reconstructions(&state, config, data, device, run, picture)?;
            keeper.noted(
                drawn
                    .written
                    .and_then(|()| if picture.drawn > 0 { log.drawn(number) } else { Ok(()) }),
                &log,
            )?;
            // One that was fitted to fewer images isn't kept: the next picture has time.
            linear = drawn.linear.filter(|_| due.last && picture == whole);
            limit.drew(picture, clock.elapsed());
        }
        if due.score && due.last && !limit.scores_fit(&pace) {
            log.say(&not_scored(&limit.about(Work::Scores, &pace), run));
        } else if due.score {
            watch.doing(Doing::Work("the scores", number));
            let clock = Instant::now();
            score(&state, &mut log, &mut keeper)?;
            limit.scored(clock.elapsed());
        }
        if due.draw || due.score {
            state.tally.check()?;
            log.pools.other_work();
        }
        // Pictures, checkpoints and scores don't count as training.
        log.pause(pause);
        pace.pause(pause);
        limit.saved(keeper.saver.took);
        // What is saved needs no other step.
        interrupted |= due.save && options.interrupt.load(Ordering::Relaxed);
    }
    watch.doing(Doing::Closing);
    log.finish();
    keeper.end()?;
    if let Some(linear) = linear {
        store(&linear, &run.weights()?);
    }
    if let Some(exchange) = &exchange {
        exchange.order(Order::End)?;
    }
    drop((watch, lock));
    Ok(Summary {
        steps: state.position.step,
        images_per_s: state.position.own_images() as f64 / state.position.seconds,
        loss_first: state.position.loss_first.unwrap_or(f64::NAN),
        loss_last: log.metrics.rows.last().map_or(f64::NAN, |r| r.loss),
        interrupted: !state.position.finished,
        trained: state.position.step - before,
        best: log.metrics.best(&run.checkpoints()).map(|e| e.step),
    })
}

/// Says what is to be done, and what it takes; gives how fast it goes and when it ends. `own` is
/// the recipe as this process sees it.
#[allow(clippy::too_many_arguments, reason = "all that a call of training is made of")]
fn begin<'a>(
    config: &Config,
    own: &Config,
    data: &Dataset,
    device: &'a Selected,
    options: &Options,
    state: &State,
    began: Instant,
    log: &Log,
) -> Result<(Pace<'a>, Limit)> {
    let (batch, last_step) = (config.train.batch_size, config.train.steps as u64);
    let plan = Plan::new(own, data, device);
    let limit = Limit::new(options.limit, began, config, data, &plan);
    if state.position.finished {
        return Ok((Pace::new(device, batch, None), limit));
    }
    if let Some(means) = mixed(config, device) {
        log.say(means);
    }
    let memory = plan.memory().map_or(String::new(), |memory| format!("memory {memory}; "));
    log.say(&format!("parameters {}; {memory}disk {}", plan.parameters(), plan.disk()));
    // Where one step could already be too long it is tried with few images; a GPU compiles longer
    // than it then computes.
    let guess = if options.limit.is_some() && !device.gpu {
        Some(trial::rate(own, device)?.step)
    } else {
        None
    };
    let pace = Pace::new(device, batch, guess);
    let first = state.position.step + 1;
    let compiles = if device.adapter.is_some() { "compiling shaders and " } else { "" };
    if let Some(short) = limit.too_short(&pace) {
        log.say(&short);
    } else if guess.is_some() {
        log.say(&format!("{} (from a step of few images)", limit.to_go(first - 1, &pace)));
    }
    log.say(&format!(
        "{compiles}taking step {} of {}, {batch} images each",
        grouped(first),
        grouped(last_step)
    ));
    Ok((pace, limit))
}

/// What mixed precision is on `device`; none where the recipe says f32.
fn mixed(config: &Config, device: &Selected) -> Option<&'static str> {
    match (config.train.precision, &device.adapter) {
        (Precision::F32, _) => None,
        (Precision::Mixed, None) => Some(
            "mixed precision: the CPU rounds as f16 does and computes in f32; it is no faster, and shows what mixed precision comes to",
        ),
        (Precision::Mixed, Some(adapter)) if adapter.profile.extensions.f16 => Some(
            "mixed precision: feature maps are f16, products take f16 factors and add up in f32",
        ),
        (Precision::Mixed, Some(_)) => Some(
            "mixed precision: the adapter has no shader-f16, so feature maps stay f32 and products round their factors to f16",
        ),
    }
}

/// Why the last step has no scores.
fn not_scored(time: &str, run: &RunDir) -> String {
    let run = quoted(&run.path);
    format!(
        "the last step isn't scored: that would take {time}; `soda probe --split selection --run {run}` does it"
    )
}

/// A fresh state, or that of the newest checkpoint; and whether the recipe is another than the
/// run's so far. `now` is this call.
fn start(
    config: &Config,
    data: &Dataset,
    device: &Selected,
    run: &RunDir,
    now: &Start,
    options: &Options,
) -> Result<(State, bool)> {
    let mut changed = false;
    let mut saved = None;
    if run.exists() {
        if !options.resume {
            return Err(already_there(run));
        }
        changed = compare_recipes(config, run, options)?;
        run.tidy();
        saved = checkpoint::load(run, config, &device.device, &mut |line| warn(line))?;
    } else if let Some(step) = run.found_checkpoints()?.last() {
        return Err(without_recipe(run, *step));
    }
    if let Some(mut state) = saved {
        if state.position.data_sha256 != data.sha256 {
            return Err(Error::usage(format!(
                "{} began on other data (checksum {:.16}..) than {} (checksum {:.16}..), or it has changed since; name the same data with --data",
                run.path.display(),
                state.position.data_sha256,
                data.describe(),
                data.sha256
            )));
        }
        let place = now.place();
        if let Some(before) =
            run.read_starts().last().map(|start| start.place()).filter(|before| *before != place)
        {
            let path = run.path.display();
            say(&format!(
                "so far {path} ran on {before}; on {place} the last digits of its numbers will be others"
            ));
        }
        state.position.replan(config.train.steps as u64, changed);
        return Ok((state, changed));
    }
    let from = options.from.as_ref().map(|weights| &weights.sha256);
    if run.exists() && run.read_starts().first().is_some_and(|start| start.from.as_ref() != from) {
        return Err(Error::usage(format!(
            "{} holds no checkpoint yet and began from other weights than these; name with --from what it began from, as its starts.jsonl says",
            run.path.display()
        )));
    }
    // A run without a checkpoint yet begins as it did.
    let continues = options.continues
        || (run.exists() && run.read_starts().first().is_some_and(|start| start.step > 0));
    let state = match &options.from {
        Some(weights) if continues => {
            State::continued(config, weights, &data.sha256, &device.device)?
        }
        Some(weights) => State::trained(config, weights, &data.sha256, &device.device)?,
        None => State::new(config, &data.sha256, &device.device),
    };
    Ok((state, changed))
}

/// Refuses a recipe that isn't the run's own, unless `allow_change` is set. Gives whether it is
/// another.
fn compare_recipes(config: &Config, run: &RunDir, options: &Options) -> Result<bool> {
    let own = run.read_config()?;
    let differences = differences(&own, config);
    if differences.is_empty() {
        return Ok(false);
    }
    let (path, differences) = (run.path.display(), differences.join(", "));
    if let Some(what) = checkpoint::other_networks(&own, config) {
        return Err(Error::usage(format!(
            "{path} has its own recipe, and {what} belong to its weights ({differences}); start another --run for others"
        )));
    }
    if !options.allow_change {
        return Err(Error::usage(format!(
            "{path} continues with its own recipe, and this one differs in {differences}; add --allow-change to go on with it, or choose another --run"
        )));
    }
    say(&format!("{path} goes on with another recipe: {differences}"));
    Ok(true)
}

fn without_recipe(run: &RunDir, step: u64) -> Error {
    Error::usage(format!(
        "{} holds checkpoints but no config.toml, without which they can't be gone on with; put it back, or start another --run with --from {}",
        run.path.display(),
        quoted(run.checkpoint(step).join("ema.safetensors"))
    ))
}

fn already_there(run: &RunDir) -> Error {
    let path = run.path.display();
    Error::usage(format!(
        "{path} already holds a run; add --resume to continue it, or name another directory with --run"
    ))
}

/// This call of training, for who reads the run later; what it begins with isn't known yet.
fn described(data: &Dataset, device: &Selected, called: &Called) -> Start {
    Start {
        time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        step: 0,
        from: None,
        from_name: None,
        from_images: None,
        command: called.command.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        commit: machine::commit(),
        device: device.backend.into(),
        adapter: device.name.clone(),
        driver: device.adapter.as_ref().map(|adapter| adapter.driver.clone()),
        machine: machine::describe(),
        data: data.name.to_string(),
        data_location: Some(data.location()),
        data_options: data.options,
        data_sha256: data.sha256.clone(),
        images: data.train.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_to_start_from_are_named_as_one_word() {
        let message = without_recipe(&RunDir::new("it's a run"), 4).to_string();
        let (_, from) = message.split_once("start another --run with --from ").expect("a remedy");
        assert_eq!(
            shlex::split(from),
            Some(vec!["it's a run/checkpoints/step_4/ema.safetensors".to_owned()])
        );
    }
}
