//! SODA: encoder and denoiser together.

use super::encoder::Encoder;
use super::init;
use super::unet::UNet;
use crate::config::ModelConfig;
use crate::kernels::precision::{Precision, autocast};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// The two networks; only z passes between them.
#[derive(Module, Debug)]
pub struct Soda {
    /// The encoder: image to z.
    pub encoder: Encoder,
    /// The denoiser: (x_t, t, z) to eps_hat or v_hat.
    pub unet: UNet,
    #[module(skip)]
    precision: Precision,
}

impl Soda {
    /// Creates initialised networks; the same seed gives the same weights on every device.
    pub fn new(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        init::initialise(Self::blank(config, device), seed)
    }

    /// Creates the networks' structure; nearly all of their tensors take no memory until they are
    /// accessed.
    pub(crate) fn blank(config: &ModelConfig, device: &Device) -> Self {
        Self {
            encoder: Encoder::new(&config.encoder, config.z_dim, device),
            unet: UNet::new(config, device),
            precision: Precision::F32,
        }
    }

    /// Makes the networks compute in `precision`. Inputs and outputs are f32 in any precision.
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Returns the precision that the networks compute in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Encodes normalised images `[B, 3, side, side]` to z `[B, Z]`.
    pub fn encode(&self, x_source: Tensor<4>) -> Tensor<2> {
        autocast(self.precision, || self.encoder.forward(x_source))
    }

    /// Returns the encoder's pooled vector, from which z is computed: normalised images
    /// `[B, 3, side, side]` to `[B, 8 * base]`.
    pub fn backbone(&self, x_source: Tensor<4>) -> Tensor<2> {
        autocast(self.precision, || self.encoder.backbone(x_source))
    }

    /// Returns the sinusoids of `t` `[B]` in (0, 1], the form in which the denoiser receives it:
    /// `[B, base]`.
    pub fn waves(&self, t: Tensor<1>) -> Tensor<2> {
        self.unet.waves(t)
    }

    /// Returns z `[B, Z]` of pooled vectors from [`backbone`](Soda::backbone).
    pub fn project(&self, pooled: Tensor<2>) -> Tensor<2> {
        autocast(self.precision, || self.encoder.project(pooled))
    }

    /// Returns the output of every residual level of the denoiser, averaged over its pixels:
    /// `[B, C]` each, in the order of [`UNetConfig::levels`](crate::config::UNetConfig::levels),
    /// from one pass. Arguments are as for [`predict`](Soda::predict), with all of z.
    pub fn activations(&self, x_t: Tensor<4>, t: Tensor<1>, z: Tensor<2>) -> Vec<Tensor<2>> {
        autocast(self.precision, || self.unet.activations(x_t, t, z))
    }

    /// Returns the predicted noise eps_hat `[B, 3, side, side]`, or v_hat if the recipe says
    /// `diffusion.prediction = "v"`. This is the denoiser as samplers call it;
    /// [`Prediction`](crate::config::Prediction) computes x_0 and eps from either.
    ///
    /// - `x_t` `[B, 3, side, side]` (images, RGB channels, rows, columns): sqrt(alpha_bar_t) x_0
    ///   + sqrt(1 - alpha_bar_t) eps, where x_0 is an image in [-1, 1] and eps ~ N(0, 1).
    /// - `t` `[B]`: the noise level as t / T in (0, 1], not the integer t of 1..=T; 1 is pure
    ///   noise. [`Schedule::time`](crate::diffusion::Schedule::time) gives it. The network
    ///   multiplies it by `model.unet.time_scale`.
    /// - `z` `[B, Z]` as [`encode`](Self::encode) gives it.
    /// - `mask` `[B, 1]` or `[B, Z]`: 1 where z is kept, 0 where it is dropped. Dropping all of it
    ///   gives the prediction without z that guidance needs.
    /// - `view` `[B, 4]`: the position of x_t in the source view, for networks with view
    ///   conditioning (`None`: x_t is the source view).
    /// - `dropout_key`: given in training only; `None` switches dropout off.
    ///
    /// eps_hat has the scale of eps: if x_t is nearly pure noise, its mean square is near 1, and v
    /// is near -x_0.
    ///
    /// To compare it with another implementation, on images and noise of one's own:
    ///
    /// ```
    /// use burn::tensor::{Tensor, TensorData};
    /// use soda::model::shipped;
    /// use soda::prelude::*;
    ///
    /// # fn main() -> Result<()> {
    /// let device = select("cpu")?.device;
    /// let weights = shipped::open()?; // or WeightsFile::open(path)?
    /// let model = weights.model(&device)?;
    /// let data = &weights.config.data;
    /// let (mean, std, side) = (data.mean, data.std, data.side);
    ///
    /// // B * 3 * side * side values in [0, 1], and as many from the standard normal distribution.
    /// let batch = 2;
    /// let size = batch * 3 * side * side;
    /// let (pixels, noise) = (vec![0.25f32; size], vec![0.5f32; size]);
    /// let images = |values| {
    ///     Tensor::from_data(TensorData::new(values, [batch, 3, side, side]), &device)
    /// };
    ///
    /// let channel = |i: usize| i / (side * side) % 3;
    /// let normalised = |(i, p): (usize, &f32)| (p - mean[channel(i)]) / std[channel(i)];
    /// let z = model.encode(images(pixels.iter().enumerate().map(normalised).collect()));
    ///
    /// let schedule = Schedule::new(&weights.config.diffusion);
    /// let (t, alpha_bar) = (300, schedule.alpha_bar(300) as f32);
    /// let noised = |(p, e): (&f32, &f32)| {
    ///     alpha_bar.sqrt() * (2.0 * p - 1.0) + (1.0 - alpha_bar).sqrt() * e
    /// };
    /// let x_t = images(pixels.iter().zip(&noise).map(noised).collect());
    /// let t = Tensor::full([batch], schedule.time(t), &device);
    /// let eps_hat = model.predict(x_t, t, z, Tensor::ones([batch, 1], &device), None, None);
    /// assert_eq!(eps_hat.dims(), [batch, 3, side, side]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn predict(
        &self,
        x_t: Tensor<4>,
        t: Tensor<1>,
        z: Tensor<2>,
        mask: Tensor<2>,
        view: Option<Tensor<2>>,
        dropout_key: Option<u64>,
    ) -> Tensor<4> {
        autocast(self.precision, || self.unet.forward(x_t, t, z * mask, view, dropout_key))
    }
}
