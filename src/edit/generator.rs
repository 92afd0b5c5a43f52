//! Generating images from z and x_T, and inverting images to x_T.

use super::linear_decoder::LinearDecoder;
use crate::config::{Config, Guidance, SampleConfig, Sampler};
use crate::data::{Images, bytes_of, views};
use crate::diffusion::Schedule;
use crate::diffusion::guidance::{guided, guided_by};
use crate::diffusion::sampler::{Begin, Inversion, Sampling, ddim_inversion, sample};
use crate::error::{Error, Result};
use crate::eval::features;
use crate::model::Soda;
use crate::progress::Progress;
use crate::rng::{self, Purpose};
use crate::units::counted;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use std::ops::Range;
use std::sync::Arc;

/// The largest number of images in a batch; fits small devices.
const BATCH: usize = 64;
/// The approximate number of images in a part, whose pixels are in memory several times.
const PART: usize = 512;

/// The trained networks with everything that sampling needs.
///
/// Images are `[N, 3, side, side]` in [-1, 1], with the side of the target view, and z is `[N, Z]`;
/// both are on the host.
#[derive(Clone)]
pub struct Generator<'a> {
    /// The networks.
    pub model: Soda,
    /// Their recipe.
    pub config: &'a Config,
    /// How to sample: the recipe's settings, or changed ones.
    pub sample: SampleConfig,
    /// The device that the networks are on.
    pub device: Device,
    schedule: Schedule,
    linear: Option<Arc<LinearDecoder>>,
    varied: bool,
    /// Whether x_T comes from an inversion.
    inverted: bool,
    /// The index of the first image, which selects the noise.
    first: usize,
}

impl<'a> Generator<'a> {
    /// Creates a generator from networks on `device` and the recipe they were trained with.
    pub fn new(model: &Soda, config: &'a Config, sample: SampleConfig, device: &Device) -> Self {
        let schedule = Schedule::new(&config.diffusion);
        Self {
            model: model.valid(),
            config,
            sample,
            device: device.clone(),
            schedule,
            linear: None,
            varied: false,
            inverted: false,
            first: 0,
        }
    }

    /// Starts sampling from the images of the `linear` decoder, noised to the level that the
    /// settings name (`sample.start`). Without a linear decoder, or with `sample.start = 1`, sampling
    /// starts from pure noise, which networks trained without it take for a grey image: where
    /// [`LinearDecoder::stored`] finds none, fit one.
    pub fn beginning_with(self, linear: Option<Arc<LinearDecoder>>) -> Self {
        Self { linear, ..self }
    }

    /// Makes samples instead of reconstructions: each starts from one of the images that its z may
    /// stand for, not from their mean.
    pub fn varied(self) -> Self {
        Self { varied: true, ..self }
    }

    /// Returns the linear decoder that sampling starts from, and the noise level added to its
    /// images.
    fn beginning(&self) -> Option<(&LinearDecoder, usize)> {
        Some((self.linear.as_deref()?, self.sample.start_level(self.schedule.steps())?))
    }

    /// Returns the height and width in pixels of the generated images.
    pub fn side(&self) -> usize {
        self.config.model.sides.target
    }

    /// Returns the number of values in a generated image and of images in a batch.
    fn sizes(&self) -> (usize, usize) {
        // The denoiser's largest feature map has three times its width: 96 MiB at width 128, less
        // than every adapter binds.
        (bytes_of(self.side()), BATCH.min(features::batch_size(self.side()).div_ceil(2)))
    }

    /// Splits `n` images into parts, each with a generator that makes the same images as one call
    /// of this one for all `n` would. This way memory doesn't grow with `n`.
    pub fn parts(&self, n: usize) -> impl Iterator<Item = (Range<usize>, Generator<'a>)> {
        let (_, batch) = self.sizes();
        let part = batch * (PART / batch).max(1);
        (0..n).step_by(part).map(move |first| {
            (first..n.min(first + part), Generator { first: self.first + first, ..self.clone() })
        })
    }

    /// Encodes plain images of any side to z `[N, Z]`.
    ///
    /// # Errors
    /// If the device can't be read.
    pub fn encode(&self, images: &Images) -> Result<Vec<f32>> {
        Ok(features::encode_all(&self.model, images, &self.config.data, false, &self.device)?
            .values)
    }

    /// Samples noise to start from, `[n, 3, side, side]`; the noise of an image depends only on
    /// `seed` and the image's index.
    pub fn noise(&self, n: usize, seed: u64) -> Vec<f32> {
        let size = bytes_of(self.side());
        let image = |i| {
            rng::normal(&mut rng::stream(rng::pair(seed, i as u64), Purpose::Sampling, 0), size)
        };
        (self.first..self.first + n).flat_map(image).collect()
    }

    /// Returns what sampling starts from, for the images from index `first` on: the linear
    /// decoder's images of `z` noised by `noise`, or `noise` itself without a linear decoder.
    fn begin(
        &self,
        z: &[f32],
        noise: &[f32],
        view: Option<&[f32]>,
        first: usize,
        seed: u64,
    ) -> Vec<f32> {
        let Some((linear, level)) = self.beginning() else { return noise.to_vec() };
        // With a z per stage, take that of the middle, which determines the coarse structure.
        let (z_dim, width) = (linear.z_dim(), z.len() / (noise.len() / bytes_of(self.side())));
        let middle: Vec<f32> =
            z.chunks_exact(width).flat_map(|z| &z[width - z_dim..]).copied().collect();
        let mut pictures = linear.mean(&middle);
        if self.varied {
            let residuals = linear.residuals(first..first + middle.len() / z_dim, seed);
            pictures.iter_mut().zip(residuals).for_each(|(v, r)| *v += r);
        }
        let alpha_bar = self.schedule.alpha_bar(level);
        let (signal, sigma) = (alpha_bar.sqrt() as f32, (1.0 - alpha_bar).sqrt() as f32);
        linear
            .at(&pictures, self.side(), view)
            .iter()
            .zip(noise)
            .map(|(x_0, eps)| signal * x_0 + sigma * eps)
            .collect()
    }

    /// Generates one image for each z `[N, Z]` and noise, which is x_T itself if sampling starts
    /// there.
    ///
    /// Networks without layer modulation also accept a z for each stage, `[N, S Z]`
    /// ([`by_stage`](crate::edit::mix::by_stage)). For networks with view conditioning, `view`
    /// `[N, 4]` is the position of each image within the image that its z was encoded from
    /// (`None`: the same view). `seed` is the seed of the noise that the sampler adds.
    ///
    /// # Errors
    /// If the device can't be read.
    pub fn decode(
        &self,
        z: &[f32],
        noise: &[f32],
        view: Option<&[f32]>,
        seed: u64,
    ) -> Result<Vec<f32>> {
        let mut out = Vec::with_capacity(noise.len());
        let (side, (size, batch)) = (self.side(), self.sizes());
        let z_dim = z.len() / (noise.len() / size).max(1);
        let from = match self.beginning() {
            Some((_, level)) => Begin::Level(level),
            None if self.inverted => Begin::Inverted,
            None => Begin::Noise,
        };
        let progress = self.progress("generating", noise.len() / size, self.sample.steps);
        for (i, noise) in noise.chunks(batch * size).enumerate() {
            let (first, n) = (i * batch, noise.len() / size);
            let (z, view) =
                (&z[first * z_dim..][..n * z_dim], view.map(|view| &view[first * 4..][..n * 4]));
            let x = self
                .tensor(&self.begin(z, noise, view, self.first + first, seed), [n, 3, side, side]);
            let (z, view) =
                (self.tensor(z, [n, z_dim]), view.map(|view| self.tensor(view, [n, 4])));
            let SampleConfig { sampler: kind, steps, eta, clip_x0, .. } = self.sample;
            let settings = Sampling {
                kind,
                steps,
                from,
                eta,
                clip_x0,
                seed: rng::pair(seed, (self.first / batch + i) as u64),
            };
            let images = sample(
                &self.schedule,
                x,
                settings,
                self.predict(z, view, &self.sample.guidance, &progress),
            );
            let images = read(images.clamp(-1.0, 1.0))?;
            out.extend(match self.beginning() {
                Some((linear, _)) => linear.detailed(images, side),
                None => images,
            });
        }
        Ok(out)
    }

    /// Generates one image for each z from the noise of `seed`: `z` `[N, Z]` (a z for each stage goes
    /// to [`decode`](Generator::decode)); returns `[N, 3, side, side]`.
    ///
    /// # Errors
    /// If the device can't be read.
    pub fn draw(&self, z: &[f32], seed: u64) -> Result<Vec<f32>> {
        self.decode(z, &self.noise(z.len() / self.config.model.z_dim, seed), None, seed)
    }

    /// Finds the x_T from which [`plain`](Generator::plain) sampling with the same z returns to the
    /// image, by DDIM inversion in as many steps and without guidance. `x_0` `[N, 3, side, side]`,
    /// `z` `[N, Z]`; returns `[N, 3, side, side]`.
    ///
    /// # Errors
    /// If the device can't be read.
    pub fn invert(&self, x_0: &[f32], z: &[f32]) -> Result<Vec<f32>> {
        let mut out = Vec::with_capacity(x_0.len());
        let (z_dim, side, (size, batch)) = (self.config.model.z_dim, self.side(), self.sizes());
        let steps = self.sample.inversion_steps;
        let settings = Inversion { steps, refinements: 0 };
        let progress = self.progress("inverting", x_0.len() / size, steps);
        for (x, z) in x_0.chunks(batch * size).zip(z.chunks(batch * z_dim)) {
            let n = x.len() / size;
            let predict =
                self.predict(self.tensor(z, [n, z_dim]), None, &Guidance::Whole(0.0), &progress);
            out.extend(read(ddim_inversion(
                &self.schedule,
                self.tensor(x, [n, 3, side, side]),
                settings,
                predict,
            ))?);
        }
        Ok(out)
    }

    /// Returns a generator with the same networks and the sampling that [`invert`](Generator::invert)
    /// requires: DDIM with eta 0 from x_T, no guidance, no clipping.
    pub fn plain(&self) -> Generator<'a> {
        let (sampler, guidance, steps) =
            (Sampler::Ddim, Guidance::Whole(0.0), self.sample.inversion_steps);
        let sample = SampleConfig {
            sampler,
            eta: 0.0,
            guidance,
            clip_x0: false,
            start: 1.0,
            steps,
            ..self.sample
        };
        Generator {
            inverted: true,
            first: self.first,
            ..Generator::new(&self.model, self.config, sample, &self.device)
        }
    }

    /// Starts a progress line that counts the sampling steps of all images, `n * steps` in total.
    fn progress(&self, what: &str, n: usize, steps: usize) -> Progress {
        Progress::new(
            format!("{what} {} in {}", counted(n, "image"), counted(steps, "step")),
            Some(n * steps),
        )
    }

    /// Returns the guided prediction of eps or v, a closure over (x_t, t).
    fn predict(
        &self,
        z: Tensor<2>,
        view: Option<Tensor<2>>,
        guidance: &Guidance,
        progress: &Progress,
    ) -> impl FnMut(Tensor<4>, usize) -> Tensor<4> {
        let [n, z_dim] = z.dims();
        let sections = self.config.model.sections();
        let mask = |dropped: &Range<usize>| {
            let row = (0..z_dim).map(|i| if dropped.contains(&i) { 0.0 } else { 1.0 });
            Tensor::<2>::from_data(
                TensorData::new(row.collect::<Vec<f32>>(), [1, z_dim]),
                &self.device,
            )
            .expand([n, z_dim])
        };
        let whole = mask(&(0..0));
        // Each weight, and the mask that drops the part of z which the weight strengthens.
        let (whole_of_z, weights) = match guidance {
            Guidance::Whole(w) => (true, vec![(*w, mask(&(0..z_dim)))]),
            Guidance::Sections(w) => {
                (false, w.iter().zip(&sections).map(|(w, section)| (*w, mask(section))).collect())
            }
        };
        let (w, masks): (Vec<f64>, Vec<Tensor<2>>) =
            weights.into_iter().filter(|(w, _)| *w != 0.0).unzip();
        move |x, t| {
            progress.add(n);
            let time = Tensor::<1>::full([n], self.schedule.time(t), &self.device);
            let masked = |mask: &Tensor<2>| {
                self.model.predict(
                    x.clone(),
                    time.clone(),
                    z.clone(),
                    mask.clone(),
                    view.clone(),
                    None,
                )
            };
            let eps_c = masked(&whole);
            let without: Vec<_> = masks.iter().map(masked).collect();
            match (whole_of_z, without.as_slice()) {
                (true, [eps_u]) => guided(eps_c, eps_u.clone(), w[0]),
                _ => guided_by(eps_c, &without, &w),
            }
        }
    }

    fn tensor<const D: usize>(&self, values: &[f32], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &self.device)
    }
}

/// Reads images back to the host.
fn read(images: Tensor<4>) -> Result<Vec<f32>> {
    images.try_into_vec_as::<f32>().map_err(|e| Error::device("reading the images", &e))
}

/// Returns the images in [-1, 1] at `side` x `side` pixels, `[N, 3, side, side]`.
///
/// # Errors
/// If the images are in a file that can't be read.
pub fn signed(images: &Images, side: usize) -> Result<Vec<f32>> {
    let all: Vec<usize> = (0..images.len()).collect();
    let mut out = vec![0.0; images.len() * bytes_of(side)];
    views::plain_target(images, &all, side, &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_generated_in_parts_equal_those_of_one_call() {
        let set = [
            "model.z_dim=4",
            "model.encoder.base=4",
            "model.unet.base=4",
            "model.unet.multipliers=[1]",
            "model.unet.groups=2",
            "model.unet.final_groups=2",
            "data.side=16",
            "sample.steps=2",
        ];
        let config = Config::parse(
            include_str!("../../configs/quick.toml"),
            "quick",
            &set.map(String::from),
        )
        .unwrap();
        let (device, n) = (Device::flex(), PART + 70);
        let model = Soda::new(&config.model, 3, &device);
        let sample = SampleConfig { sampler: Sampler::Ddpm, ..config.sample.clone() };
        let generator = Generator::new(&model, &config, sample, &device);
        let z = rng::normal(&mut rng::stream(3, Purpose::Test, 0), n * 4);
        let whole = generator.draw(&z, 5).unwrap();
        let (mut parts, mut same_noise) = (Vec::new(), Vec::new());
        for (part, generator) in generator.parts(n) {
            let z = &z[part.start * 4..part.end * 4];
            parts.extend(generator.draw(z, 5).unwrap());
            same_noise.extend(Generator { first: 0, ..generator }.draw(z, 5).unwrap());
        }
        assert!(whole.iter().all(|v| v.is_finite()) && whole.len() == n * bytes_of(16));
        assert_eq!(parts, whole);
        // Negative control: noise that restarts in each part.
        assert_ne!(same_noise, whole);
    }
}
