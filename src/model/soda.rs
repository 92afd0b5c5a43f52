//! SODA: encoder and denoiser together.

use super::encoder::Encoder;
use super::init;
use super::unet::UNet;
use crate::config::ModelConfig;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// The two networks; z is all that passes between them.
#[derive(Module, Debug)]
pub struct Soda {
    /// Image to z.
    pub encoder: Encoder,
    /// (x_t, t, z) to eps_hat.
    pub unet: UNet,
}

impl Soda {
    /// Freshly initialised networks: the same weights for the same seed on every device.
    pub fn new(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        let blank = Self { encoder: Encoder::new(&config.encoder, config.z_dim, device), unet: UNet::new(config, device) };
        init::initialise(blank, seed)
    }

    /// z of normalised images: `[B, 3, 32, 32]` to `[B, Z]`.
    pub fn encode(&self, x_source: Tensor<4>) -> Tensor<2> {
        self.encoder.forward(x_source)
    }

    /// The encoder's pooled vector, which z is a linear function of: normalised images `[B, 3, 32, 32]` to `[B, 8 * base]`.
    pub fn backbone(&self, x_source: Tensor<4>) -> Tensor<2> {
        self.encoder.backbone(x_source)
    }

    /// z `[B, Z]` of pooled vectors that [`backbone`](Soda::backbone) gave.
    pub fn project(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.encoder.project(pooled)
    }

    /// What every residual level of the denoiser puts out, averaged over its pixels: `[B, C]` each, in the order of
    /// [`UNetConfig::levels`](crate::config::UNetConfig::levels), from one pass. Arguments as for
    /// [`predict_eps`](Soda::predict_eps), with all of z.
    pub fn activations(&self, x_t: Tensor<4>, t: Tensor<1>, z: Tensor<2>) -> Vec<Tensor<2>> {
        self.unet.activations(x_t, t, z)
    }

    /// The predicted noise. `x_t` `[B, 3, 32, 32]`; `t` `[B]`, t / T in (0, 1]; `z` `[B, Z]`; `mask` `[B, 1]` or `[B, Z]`, zero
    /// where z is dropped; `view` `[B, 4]`, how x_t lies in the source view, for networks with view conditioning (none: it is the
    /// source view); `dropout_key` in training only.
    pub fn predict_eps(
        &self,
        x_t: Tensor<4>,
        t: Tensor<1>,
        z: Tensor<2>,
        mask: Tensor<2>,
        view: Option<Tensor<2>>,
        dropout_key: Option<u64>,
    ) -> Tensor<4> {
        self.unet.forward(x_t, t, z * mask, view, dropout_key)
    }
}
