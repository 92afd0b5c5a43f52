//! The training loop.

use super::checkpoint::{self, State};
use super::optim::learning_rate;
use super::step::{Pair, step};
use crate::config::Config;
use crate::data::Dataset;
use crate::data::loader::Loader;
use crate::device::Selected;
use crate::diffusion::Schedule;
use crate::edit::decoder::Decoder;
use crate::edit::reconstruct::reconstruct_first;
use crate::error::{Error, Result};
use crate::eval::validation::{Validation, validate};
use crate::files::write_atomically;
use crate::machine;
use crate::model::weights::WeightsFile;
use crate::report::{grid, plot};
use crate::run_dir::{Evaluation, Metrics, Row, RunDir, Start, json_line};
use crate::selftest;
use burn::tensor::Tensor;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a call of [`train`] may decide.
#[derive(Clone, Default)]
pub struct Options {
    /// Stop after this much time, ending like a finished run.
    pub limit: Option<Duration>,
    /// Continue from the newest checkpoint, or start when there is none.
    pub resume: bool,
    /// What a new run starts from; none: random weights. Of a run that goes on it is ignored.
    pub from: Option<Arc<WeightsFile>>,
    /// Set from outside to stop after the current step, with a checkpoint.
    pub interrupt: Arc<AtomicBool>,
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
}

/// Images of the reconstruction grid: two rows.
const GRID: usize = 20;

/// Trains `config` on the training images of `data` until its last step, the time limit or an interrupt.
///
/// # Errors
/// If `run` already holds a run and `resume` isn't set, its directory can't be written, `device` fails the self test, or the
/// loss is no longer finite; in the last case earlier checkpoints stay.
pub fn train(config: &Config, data: &Dataset, device: &Selected, run: &RunDir, options: &Options) -> Result<Summary> {
    let mut state = start(config, data, device, run, options)?;
    if !state.position.finished {
        selftest::once(device)?;
    }
    let schedule = Schedule::new(&config.diffusion);
    let autodiff = device.device.clone().autodiff();
    let train = &config.train;
    let last_step = train.steps as u64;
    let mut batches = Loader::new(data.train.clone(), config.data.clone(), train.batch_size, config.seed, state.position.step)?;
    // Only now: a mistake found above leaves nothing behind.
    if !run.exists() {
        run.create(config)?;
    }
    if !state.position.finished {
        let from = options.from.as_ref().filter(|_| state.position.step == 0);
        run.add_start(&described(&state, data, device, from.map(|weights| weights.sha256.clone())))?;
    }
    let mut log = Log::open(run, config, &state)?;
    let started = Instant::now();
    let already = state.position.seconds;

    while !state.position.finished {
        let clock = Instant::now();
        let number = state.position.step + 1;
        let in_time = options.limit.map_or(0.0, |limit| started.elapsed().as_secs_f64() / limit.as_secs_f64());
        // Never back, not even where a resumed call has more time than the first one.
        let progress = state.position.progress.max(in_time).max(number as f64 / last_step as f64);
        let lr = learning_rate(train, number, progress);
        let batch = batches.next()?;
        let view = config.model.unet.view_conditioning.then_some(batch.geometry);
        let outcome;
        (state, outcome) = step(state, Pair::new(batch.source, batch.target, view, &autodiff), &schedule, config, number, lr);
        log.add(outcome.loss);

        let interrupted = options.interrupt.load(Ordering::Relaxed);
        let timed_out = options.limit.is_some_and(|limit| started.elapsed() >= limit);
        let last = number >= last_step || timed_out;
        let due = |every: usize| every > 0 && number.is_multiple_of(every as u64);
        let save = due(train.checkpoint_every) || last || interrupted;
        let row = (due(train.log_every) || save).then(|| log.row(number, lr, outcome.grad_norm)).transpose()?;
        log.stepping += clock.elapsed();
        state.position.seconds = already + log.stepping.as_secs_f64();
        if let Some(row) = row {
            state.position.loss_first.get_or_insert(row.loss);
            log.write(Row { seconds: state.position.seconds, ..row })?;
        }
        state.position.finished = last;
        state.position.progress = progress;
        let pause = Instant::now();
        if save {
            checkpoint::save(run, &state, config)?;
            log.plot(run)?;
        }
        if due(train.sample_every) || last {
            draw_reconstructions(&state, config, data, device, run)?;
        }
        if due(train.evaluate_every) || (last && train.evaluate_every > 0) {
            let limit = train.evaluate_images;
            log.evaluated(number, validate(&state.ema.model(), config, data, limit, &device.device)?)?;
        }
        // Pictures, checkpoints and scores don't count as training.
        log.since += pause.elapsed();
        if interrupted && !last {
            let path = run.path.display();
            return Err(Error::failed(format!(
                "stopped at step {number}, checkpoint written; continue with `soda train --resume --run {path}` (or the same quickstart again)"
            )));
        }
    }
    log.bar.finish_and_clear();
    Ok(Summary {
        steps: state.position.step,
        images_per_s: (state.position.step * log.batch) as f64 / state.position.seconds,
        loss_first: state.position.loss_first.unwrap_or(f64::NAN),
        loss_last: log.metrics.rows.last().map_or(f64::NAN, |r| r.loss),
    })
}

/// A fresh state, or that of the newest checkpoint.
fn start(config: &Config, data: &Dataset, device: &Selected, run: &RunDir, options: &Options) -> Result<State> {
    if run.exists() && !options.resume {
        let path = run.path.display();
        return Err(Error::usage(format!(
            "{path} already holds a run; add --resume to continue it, or name another directory with --run"
        )));
    }
    if let Some(mut state) = checkpoint::load(run, config, &device.device)? {
        if state.position.data_sha256 != data.sha256 {
            return Err(Error::usage(format!(
                "{} began on other data than {}; name the same data with --data",
                run.path.display(),
                data.describe()
            )));
        }
        state.position.finished |= state.position.step >= config.train.steps as u64;
        return Ok(state);
    }
    if options.from.is_none() && run.read_starts().first().is_some_and(|start| start.from.is_some()) {
        return Err(Error::usage(format!(
            "{} began from trained weights and holds no checkpoint yet; name them again with --from",
            run.path.display()
        )));
    }
    match &options.from {
        Some(weights) => State::trained(config, weights, &data.sha256, &device.device),
        None => Ok(State::new(config, &data.sha256, &device.device)),
    }
}

/// This call of training, for who reads the run later.
fn described(state: &State, data: &Dataset, device: &Selected, from: Option<String>) -> Start {
    Start {
        time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        step: state.position.step,
        from,
        command: std::env::args().collect(),
        version: env!("CARGO_PKG_VERSION").into(),
        commit: machine::commit(),
        device: device.backend.into(),
        adapter: device.name.clone(),
        machine: machine::describe(),
        data: data.name.to_string(),
        data_sha256: data.sha256.clone(),
        images: data.train.len(),
    }
}

/// Two rows of test images and what their z alone gives.
fn draw_reconstructions(state: &State, config: &Config, data: &Dataset, device: &Selected, run: &RunDir) -> Result<()> {
    let n = GRID.min(data.test.len());
    let model = state.ema.model();
    let decoder = Decoder::new(&model, config, config.sample.clone(), &device.device);
    let (images, originals) = reconstruct_first(&decoder, &data.test, n, config.seed)?;
    grid::save_reconstructions(&run.sample(state.position.step), &images, &originals)
}

/// metrics.jsonl, the progress bar and what has happened since the last row.
struct Log {
    file: std::fs::File,
    path: std::path::PathBuf,
    metrics: Metrics,
    bar: ProgressBar,
    batch: u64,
    /// Sum of the losses since the last row, on the device.
    total: Option<Tensor<1>>,
    steps: u64,
    since: Instant,
    printed: Instant,
    /// Time spent in steps, by this call.
    stepping: Duration,
}

impl Log {
    /// Continues the log of a resumed run: rows beyond its checkpoint are dropped.
    fn open(run: &RunDir, config: &Config, state: &State) -> Result<Self> {
        let path = run.metrics();
        let mut metrics = run.read_metrics()?;
        metrics.truncate(state.position.step);
        write_atomically(&path, metrics.to_jsonl().as_bytes())?;
        let file = std::fs::OpenOptions::new().append(true).open(&path).map_err(|e| Error::io("write", &path, &e))?;
        let bar = ProgressBar::new(config.train.steps as u64).with_position(state.position.step);
        let style = "{bar:30} step {pos}/{len}, {msg}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
        bar.reset_eta();
        let now = Instant::now();
        Ok(Self {
            file,
            path: path.clone(),
            metrics,
            bar,
            batch: config.train.batch_size as u64,
            total: None,
            steps: 0,
            since: now,
            printed: now,
            stepping: Duration::ZERO,
        })
    }

    fn add(&mut self, loss: Tensor<1>) {
        self.total = Some(match self.total.take() {
            Some(total) => total + loss,
            None => loss,
        });
        self.steps += 1;
    }

    /// Reads what has added up since the last row: the only place where the loop waits for the device.
    fn row(&mut self, step: u64, lr: f64, grad_norm: Tensor<1>) -> Result<Row> {
        let read = |t: Tensor<1>| {
            t.try_into_scalar::<f32>()
                .map(f64::from)
                .map_err(|e| Error::failed(format!("the device failed at step {step}: {e}; earlier checkpoints are intact")))
        };
        let total = self.total.take().map_or(Ok(f64::NAN), read)?;
        let (loss, grad_norm) = (total / self.steps as f64, read(grad_norm)?);
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(Error::failed(format!(
                "the loss is {loss} and the gradients' norm {grad_norm} at step {step} (lr {lr:.2e}); the last checkpoint is intact: resume from it with a smaller train.lr or more train.warmup_steps"
            )));
        }
        let images_per_s = (self.steps * self.batch) as f64 / self.since.elapsed().as_secs_f64();
        self.steps = 0;
        Ok(Row { step, images: step * self.batch, loss, grad_norm, lr, images_per_s, seconds: 0.0 })
    }

    fn append(&mut self, row: &impl Serialize) -> Result<()> {
        self.file.write_all(json_line(row).as_bytes()).map_err(|e| Error::io("write", &self.path, &e))
    }

    /// A row of scores; images without classes have none.
    fn evaluated(&mut self, step: u64, found: Option<Validation>) -> Result<()> {
        let Some(Validation { knn, linear, n_train, n_validation }) = found else { return Ok(()) };
        let row = Evaluation { step, images: step * self.batch, knn, linear, n_train, n_validation };
        self.append(&row)?;
        self.bar.suspend(|| {
            eprintln!("step {step}: k-NN {knn:.1} %, linear probe {linear:.1} % ({n_validation} held-out training images)");
        });
        self.metrics.evaluations.push(row);
        Ok(())
    }

    fn write(&mut self, row: Row) -> Result<()> {
        self.append(&row)?;
        let summary = format!("loss {:.4}, {:.1} images/s", row.loss, row.images_per_s);
        self.bar.set_position(row.step);
        self.bar.set_message(summary.clone());
        let plain = !std::io::stderr().is_terminal();
        if plain && (self.metrics.rows.is_empty() || self.printed.elapsed() > Duration::from_secs(15)) {
            let length = self.bar.length().unwrap_or(0);
            let left = length.saturating_sub(row.step) * self.batch;
            let eta = Duration::from_secs_f64((left as f64 / row.images_per_s.max(1e-9)).min(1e9));
            eprintln!("step {}/{length}, {summary}, {} left", row.step, HumanDuration(eta));
            self.printed = Instant::now();
        }
        self.metrics.rows.push(row);
        self.since = Instant::now();
        Ok(())
    }

    fn plot(&mut self, run: &RunDir) -> Result<()> {
        let points = self.metrics.rows.iter().map(|r| (r.images as f64, r.loss)).collect();
        let style = plot::CurveStyle { smooth: (self.metrics.rows.len() / 20).max(1), ..Default::default() };
        let series = [plot::Series { name: "loss", points }];
        plot::save_curve(&run.loss_plot(), "Training loss", "images seen", "mean squared error on the noise", &series, style)?;
        Ok(())
    }
}
