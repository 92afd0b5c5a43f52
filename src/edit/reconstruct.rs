//! Reconstruction: images sampled from z alone.

use crate::config::{Config, SampleConfig};
use crate::data::{Images, views};
use crate::diffusion::Schedule;
use crate::diffusion::guidance::guided;
use crate::diffusion::sampler::{Ddim, ddim};
use crate::error::{Error, Result};
use crate::model::Soda;
use crate::rng::{self, Purpose};
use burn::tensor::{Device, Tensor, TensorData};

/// Images a batch: what fits small devices.
const BATCH: usize = 64;

/// Samples one image for each z by guided DDIM from seeded noise. `z` `[N, Z]`; returns `[N, 3, 32, 32]` in [-1, 1].
pub fn sample(model: &Soda, schedule: &Schedule, config: &SampleConfig, z: Tensor<2>, seed: u64) -> Tensor<4> {
    let (device, n) = (z.device(), z.dims()[0]);
    let noise = rng::normal(&mut rng::stream(seed, Purpose::Sampling, 0), n * 3 * 32 * 32);
    let x_t = Tensor::<4>::from_data(TensorData::new(noise, [n, 3, 32, 32]), &device);
    let settings = Ddim { steps: config.steps, eta: config.eta, clip_x0: config.clip_x0, seed };
    let mask = |value: f32| Tensor::<2>::full([n, 1], value, &device);
    let (with_z, without_z) = (mask(1.0), mask(0.0));
    let out = ddim(schedule, x_t, settings, |x, t| {
        let time = Tensor::<1>::full([n], schedule.time(t), &device);
        let conditional = model.predict_eps(x.clone(), time.clone(), z.clone(), with_z.clone(), None);
        if config.guidance == 0.0 {
            return conditional;
        }
        guided(conditional, model.predict_eps(x, time, z.clone(), without_z.clone(), None), config.guidance)
    });
    out.clamp(-1.0, 1.0)
}

/// Reconstructs `n` images from their z alone. `x_source` holds the encoder's inputs, [n, 3, 32, 32] on the host;
/// returns as many images in [-1, 1].
///
/// # Errors
/// If the device can't be read.
pub fn reconstruct(
    model: &Soda,
    schedule: &Schedule,
    config: &SampleConfig,
    x_source: &[f32],
    seed: u64,
    device: &Device,
) -> Result<Vec<f32>> {
    let mut out = Vec::with_capacity(x_source.len());
    for (i, chunk) in x_source.chunks(BATCH * 3072).enumerate() {
        let x = Tensor::<4>::from_data(TensorData::new(chunk.to_vec(), [chunk.len() / 3072, 3, 32, 32]), device);
        let images = sample(model, schedule, config, model.encode(x), rng::pair(seed, i as u64));
        let values = images.try_into_vec_as::<f32>();
        out.extend(values.map_err(|e| Error::failed(format!("cannot read the images from the device: {e}")))?);
    }
    Ok(out)
}

/// The first `n` images of `images` from their z alone, then the originals, both `[n, 3, 32, 32]` in [-1, 1].
///
/// # Errors
/// If the device can't be read.
pub fn reconstruct_first(
    model: &Soda,
    config: &Config,
    sample: &SampleConfig,
    images: &Images,
    n: usize,
    seed: u64,
    device: &Device,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let indices: Vec<usize> = (0..n).collect();
    let (mut source, mut originals) = (vec![0.0; n * 3072], vec![0.0; n * 3072]);
    views::plain_source(images, &indices, &config.data, false, &mut source);
    views::plain_target(images, &indices, &mut originals);
    let schedule = Schedule::new(&config.diffusion);
    Ok((reconstruct(model, &schedule, sample, &source, seed, device)?, originals))
}
