//! Inference: the encoder, one evaluation of the denoiser, and sampling with 100 DDIM steps.

use super::job::Job;
use super::plan::Size;
use super::recipe::recipe;
use super::row::{Message, ProfileRow, Row};
use super::timing::{Effort, RUNS, measure, runs, sample as once};
use crate::config::{Guidance, SampleConfig, Sides};
use crate::edit::generator::Generator;
use crate::error::Result;
use crate::kernels::catalog::random;
use crate::kernels::profile::observe;
use crate::model::{Soda, parameters};
use burn::tensor::Tensor;
use std::time::Instant;

/// The width of encoder and denoiser, and that of the networks for sampling.
const WIDTH: usize = 64;
const SAMPLING_WIDTH: usize = 32;
/// Batch sizes of the encoder, and of the denoiser and sampling.
const ENCODED: usize = 64;
const DENOISED: usize = 16;
/// The number of dimensions of z.
const Z: usize = 128;
/// The ratio of the denoiser's time at width 64 to that at width 32, and of the encoder's time to
/// the denoiser's (both at width 64, with their batch sizes), by multiplications.
const WIDER: f64 = 4.0;
const ENCODER: f64 = 1.2;
/// The time limit for one operation, in seconds.
const ENOUGH: f64 = 4.0;
/// The largest number of executions between two waits for the device.
const TOGETHER: usize = 4;

/// Measures what fits the budget: first an evaluation at width 32, which predicts the time of the
/// others.
///
/// # Errors
/// If the device was lost.
pub(super) fn run(job: &mut Job) -> Result<()> {
    let encode = job.network("encode", WIDTH, ENCODED);
    let denoise = job.network("denoise", WIDTH, DENOISED);
    let sampling = Row {
        variant: Some("100 DDIM steps".into()),
        ..job.network("sample", SAMPLING_WIDTH, DENOISED)
    };
    job.planned(vec![denoise.name(), encode.name(), sampling.name()])?;
    let device = job.device.clone();

    let config = recipe(Size::Width(SAMPLING_WIDTH))?;
    let small = Soda::new(&config.model, config.seed, &device).in_precision(job.precision);
    let Sides { source, target } = config.model.sides;
    let (x, z) =
        (random([DENOISED, 3, target, target], 0, &device), random([DENOISED, Z], 1, &device));
    let (t, mask) = (Tensor::full([DENOISED], 0.5, &device), Tensor::ones([DENOISED, 1], &device));
    let predict = |model: &Soda| {
        drop(model.predict(x.clone(), t.clone(), z.clone(), mask.clone(), None, None))
    };
    let narrow = warmed(job, || predict(&small))?;

    let wide_config = recipe(Size::Width(WIDTH))?;
    let large =
        Soda::new(&wide_config.model, wide_config.seed, &device).in_precision(job.precision);
    let mut wide = WIDER * narrow;
    if job.fits(&denoise.name(), 2.0 * wide)? {
        wide = timed(
            job,
            Row { parameters: Some(parameters::count(&large.unet)), ..denoise },
            || predict(&large),
        )?;
    }
    if job.fits(&encode.name(), 2.0 * ENCODER * wide)? {
        let images = random([ENCODED, 3, source, source], 2, &device);
        let encode = Row { parameters: Some(parameters::count(&large.encoder)), ..encode };
        timed(job, encode, || drop(large.encode(images.clone())))?;
    }
    // The evaluation above has warmed up everything except the sampler's few operations.
    if job.fits(&sampling.name(), 100.0 * narrow)? {
        let settings =
            SampleConfig { steps: 100, guidance: Guidance::Whole(0.0), ..config.sample.clone() };
        let generator = Generator::new(&small, &config, settings, &device);
        let z = vec![0.1; DENOISED * config.model.z_dim];
        let parameters = Some(parameters::count(&small.unet));
        let effort = Effort {
            seconds: (job.left() / 2.0 - 50.0 * narrow).min(ENOUGH),
            most: RUNS,
            together: 1,
        };
        let draw = |()| drop(generator.draw(&z, 3));
        let timing = measure(&device, effort, 100.0 * narrow, || (), draw)?;
        let mut row = Row { parameters, ..sampling };
        row.timed(&timing);
        row.images_per_s = Some(DENOISED as f64 / timing.median);
        job.row(row)?;
    }
    Ok(())
}

/// Returns the seconds of the second run of `work`, or of its first if that took a quarter of the
/// time left.
fn warmed(job: &Job, mut work: impl FnMut()) -> Result<f64> {
    let mut run = || once(&job.device, 1, &mut || (), &mut |()| work());
    let first = run()?;
    if first < job.left() / 4.0 { run() } else { Ok(first) }
}

/// Times `work`, counts its launches and profiles it; returns its median in seconds.
fn timed(job: &mut Job, mut row: Row, mut work: impl FnMut()) -> Result<f64> {
    let first = warmed(job, &mut work)?;
    let timing = runs(first, (job.left() / 4.0).min(ENOUGH), |executions| {
        let (waits, together) = (executions.div_ceil(TOGETHER), executions.min(TOGETHER));
        let mut seconds = 0.0;
        for _ in 0..waits {
            seconds += once(&job.device, together, &mut || (), &mut |()| work())?;
        }
        Ok(seconds / waits as f64)
    })?;
    row.timed(&timing);
    row.images_per_s = row.batch.map(|batch| batch as f64 / timing.median);
    job.row(row.clone())?;
    let device = job.device.clone();
    let mut run = || once(&device, 1, &mut || (), &mut |()| work());
    if job.left() > timing.median {
        let (done, counted) = observe(false, &mut run);
        done?;
        row.launches = Some(counted.launches());
        let name = row.name();
        job.row(row)?;
        if job.profile && job.left() > timing.median {
            let clock = Instant::now();
            let (done, profile) = observe(true, &mut run);
            done?;
            job.send(&Message::Profile(ProfileRow::new(
                name,
                &job.place,
                clock.elapsed().as_secs_f64(),
                &profile,
            )))?;
        }
    }
    Ok(timing.median)
}
