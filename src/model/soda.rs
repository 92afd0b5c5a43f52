//! SODA: encoder and denoiser together.

use super::encoder::Encoder;
use super::init;
use super::unet::UNet;
use crate::config::ModelConfig;
use crate::kernels::precision::{Precision, autocast};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// The two networks; z is all that passes between them.
#[derive(Module, Debug)]
pub struct Soda {
    /// Image to z.
    pub encoder: Encoder,
    /// (x_t, t, z) to eps_hat, or to v.
    pub unet: UNet,
    #[module(skip)]
    precision: Precision,
}

impl Soda {
    /// Freshly initialised networks: the same weights for the same seed on every device.
    pub fn new(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        init::initialise(Self::blank(config, device), seed)
    }

    /// The networks' structure: nearly all of their tensors take no memory until they are looked
    /// at.
    pub(crate) fn blank(config: &ModelConfig, device: &Device) -> Self {
        Self {
            encoder: Encoder::new(&config.encoder, config.z_dim, device),
            unet: UNet::new(config, device),
            precision: Precision::F32,
        }
    }

    /// The same networks, which compute in `precision` from now on. What they take and give is f32
    /// in any.
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// What they compute in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// z of normalised images: `[B, 3, side, side]` to `[B, Z]`.
    pub fn encode(&self, x_source: Tensor<4>) -> Tensor<2> {
        autocast(self.precision, || self.encoder.forward(x_source))
    }

    /// The encoder's pooled vector, which z is made of: normalised images `[B, 3, side, side]` to
    /// `[B, 8 * base]`.
    pub fn backbone(&self, x_source: Tensor<4>) -> Tensor<2> {
        autocast(self.precision, || self.encoder.backbone(x_source))
    }

    /// The sinusoids of `t` `[B]` in (0, 1], all that the denoiser sees of it: `[B, base]`.
    pub fn waves(&self, t: Tensor<1>) -> Tensor<2> {
        self.unet.waves(t)
    }

    /// z `[B, Z]` of pooled vectors that [`backbone`](Soda::backbone) gave.
    pub fn project(&self, pooled: Tensor<2>) -> Tensor<2> {
        autocast(self.precision, || self.encoder.project(pooled))
    }

    /// What every residual level of the denoiser puts out, averaged over its pixels: `[B, C]` each,
    /// in the order of [`UNetConfig::levels`](crate::config::UNetConfig::levels), from one pass.
    /// Arguments as for [`predict`](Soda::predict), with all of z.
    pub fn activations(&self, x_t: Tensor<4>, t: Tensor<1>, z: Tensor<2>) -> Vec<Tensor<2>> {
        autocast(self.precision, || self.unet.activations(x_t, t, z))
    }

    /// The predicted noise eps_hat `[B, 3, side, side]`, or v where the recipe says
    /// `diffusion.prediction = "v"`: the denoiser as the sampler sees it.
    /// [`Prediction`](crate::config::Prediction) makes x_0 and eps of either.
    ///
    /// - `x_t` `[B, 3, side, side]` (images, red green blue, rows, columns): sqrt(alpha_bar_t) x_0
    ///   + sqrt(1 - alpha_bar_t) eps, where x_0 is an image in [-1, 1] and eps ~ N(0, 1).
    /// - `t` `[B]`: the noise level as t / T in (0, 1], not the whole number t of 1..=T; 1 is pure
    ///   noise. [`Schedule::time`](crate::diffusion::Schedule::time) gives it. The network
    ///   multiplies it by `model.unet.time_scale`.
    /// - `z` `[B, Z]` as [`encode`](Self::encode) gives it.
    /// - `mask` `[B, 1]` or `[B, Z]`: 1 where z is seen, 0 where it is dropped (all of it dropped:
    ///   the prediction without z that guidance needs).
    /// - `view` `[B, 4]`: how x_t lies in the source view, for networks with view conditioning
    ///   (none: it is the source view).
    /// - `dropout_key`: in training only; `None` switches dropout off.
    ///
    /// eps_hat has the scale of eps: its mean square is near 1 where x_t is nearly pure noise,
    /// where v is near -x_0.
    ///
    /// To check it against another implementation, from a file that `soda train`, `soda import` or
    /// `soda export` wrote:
    ///
    /// ```
    /// let device = Device::flex(); // or soda::device::select("vulkan")?.device
    /// let weights = WeightsFile::open(Path::new("weights.safetensors"))?;
    /// let model = weights.model(&device)?;
    /// let (mean, std, side) = (weights.config.data.mean, weights.config.data.std, weights.config.data.side);
    /// // pixels: [B * 3 * side * side] values in [0, 1]; noise: as many, standard normal
    /// let channel = |i: usize| i / (side * side) % 3;
    /// let normalised: Vec<f32> = pixels.iter().enumerate().map(|(i, p)| (p - mean[channel(i)]) / std[channel(i)]).collect();
    /// let z = model.encode(Tensor::from_data(TensorData::new(normalised, [B, 3, side, side]), &device));
    ///
    /// let schedule = Schedule::new(&weights.config.diffusion);
    /// let (t, alpha_bar) = (300, schedule.alpha_bar(300) as f32);
    /// let x_t = pixels.iter().zip(&noise).map(|(p, e)| alpha_bar.sqrt() * (2.0 * p - 1.0) + (1.0 - alpha_bar).sqrt() * e).collect();
    /// let x_t = Tensor::from_data(TensorData::new(x_t, [B, 3, side, side]), &device);
    /// let t = Tensor::full([B], schedule.time(t), &device);
    /// let eps_hat = model.predict(x_t, t, z, Tensor::ones([B, 1], &device), None, None);
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
