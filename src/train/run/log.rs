//! The log of a run: metrics.jsonl, the progress bar and the loss curve.

use super::pools::Pools;
use crate::config::{Config, Precision};
use crate::error::{Error, Hint, Result};
use crate::eval::validation::Validation;
use crate::files::{self, write_atomically};
use crate::progress::{Progress, say, warn};
use crate::report::plot;
use crate::report::tensorboard::{Events, Shown};
use crate::run_dir::{Evaluation, Failure, Metrics, Row, RunDir, json_line};
use crate::train::checkpoint::State;
use crate::train::step::Outcome;
use crate::train::tally::Tally;
use crate::units::rate;
use burn::tensor::{Device, Tensor};
use serde::Serialize;
use std::io::Write;
use std::time::{Duration, Instant};

/// The longest time without a progress line once a step is done.
const SILENCE: Duration = Duration::from_secs(9);
/// The number of consecutive skipped steps at which training stops.
const MOST_LEFT_OUT: u64 = 10;

/// The log of a run: all rows so far, and the steps since the last row.
pub(super) struct Log {
    run: RunDir,
    pub metrics: Metrics,
    progress: Progress,
    /// The last progress line.
    told: String,
    events: Option<Events>,
    batch: u64,
    seed: u64,
    /// The description of the loss.
    loss: String,
    /// The steps since the last row, each with its learning rate. Their results are still on the
    /// device.
    steps: Vec<(Outcome, f64)>,
    /// The device whose memory pools are watched.
    device: Device,
    pub pools: Pools,
    /// Whether steps may be skipped.
    mixed: bool,
    /// The number of consecutive skipped steps.
    left_out: u64,
    since: Instant,
    printed: Instant,
    /// The time that this call has spent in steps.
    pub stepping: Duration,
}

impl Log {
    /// Opens the log of a new run, or continues that of a resumed one, dropping the rows beyond its
    /// checkpoint.
    pub fn open(
        run: &RunDir,
        config: &Config,
        state: &State,
        device: &Device,
        progress: Progress,
    ) -> Result<Self> {
        // The step that broke the last call is taken again.
        let _ = files::remove_file(&run.failure());
        let mut metrics = run.read_metrics()?;
        metrics.truncate(state.position.step);
        match run.read_best() {
            Some(best) if best.step <= state.position.step => {
                metrics.evaluations.retain(|e| e.step != best.step);
                metrics.evaluations.push(best);
                metrics.evaluations.sort_by_key(|e| e.step);
            }
            // It belongs to a later checkpoint than this one, or to another run.
            _ => drop(files::remove_file(&run.best())),
        }
        write_atomically(&run.metrics(), metrics.to_jsonl().as_bytes())?;
        let events = config
            .train
            .tensorboard
            .then(|| Events::create(&run.path, state.position.step + 1))
            .transpose()?;
        if let Some(events) = &events {
            // Four spaces before a line make it verbatim text in Markdown.
            let recipe: String =
                config.to_toml().lines().map(|line| format!("    {line}\n")).collect();
            events.add(state.position.step + 1, &[("recipe", Shown::Text(&recipe))])?;
        }
        progress.at(state.position.step);
        let now = Instant::now();
        Ok(Self {
            run: run.clone(),
            metrics,
            progress,
            told: String::new(),
            events,
            batch: config.train.batch_size as u64,
            loss: config.loss_in_words(),
            seed: config.seed,
            steps: Vec::new(),
            device: device.clone(),
            pools: Pools::new(state.position.step),
            mixed: config.train.precision == Precision::Mixed,
            left_out: 0,
            since: now,
            printed: now,
            stepping: Duration::ZERO,
        })
    }

    /// Notes the outcome of a step, taken at the learning rate `lr`.
    pub fn add(&mut self, outcome: Outcome, lr: f64) {
        self.steps.push((outcome, lr));
    }

    /// Shows that `step` is done. If no line was printed for a while, prints one with its loss,
    /// `images_per_s` and the time `left`: rows can be far apart, and metrics.jsonl holds only
    /// those that the recipe asks for.
    ///
    /// # Errors
    /// If the device fails.
    pub fn show(&mut self, step: u64, images_per_s: f64, left: impl Fn() -> String) -> Result<()> {
        self.progress.at(step);
        if self.told.is_empty() {
            self.told = format!("{} images/s, {}", rate(images_per_s), left());
            self.progress.note(&self.told, false);
        }
        // No line can be printed during the next step either.
        let next = Duration::from_secs_f64(
            (self.batch as f64 / images_per_s.max(1e-9)).min(SILENCE.as_secs_f64()),
        );
        if self.printed.elapsed() + next < SILENCE || self.steps.is_empty() {
            return Ok(());
        }
        let losses =
            Tensor::cat(self.steps.iter().map(|(outcome, _)| outcome.loss.clone()).collect(), 0);
        let loss = losses
            .mean()
            .try_into_scalar::<f32>()
            .map_err(|e| Error::device(&format!("computing step {step}"), &e))?;
        self.tell(f64::from(loss), images_per_s, &left(), true);
        Ok(())
    }

    fn tell(&mut self, loss: f64, images_per_s: f64, left: &str, due: bool) {
        self.told = format!("loss {loss:.4}, {} images/s, {left}", rate(images_per_s));
        self.progress.note(&self.told, due);
        if due {
            self.printed = Instant::now();
        }
    }

    /// Reads the results of the steps since the last row, up to `step`, from the device.
    ///
    /// # Errors
    /// If they aren't finite (in mixed precision: a loss, or the gradients of ten consecutive
    /// steps), the device fails, or `tally` finds that it has left out work.
    pub fn row(&mut self, step: u64, images: u64, tally: &mut Tally) -> Result<Row> {
        let (outcomes, rates): (Vec<Outcome>, Vec<f64>) =
            std::mem::take(&mut self.steps).into_iter().unzip();
        let steps = rates.len() as u64;
        let scale = outcomes.last().and_then(|outcome| outcome.loss_scale.clone());
        let of_steps = outcomes.into_iter().flat_map(|o| [o.loss, o.grad_norm]);
        let numbers = Tensor::cat(of_steps.chain(scale).collect(), 0).try_to_vec_as::<f32>();
        let numbers =
            numbers.map_err(|e| Error::device(&format!("computing the steps up to {step}"), &e))?;
        tally.check()?;
        let (numbers, scale) = numbers.split_at(2 * rates.len());
        let (losses, norms): (Vec<f32>, Vec<f32>) =
            numbers.as_chunks().0.iter().map(|[loss, norm]| (*loss, *norm)).unzip();
        let first = step - steps + 1;
        for (number, ((loss, norm), lr)) in (first..).zip(losses.iter().zip(&norms).zip(&rates)) {
            if !loss.is_finite() {
                return Err(self.broken(number, *lr, &format!("the loss is {loss}")));
            }
            self.left_out = if norm.is_finite() { 0 } else { self.left_out + 1 };
            if self.mixed && self.left_out == MOST_LEFT_OUT {
                let what = format!(
                    "{MOST_LEFT_OUT} steps in a row had gradients that aren't finite and were \
                    skipped"
                );
                return Err(self.broken(number, *lr, &what));
            }
            if !norm.is_finite() && !self.mixed {
                return Err(self.broken(number, *lr, &format!("the gradients' norm is {norm}")));
            }
        }
        // A skipped step has no norm.
        let grad_norm =
            norms.iter().rev().find(|norm| norm.is_finite()).map(|norm| f64::from(*norm));
        let grad_norm =
            grad_norm.or(self.metrics.rows.last().map(|row| row.grad_norm)).unwrap_or(0.0);
        let (loss_scale, left_out) = match *scale {
            [scale, _, left_out, _] => (Some(f64::from(scale)), Some(left_out as u64)),
            _ => (None, None),
        };
        let lr = rates[rates.len() - 1];
        let loss = losses.iter().map(|l| f64::from(*l)).sum::<f64>() / steps as f64;
        let images_per_s = (steps * self.batch) as f64 / self.since.elapsed().as_secs_f64();
        let pools = self.device.memory_pool_usage();
        if let Some(grown) = pools.and_then(|pools| self.pools.seen(step, pools.bytes_reserved)) {
            warn(&grown);
        }
        let [pool_bytes, pool_bytes_used] =
            [pools.map(|pools| pools.bytes_reserved), pools.map(|pools| pools.bytes_in_use)];
        let seconds = 0.0;
        Ok(Row {
            step,
            images,
            loss,
            grad_norm,
            lr,
            images_per_s,
            seconds,
            loss_scale,
            left_out,
            pool_bytes,
            pool_bytes_used,
        })
    }

    /// Records which step broke, so that it can be replayed, and returns the error.
    pub fn broken(&self, step: u64, lr: f64, what: &str) -> Error {
        let failure = Failure { step, lr, what: what.to_owned() };
        // The run stops whether or not this can be written.
        let _ = write_atomically(&self.run.failure(), json_line(&failure).as_bytes());
        let replay = Hint::Replay(self.run.path.clone());
        let saved = match self.run.checkpoints().is_empty() {
            true => "there is no checkpoint yet",
            false => "the last checkpoint is intact",
        };
        Error::failed(format!(
            "{what} at step {step} (lr {lr:.2e}, seed {}; step and seed determine the batch); \
            {saved}: {replay} to find the cause; a smaller train.lr or more train.warmup_steps may \
            avoid it ({})",
            self.seed,
            Hint::ChangedRecipe
        ))
    }

    /// Appends a line. The file is opened each time, because it may have been moved away.
    fn append(&self, row: &impl Serialize) -> Result<()> {
        let path = self.run.metrics();
        let failed = |e: &std::io::Error| Error::io("write", &path, e);
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|e| failed(&e))?;
        let before = file.metadata().map_err(|e| failed(&e))?.len();
        file.write_all(json_line(row).as_bytes()).map_err(|e| {
            // A partial line would be joined to the next one.
            let _ = file.set_len(before);
            failed(&e)
        })
    }

    /// Adds values of `step` to TensorBoard's event file, if the recipe asks for one.
    fn scalars(&self, step: u64, values: &[(&str, Option<f64>)]) -> Result<()> {
        let Some(events) = &self.events else { return Ok(()) };
        let known = values.iter().filter_map(|(tag, value)| Some((*tag, Shown::Scalar((*value)?))));
        events.add(step, &known.collect::<Vec<_>>())
    }

    /// Adds the picture of `step`, which has been drawn, to TensorBoard's event file, if the recipe
    /// asks for one.
    pub fn drawn(&self, step: u64) -> Result<()> {
        let Some(events) = &self.events else { return Ok(()) };
        let path = self.run.sample(step);
        let png = files::read(&path).map_err(|e| Error::io("read", &path, &e))?;
        let size = image::ImageReader::new(std::io::Cursor::new(&png))
            .with_guessed_format()
            .map(|reader| reader.into_dimensions());
        let Ok(Ok((width, height))) = size else {
            return Err(Error::failed(format!("{} is not an image", path.display())));
        };
        events.add(step, &[("reconstructions", Shown::Picture(&png, [width, height]))])
    }

    /// Appends a row of scores. Images without classes have none.
    pub fn evaluated(&mut self, step: u64, images: u64, found: Option<Validation>) -> Result<()> {
        let Some(Validation { knn, linear, n_train, n_validation }) = found else { return Ok(()) };
        let row = Evaluation { step, images, knn, linear, n_train, n_validation };
        say(&format!(
            "step {step}: k-NN {knn:.1} %, linear probe {linear:.1} % ({n_validation} held-out \
            training images)"
        ));
        let appended = self.append(&row);
        // The best checkpoint is recorded in its own file, so that it is kept even if the log is
        // moved away.
        let noted = match self.metrics.evaluations.iter().all(|e| e.knn < knn) {
            true => write_atomically(&self.run.best(), json_line(&row).as_bytes()),
            false => Ok(()),
        };
        self.metrics.evaluations.push(row);
        let shown =
            self.scalars(step, &[("scores/knn", Some(knn)), ("scores/linear", Some(linear))]);
        appended.and(noted).and(shown)
    }

    /// Appends `row`; `left` describes the time left after it.
    pub fn write(&mut self, row: Row, left: impl Fn() -> String) -> Result<()> {
        self.progress.at(row.step);
        let due = self.metrics.rows.is_empty() || self.printed.elapsed() > SILENCE;
        self.tell(row.loss, row.images_per_s, &left(), due);
        let appended = self.append(&row);
        let shown = self.scalars(
            row.step,
            &[
                ("train/loss", Some(row.loss)),
                ("train/grad_norm", Some(row.grad_norm)),
                ("train/lr", Some(row.lr)),
                ("train/images", Some(row.images as f64)),
                ("train/images_per_s", Some(row.images_per_s)),
                ("train/loss_scale", row.loss_scale),
                ("train/left_out", row.left_out.map(|steps| steps as f64)),
                ("train/pool_bytes", row.pool_bytes.map(|bytes| bytes as f64)),
            ],
        );
        self.metrics.rows.push(row);
        self.since = Instant::now();
        appended.and(shown)
    }

    /// Draws the loss curve.
    pub fn plot(&self) -> Result<()> {
        let points: Vec<_> = self.metrics.rows.iter().map(|r| (r.images as f64, r.loss)).collect();
        let style = plot::CurveStyle::of_log(&points);
        let series = [plot::Series { name: "each row of the log", points }];
        let title = "Training loss";
        plot::save_curve(&self.run.loss_plot(), title, "images seen", &self.loss, &series, style)
            .map(drop)
    }

    /// Leaves out the time since `since`, which wasn't spent on steps.
    pub fn pause(&mut self, since: Instant) {
        self.since += since.elapsed();
    }
}

#[cfg(test)]
mod tests;
