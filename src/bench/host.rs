//! The host time at paper size: training steps, encoding and sampling steps. It is measured on a
//! device that takes no time (under scripts/host_time.sh the device does no work), so the results
//! are not checked.

use super::job::Job;
use super::plan::Size;
use super::row::{Host, Row};
use super::step::Training;
use super::timing::{Timing, wait};
use crate::config::{Config, Sides};
use crate::error::Result;
use crate::kernels::catalog::random;
use crate::kernels::profile::observe;
use crate::kernels::replay::Replayed;
use crate::machine;
use crate::model::Soda;
use burn::tensor::Tensor;
use cpu_time::ThreadTime;
use std::time::Instant;

/// Batch sizes: the recipe's, and a small one, where launches matter most.
const BATCHES: [usize; 2] = [256, 32];
/// The largest and the smallest number of timed runs.
const MOST: usize = 20;
const LEAST: usize = 5;
/// The time limit for the timed runs of one row, in seconds.
const ENOUGH: f64 = 5.0;

/// Measures all of them.
///
/// # Errors
/// If the device was lost.
pub(super) fn run(job: &mut Job) -> Result<()> {
    let config = job.recipe(Size::Paper)?;
    let (unet, encoder) = (config.model.unet.base, config.model.encoder.base);
    let rows = BATCHES.map(|batch| {
        let denoise = job.network("host_denoise", unet, batch);
        let again = Row { variant: Some("replayed".into()), ..denoise.clone() };
        [
            job.network("host_train_step", unet, batch),
            job.network("host_encode", encoder, batch),
            denoise,
            again,
        ]
    });
    job.planned(rows.iter().flatten().map(Row::name).collect())?;
    for (batch, [train, encode, denoise, again]) in BATCHES.into_iter().zip(rows) {
        let device = job.device.clone();
        let mut config: Config = config.clone();
        config.train.batch_size = batch;
        let mut training = Training::new(config.clone(), &device);
        timed(job, train, || training.advance().map(drop))?;
        drop(training);

        let model = Soda::new(&config.model, config.seed, &device).in_precision(job.precision);
        let Sides { source, target } = config.model.sides;
        let images = random([batch, 3, source, source], 2, &device);
        timed(job, encode, || {
            drop(model.encode(images.clone()));
            wait(&device)
        })?;
        let (x, z) = (
            random([batch, 3, target, target], 0, &device),
            random([batch, config.model.z_dim], 1, &device),
        );
        let (t, mask) = (Tensor::full([batch], 0.5, &device), Tensor::ones([batch, 1], &device));
        let predict = || model.predict(x.clone(), t.clone(), z.clone(), mask.clone(), None, None);
        timed(job, denoise, || {
            drop(predict());
            wait(&device)
        })?;
        let mut replayed = Replayed::capture(&device, predict);
        if replayed.is_recorded() {
            timed(job, again, || {
                replayed.run();
                wait(&device)
            })?;
        }
    }
    Ok(())
}

/// Times runs of `work`, and counts the launches of one.
fn timed(job: &mut Job, mut row: Row, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    // The first run compiles and allocates memory, which the second one reuses.
    for _ in 0..3 {
        work()?;
    }
    let (start, mut walls, mut launching, mut serving) =
        (Instant::now(), Vec::new(), Vec::new(), Vec::new());
    while walls.len() < LEAST
        || (walls.len() < MOST && start.elapsed().as_secs_f64() < ENOUGH.min(job.left() / 8.0))
    {
        let (wall, own, all) = (Instant::now(), ThreadTime::now(), machine::processor_seconds());
        work()?;
        let own = own.elapsed().as_secs_f64();
        let all = all.zip(machine::processor_seconds()).map(|(before, after)| after - before);
        walls.push(wall.elapsed().as_secs_f64());
        launching.push(own);
        serving.extend(all.map(|all| (all - own).max(0.0)));
    }
    let median = |samples| Timing::of(samples).map(|timing| timing.median * 1e3);
    if let Some(timing) = Timing::of(walls) {
        row.timed(&timing);
    }
    if let (Some(launching_ms), Some(serving_ms)) = (median(launching), median(serving)) {
        row.host = Some(Host { launching_ms, serving_ms });
    }
    let (done, counted) = observe(false, &mut work);
    done?;
    row.launches = Some(counted.launches());
    job.row(row)
}
