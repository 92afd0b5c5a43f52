//! The training loop.
//!
//! Each step takes a batch of view pairs (x_source, x_0), encodes x_source to z, noises x_0 to x_t,
//! lets the denoiser predict the noise eps (or v) from x_t, t and z, and updates both networks and
//! their EMA. The step itself is in [`step`](super::step); the learning rate, the log, checkpoints,
//! pictures and scores are in `bookkeeping`.

mod announce;
mod bookkeeping;
mod due;
mod limit;
mod log;
mod options;
mod pace;
mod pictures;
mod pools;
mod saving;
mod start;
mod watch;

pub use self::options::{Called, OnRow, Options, Summary};

use self::bookkeeping::Bookkeeping;
use self::log::Log;
use self::start::{already_there, described, start};
use self::watch::Watch;
use super::checkpoint::{self, State};
use super::exchange::{Exchange, Order, lead};
use super::limits;
use super::step::{Pair, step};
use crate::config::Config;
use crate::data::Dataset;
use crate::data::loader::Loader;
use crate::device::Selected;
use crate::diffusion::Schedule;
use crate::error::Result;
use crate::progress::Progress;
use crate::run_dir::{RunDir, Start};
use crate::selftest;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Trains the networks of `config` on the training images of `data` until the last step, the time
/// limit or an interrupt. Each of the three leaves a checkpoint.
///
/// # Errors
/// If `config` has an impossible value ([`Config::checked`]), `run` already holds a run and `resume` isn't set, another process trains it, its directory
/// can't be written, its recipe or data differs, `device` fails the self test or can't hold tensors
/// of the recipe's size, or the loss is no longer finite. In the last case earlier checkpoints
/// stay.
pub fn train(
    config: &Config,
    data: &Dataset,
    device: &Selected,
    run: &RunDir,
    options: &Options,
) -> Result<Summary> {
    let config = &config.clone().checked()?;
    let (mut state, mut batches, mut ranks, mut books) = begin(config, data, device, run, options)?;
    let schedule = Schedule::new(&config.diffusion);
    let device = device.device.clone().autodiff();

    while !books.is_over(&state) {
        let (number, lr) = books.begin_step(&state);
        let batch = batches.next()?;
        let pair = Pair::of_batch(batch, config, &device);
        let outcome;
        // z = encoder(x_source); noise x_0 to x_t; predict eps (or v) from x_t, t and z; update.
        (state, outcome) = match &mut ranks {
            None => step(state, pair, &schedule, config, number, lr),
            Some(ranks) => {
                ranks.order(Order::Step { number, lr })?;
                let stop = options.interrupt.load(Ordering::Relaxed);
                let (state, outcome, stop) =
                    ranks.step(state, pair, &schedule, config, number, lr, stop)?;
                books.interrupted |= stop;
                (state, outcome)
            }
        };
        // Whatever is due: a row of the log, a checkpoint, a picture, scores.
        books.end_step(&mut state, outcome, &mut ranks)?;
    }
    books.end(&state, ranks.as_ref())
}

/// Prepares everything that training needs before its first step. Nothing is written until all
/// checks have passed.
fn begin<'a>(
    config: &'a Config,
    data: &'a Dataset,
    device: &'a Selected,
    run: &'a RunDir,
    options: &'a Options,
) -> Result<(State, Loader, Option<Exchange>, Bookkeeping<'a>)> {
    let began = Instant::now();
    let progress = Progress::of_training(config.train.steps);
    let watch = Watch::new(&options.interrupt, options.limit.filter(|_| device.gpu));
    let mut lock = if run.exists() { Some(run.lock()?) } else { None };
    let now = described(data, device, &options.called);
    let (state, changed) = start(config, data, device, run, &now, options)?;
    let batch = config.train.batch_size;
    let own = match &options.among {
        Some(among) => &config.for_images(among.sizes(batch)?[0]),
        None => config,
    };
    if !state.position.finished {
        limits::check(own, device)?;
        selftest::once(device)?;
    }
    let ranks = options.among.as_ref().map(|among| lead(among, config, data, device, &state));
    let ranks = ranks.transpose()?;
    let (rows, step) = ((batch, 0..own.train.batch_size), state.position.step);
    let batches =
        Loader::of_rows(data.train.clone(), config.data.clone(), rows, config.seed, step)?;
    // Not earlier, so that an error above leaves nothing behind.
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
        // The position of a run that continues the training behind its weights counts the images of
        // that training already.
        let counted = state.position.continued.map_or(0, |continued| continued.images);
        run.add_start(&Start {
            step: state.position.step,
            from: from.map(|weights| weights.sha256.clone()),
            from_name: options.called.from.clone().filter(|_| from.is_some()),
            from_images: from
                .and_then(|weights| checkpoint::images_behind(weights)?.checked_sub(counted)),
            ..now
        })?;
        // The recipe comes last: it is what makes a directory a run.
        if new || changed {
            run.create(config)?;
        }
    }
    let log = Log::open(run, config, &state, &device.device, progress)?;
    let around = bookkeeping::Around { config, own, data, device, run, options };
    let books = Bookkeeping::open(&around, &state, (watch, lock), log, began)?;
    Ok((state, batches, ranks, books))
}
