//! The work around the steps: learning rate and progress before each step, and the log rows,
//! checkpoints, pictures and scores that are due after it.

use super::announce::announce;
use super::due::{Due, Work};
use super::limit::Limit;
use super::log::Log;
use super::options::{Options, Summary};
use super::pace::Pace;
use super::pictures::{Picture, draw_reconstructions, store};
use super::saving::Saving;
use super::watch::{Doing, Watch};
use crate::config::Config;
use crate::data::Dataset;
use crate::device::Selected;
use crate::edit::linear_decoder::LinearDecoder;
use crate::error::{Hint, Result};
use crate::eval::validation::{is_scored, validate};
use crate::model::weights::Tensors;
use crate::progress::say;
use crate::run_dir::{Lock, Row, RunDir};
use crate::selftest;
use crate::train::checkpoint::{Position, Snapshot, State};
use crate::train::exchange::{Exchange, Order};
use crate::train::optim::learning_rate;
use crate::train::step::Outcome;
use crate::units::grouped;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The inputs of a call of training.
pub(super) struct Around<'a, 'b> {
    pub config: &'a Config,
    /// The recipe with this process's part of the batch, if several processes train.
    pub own: &'b Config,
    pub data: &'a Dataset,
    pub device: &'a Selected,
    pub run: &'a RunDir,
    pub options: &'a Options,
}

/// The step that is being taken.
struct Current {
    number: u64,
    lr: f64,
    /// The completed fraction of the run.
    progress: f64,
    began: Instant,
}

/// Everything in a call of training except networks, batches and steps.
pub(super) struct Bookkeeping<'a> {
    config: &'a Config,
    data: &'a Dataset,
    device: &'a Selected,
    run: &'a RunDir,
    options: &'a Options,
    log: Log,
    saving: Saving<'a>,
    pace: Pace<'a>,
    limit: Limit,
    current: Current,
    /// Whether the run is scored; see [`is_scored`].
    is_scored: bool,
    /// Whether this call ends after the current step.
    pub interrupted: bool,
    /// Whether the caller ended the run, see [`Options::on_row`].
    ended: bool,
    /// The position at the beginning of this call.
    before: Position,
    /// The linear decoder from which the closing picture started.
    linear: Option<LinearDecoder>,
    watch: Watch,
    lock: Option<Lock>,
}

impl<'a> Bookkeeping<'a> {
    /// Opens the books of a call that `began` then: takes the scores that the last call missed
    /// because it was killed, and says what will be trained.
    ///
    /// # Errors
    /// If the device fails, or scores can't be written.
    pub fn open(
        around: &Around<'a, '_>,
        state: &State,
        (watch, lock): (Watch, Option<Lock>),
        mut log: Log,
        began: Instant,
    ) -> Result<Self> {
        let &Around { config, own, data, device, run, options } = around;
        let (before, train) = (state.position.step, &config.train);
        let mut saving = Saving::new(run, train);
        // The last call may have been killed between a checkpoint and its scores. The step that a
        // run continues from isn't its own.
        let is_scored = is_scored(train, data);
        let due =
            state.position.finished || before.is_multiple_of(train.evaluate_every.max(1) as u64);
        let there = log.metrics.evaluations.iter().any(|e| e.step == before);
        if is_scored && state.position.updates > 0 && due && !there {
            say(&format!("step {} has no scores yet; scoring it now", grouped(before)));
            let pause = Instant::now();
            selftest::once(device)?;
            score(state, config, data, device, &mut log, &mut saving)?;
            log.pause(pause);
        }
        let clock = Instant::now();
        let (pace, limit) = announce(config, own, data, device, options, state, began)?;
        log.pause(clock);
        Ok(Self {
            config,
            data,
            device,
            run,
            options,
            log,
            saving,
            pace,
            limit,
            is_scored,
            current: Current { number: before, lr: 0.0, progress: 0.0, began: clock },
            interrupted: false,
            ended: false,
            before: state.position.clone(),
            linear: None,
            watch,
            lock,
        })
    }

    /// Checks whether training ends here.
    pub fn is_over(&self, state: &State) -> bool {
        state.position.finished || self.interrupted
    }

    /// Begins the next step. Returns its number, from 1, and its learning rate.
    pub fn begin_step(&mut self, state: &State) -> (u64, f64) {
        let began = Instant::now();
        let (train, number) = (&self.config.train, state.position.step + 1);
        self.watch.doing(match self.pace.taken {
            0 => Doing::FirstStep(number),
            _ => Doing::Step(number, self.pace.seconds()),
        });
        let share = self.limit.share(&self.pace);
        let progress = self.before.progress_at(number, train.steps as u64, share);
        let lr = learning_rate(train, state.position.updates + 1, progress);
        self.current = Current { number, lr, progress, began };
        (number, lr)
    }

    /// Notes the outcome of the step, and does the work that is due after it. With several
    /// processes, the moments of the optimizer are collected from the `ranks` before they are
    /// saved.
    ///
    /// # Errors
    /// If the device fails, a loss or weight isn't finite, or something can't be written.
    pub fn end_step(
        &mut self,
        state: &mut State,
        outcome: Outcome,
        ranks: &mut Option<Exchange>,
    ) -> Result<()> {
        let Current { number, lr, progress, began } = self.current;
        self.log.add(outcome, lr);
        let (limit, pace) = (&self.limit, &mut self.pace);
        if let Some(news) = pace.stepped(|pace| limit.to_go(number, pace))? {
            say(&news);
        }
        self.interrupted |= self.options.interrupt.load(Ordering::Relaxed);
        let is_over = |work: &[Work]| self.ended || self.limit.is_over(&self.pace, work);
        let due = Due::after(number, &self.config.train, self.is_scored, self.interrupted, is_over);
        if due.cut && !self.ended {
            say(&self.limit.ends(number));
        }
        self.row(state, &due, began)?;
        (state.position.finished, state.position.planned) =
            (due.last, self.config.train.steps as u64);
        state.position.progress = progress;

        let pause = Instant::now();
        let mut moments = Tensors::new();
        if let Some(ranks) = ranks.as_mut().filter(|_| due.save || due.draw || due.score) {
            ranks.order(Order::Collect)?;
            moments = ranks.collect(state)?;
        }
        if due.save {
            self.save(state, moments, pause)?;
        }
        if due.draw {
            self.draw(state, &due)?;
        }
        if due.score {
            self.score(state, &due)?;
        }
        if due.draw || due.score {
            state.tally.check()?;
            self.log.pools.other_work();
        }
        // Pictures, checkpoints and scores don't count as training time.
        self.log.pause(pause);
        self.pace.pause(pause);
        self.limit.saved(self.saving.saver.took);
        // After a checkpoint, an interrupt that came meanwhile needs no further step.
        self.interrupted |= due.save && self.options.interrupt.load(Ordering::Relaxed);
        Ok(())
    }

    /// Writes a row of metrics.jsonl if one is due, and updates the progress bar.
    fn row(&mut self, state: &mut State, due: &Due, began: Instant) -> Result<()> {
        let Self { log, limit, pace, saving, .. } = self;
        let number = self.current.number;
        if due.save {
            self.watch.doing(Doing::Saving(number));
        }
        let images = state.position.images;
        let row = due.row.then(|| log.row(number, images, &mut state.tally)).transpose()?;
        log.stepping += began.elapsed();
        state.position.seconds = self.before.seconds + log.stepping.as_secs_f64();
        if let Some(row) = row {
            state.position.loss_first.get_or_insert(row.loss);
            let row = Row { seconds: state.position.seconds, ..row };
            self.ended |=
                self.options.on_row.as_ref().is_some_and(|on_row| on_row(&row).is_break());
            let written = log.write(row, || limit.time_left(number, pace));
            saving.check(written)?;
        }
        log.show(number, pace.images_per_s(), || limit.time_left(number, pace))
    }

    /// Saves a checkpoint and the loss curve.
    fn save(&mut self, state: &mut State, moments: Tensors, pause: Instant) -> Result<()> {
        let Self { log, saving, .. } = self;
        let Current { number, lr, .. } = self.current;
        saving.ready()?;
        let snapshot = Snapshot::of(state, self.config)?.with_moments(moments);
        // Before the snapshot replaces a good checkpoint: has the device really computed it?
        state.tally.check()?;
        if !snapshot.is_finite() {
            return Err(log.broken(number, lr, "the updated weights are not finite"));
        }
        let copied = pause.elapsed();
        saving.save(snapshot, log)?;
        let [copied, all] = [copied, pause.elapsed()].map(|time| 1e3 * time.as_secs_f64());
        ::log::info!(
            "checkpoint of step {number}: training waited {copied:.0} ms for its copy, {all:.0} \
            ms in all"
        );
        saving.check(log.plot())
    }

    /// Draws reconstructions of test images.
    fn draw(&mut self, state: &State, due: &Due) -> Result<()> {
        let Self { config, data, device, run, log, limit, pace, .. } = self;
        let number = self.current.number;
        self.watch.doing(Doing::Work("the picture", number));
        let whole = Picture::closing(config, data);
        let picture = if due.last { limit.picture(pace) } else { Picture::between(config, data) };
        if due.last
            && let Some(lacks) = picture.lacks(whole, &limit.about(Work::Picture, pace), run)
        {
            say(&lacks);
        }
        let clock = Instant::now();
        let drawn = draw_reconstructions(state, config, data, device, run, picture)?;
        let noted = |()| if picture.drawn > 0 { log.drawn(number) } else { Ok(()) };
        let written = drawn.written.and_then(noted);
        self.saving.check(written)?;
        // A linear decoder fitted to fewer images isn't kept: there may be more time for the next
        // picture.
        self.linear = drawn.linear.filter(|_| due.last && picture == whole);
        limit.drew(picture, clock.elapsed());
        Ok(())
    }

    /// Scores the EMA on held-out training images, unless time doesn't allow it.
    fn score(&mut self, state: &State, due: &Due) -> Result<()> {
        let Self { config, data, device, log, saving, limit, .. } = self;
        if due.last && !limit.scores_fit(&self.pace) {
            say(&not_scored(&limit.about(Work::Scores, &self.pace), self.run));
            return Ok(());
        }
        self.watch.doing(Doing::Work("the scores", self.current.number));
        let clock = Instant::now();
        score(state, config, data, device, log, saving)?;
        limit.scored(clock.elapsed());
        Ok(())
    }

    /// Waits for the last checkpoint, and returns the result of the run.
    ///
    /// # Errors
    /// If that checkpoint can't be written.
    pub fn end(mut self, state: &State, ranks: Option<&Exchange>) -> Result<Summary> {
        self.watch.doing(Doing::Closing);
        self.saving.end()?;
        if let Some(linear) = self.linear {
            store(&linear, &self.run.weights()?);
        }
        if let Some(ranks) = ranks {
            ranks.order(Order::End)?;
        }
        drop((self.watch, self.lock));
        let (position, metrics) = (&state.position, &self.log.metrics);
        Ok(Summary {
            steps: position.step,
            images_per_s: position.own_images() as f64 / position.seconds,
            loss_first: position.loss_first.unwrap_or(f64::NAN),
            loss_last: metrics.rows.last().map_or(f64::NAN, |r| r.loss),
            interrupted: !position.finished,
            trained: position.step - self.before.step,
            best: metrics.best(&self.run.checkpoints()).map(|e| e.step),
        })
    }
}

/// Scores the EMA on held-out training images, and notes the scores.
fn score(
    state: &State,
    config: &Config,
    data: &Dataset,
    device: &Selected,
    log: &mut Log,
    saving: &mut Saving,
) -> Result<()> {
    let images = config.train.evaluate_images;
    let scores = validate(&state.ema.model(), config, data, images, &device.device)?;
    let written = log.evaluated(state.position.step, state.position.images, scores);
    saving.check(written)
}

/// Says why the last step has no scores.
fn not_scored(time: &str, run: &RunDir) -> String {
    let score = Hint::Score(run.path.clone());
    format!("the last step isn't scored, because that would take {time}; {score} scores it")
}
