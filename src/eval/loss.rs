//! A test of whether the denoiser uses z: its loss by noise level with the right z, another image's
//! z and no z.

use crate::config::Config;
use crate::data::{Images, bytes_of, views};
use crate::diffusion::Schedule;
use crate::diffusion::forward::{q_sample, times};
use crate::error::{Error, Result};
use crate::eval::features::batch_size_of;
use crate::model::Soda;
use crate::progress::Progress;
use crate::rng::{self, Purpose};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use serde::Serialize;

/// The largest batch.
const BATCH: usize = 50;

/// Mean squared error of the denoiser's prediction (the noise, or v), with three kinds of z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Losses {
    /// With the image's own z.
    pub own: f64,
    /// With the z of another image.
    pub shuffled: f64,
    /// With z masked, as for guidance.
    pub none: f64,
}

impl Losses {
    /// Returns the share of the loss without z that the right z explains, in per cent.
    pub fn explained(&self) -> f64 {
        100.0 * (1.0 - self.own / self.none)
    }

    /// Returns the same for the z of another image: below 0 if that is worse than no z.
    pub fn explained_by_another(&self) -> f64 {
        100.0 * (1.0 - self.shuffled / self.none)
    }
}

/// Losses over one range of noise levels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// First and last t of the range.
    pub t: [usize; 2],
    /// Means over the images, each at one t of the range.
    #[serde(flatten)]
    pub losses: Losses,
}

/// Measures the losses of the plain images `images`, whose z `[N, Z]` is `z`, in `bins` equal
/// ranges of t. Each image is used once per range, with t and eps sampled from `seed`; the three
/// kinds of z share t and eps.
///
/// # Errors
/// If there are fewer than two images (no other z), no bins or more bins than noise levels, the
/// device can't be read, or a loss isn't finite.
///
/// # Panics
/// If there isn't one z for each image.
pub fn by_time(
    model: &Soda,
    config: &Config,
    (images, z): (&Images, &[f32]),
    bins: usize,
    seed: u64,
    device: &Device,
) -> Result<(Losses, Vec<Bin>)> {
    let (z_dim, side) = (config.model.z_dim, config.model.sides.target);
    assert_eq!(z.len(), images.len() * z_dim, "one z of {z_dim} dimensions for each image");
    let schedule = Schedule::new(&config.diffusion);
    let levels = schedule.steps();
    if images.len() < 2 {
        return Err(Error::usage(format!(
            "{} images: give two or more, as the z of another image is needed",
            images.len()
        )));
    }
    if bins == 0 || bins > levels {
        return Err(Error::usage(format!(
            "{bins} ranges of t: choose 1 to {levels}, the noise levels of these weights"
        )));
    }
    let ranges: Vec<[usize; 2]> =
        (0..bins).map(|i| [i * levels / bins + 1, (i + 1) * levels / bins]).collect();
    let mut sums = vec![[0.0f64; 3]; bins];
    let all: Vec<usize> = (0..images.len()).collect();
    let progress =
        Progress::new("measuring losses, images at each noise level", Some(images.len() * bins));
    for (number, batch) in all.chunks(BATCH.min(batch_size_of(config.model.sides))).enumerate() {
        let n = batch.len();
        let z_of = |image: &dyn Fn(usize) -> usize| {
            let rows = batch.iter().flat_map(|&i| &z[image(i) * z_dim..][..z_dim]);
            Tensor::<2>::from_data(
                TensorData::new(rows.copied().collect::<Vec<f32>>(), [n, z_dim]),
                device,
            )
        };
        // The z of the next image; for the last one, that of the first.
        let (own, shuffled) = (z_of(&|i| i), z_of(&|i| (i + 1) % images.len()));
        let mut x_0 = vec![0.0; n * bytes_of(side)];
        views::plain_target(images, batch, side, &mut x_0)?;
        let x_0 = Tensor::<4>::from_data(TensorData::new(x_0, [n, 3, side, side]), device);
        for (bin, &[first, last]) in ranges.iter().enumerate() {
            let mut stream =
                rng::stream(rng::pair(seed, number as u64), Purpose::Noise, bin as u64);
            let t: Vec<usize> = (0..n).map(|_| stream.random_range(first..=last)).collect();
            let t = times(&schedule, &t, device);
            let eps = rng::normal(&mut stream, n * bytes_of(side));
            let eps = Tensor::<4>::from_data(TensorData::new(eps, [n, 3, side, side]), device);
            let x_t = q_sample(x_0.clone(), &t, eps.clone());
            let target = schedule.prediction().target(x_0.clone(), eps, &t);
            let losses = [(&own, 1.0), (&shuffled, 1.0), (&own, 0.0)].map(|(z, mask)| {
                let mask = Tensor::<2>::full([n, 1], mask, device);
                let output =
                    model.predict(x_t.clone(), t.time.clone(), z.clone(), mask, None, None);
                (output - target.clone()).square().mean()
            });
            let read = Tensor::cat(losses.to_vec(), 0).try_into_vec_as::<f32>();
            let read = read.map_err(|e| Error::device("reading the losses", &e))?;
            if let Some(bad) = read.iter().find(|v| !v.is_finite()) {
                return Err(Error::failed(format!(
                    "a loss is {bad}; the weights are damaged or have diverged"
                )));
            }
            sums[bin]
                .iter_mut()
                .zip(read)
                .for_each(|(sum, loss)| *sum += f64::from(loss) * n as f64);
            progress.add(n);
        }
    }
    let mean = |[own, shuffled, none]: [f64; 3], n: f64| Losses {
        own: own / n,
        shuffled: shuffled / n,
        none: none / n,
    };
    let n = images.len() as f64;
    let total = sums.iter().fold([0.0; 3], |t, s| std::array::from_fn(|i| t[i] + s[i]));
    let total = mean(total, n * bins as f64);
    Ok((
        total,
        ranges.into_iter().zip(sums).map(|(t, sums)| Bin { t, losses: mean(sums, n) }).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::bundled;
    use crate::model::parameters;

    #[test]
    fn each_loss_is_that_of_its_own_kind_of_z() {
        let (config, device) = (Config::built_in("quick", &[]).expect("a recipe"), Device::flex());
        // New networks end in zeros, which hide z.
        let changed = |name: &str, weight: Tensor<1>| match parameters::is_statistic(name) {
            true => weight,
            false => weight + 0.05,
        };
        let model = parameters::map(Soda::new(&config.model, 1, &device), changed);
        let (n, dim) = (6, config.model.z_dim);
        let images = bundled().expect("the subset").train.first(n);
        let z = rng::normal(&mut rng::stream(1, Purpose::Test, 0), n * dim);
        let next = [&z[dim..], &z[..dim]].concat();
        let losses = |z: &[f32]| {
            by_time(&model, &config, (&images, z), 4, 1, &device).expect("finite losses").0
        };
        let (own, next) = (losses(&z), losses(&next));
        assert_eq!((next.own, next.none), (own.shuffled, own.none));
        assert!(own.own != own.shuffled && own.own != own.none && own.shuffled != own.none);
    }
}
