//! The whole state of training, and how it begins.

use super::position::{Continued, Position, trained_beside};
use crate::config::{Config, differences};
use crate::device::lasting;
use crate::error::{Error, Hint, Result};
use crate::model::Soda;
use crate::model::weights::{Trained, WeightsFile};
use crate::train::ema::Ema;
use crate::train::optim::AdamW;
use crate::train::tally::Tally;
use burn::tensor::Device;

/// The whole state of training.
pub struct State {
    /// The networks in training (with autodiff).
    pub model: Soda,
    /// Their EMA.
    pub ema: Ema,
    /// The optimizer with its moments.
    pub optim: AdamW,
    /// The progress of the run.
    pub position: Position,
    /// The count of the steps that the device has done in this process.
    pub tally: Tally,
}

impl State {
    /// Starts from random weights on `device` (without autodiff).
    pub fn new(config: &Config, data_sha256: &str, device: &Device) -> Self {
        let model = || Soda::new(&config.model, config.seed, &device.clone().autodiff());
        lasting(device, || Self::beginning(model(), data_sha256, device))
    }

    /// Starts from `weights`, with new moments and a new EMA.
    ///
    /// # Errors
    /// If the networks of `config` or its normalisation of images differ from those of the weights,
    /// or these have no denoiser.
    pub fn trained(
        config: &Config,
        weights: &WeightsFile,
        data_sha256: &str,
        device: &Device,
    ) -> Result<Self> {
        check_networks(config, weights)?;
        weights.require_denoiser()?;
        lasting(device, || {
            Ok(Self::beginning(
                weights.model_of(&config.model, &device.clone().autodiff())?,
                data_sha256,
                device,
            ))
        })
    }

    /// Continues the training that made `weights`, which serve both as the EMA and as the networks
    /// in training. Step and images seen are taken over, and so the random streams. Moments start
    /// from scratch, and with them the warmup of the learning rate.
    ///
    /// # Errors
    /// As [`State::trained`], and if the weights don't record how long they were trained, or were
    /// trained on other data.
    pub fn continued(
        config: &Config,
        weights: &WeightsFile,
        data_sha256: &str,
        device: &Device,
    ) -> Result<Self> {
        let path = weights.path.display();
        let Some(Trained { step, images, data_sha256: own }) =
            weights.trained().or_else(|| trained_beside(&weights.path))
        else {
            return Err(Error::usage(format!(
                "{path} doesn't record its step and images seen, so its training can't be \
                continued; {}",
                Hint::StartAtZero
            )));
        };
        if own != data_sha256 {
            return Err(Error::usage(format!(
                "{path} was trained on other data (checksum {own:.16}.. instead of \
                {data_sha256:.16}..), so its training can't be continued on this data; {}, or {}",
                Hint::SameData,
                Hint::StartAtZero
            )));
        }
        let steps = config.train.steps as u64;
        if step >= steps {
            return Err(Error::usage(format!(
                "{path} has already been trained for {step} steps, and train.steps = {steps}; to \
                continue, {}",
                Hint::Set(format!("train.steps={}", 2 * step))
            )));
        }
        let state = Self::trained(config, weights, data_sha256, device)?;
        let continued = Some(Continued { step, images });
        let position = Position {
            step,
            images,
            continued,
            progress: step as f64 / steps as f64,
            ..state.position
        };
        Ok(Self { ema: Ema::new(&state.ema.model(), step), position, ..state })
    }

    fn beginning(model: Soda, data_sha256: &str, device: &Device) -> Self {
        Self {
            ema: Ema::new(&model, 0),
            model,
            optim: AdamW::default(),
            position: Position {
                step: 0,
                images: 0,
                updates: 0,
                seconds: 0.0,
                progress: 0.0,
                loss_first: None,
                finished: false,
                planned: 0,
                data_sha256: data_sha256.to_owned(),
                continued: None,
            },
            tally: Tally::new(device),
        }
    }
}

/// Refuses `weights` of other networks than those of `config`.
///
/// # Errors
/// See [`State::trained`].
pub fn check_networks(config: &Config, weights: &WeightsFile) -> Result<()> {
    let Some(what) = other_networks(&weights.config, config) else { return Ok(()) };
    let of_model = |difference: &String| difference.starts_with("model.");
    let changed: Vec<_> =
        differences(&weights.config, config).into_iter().filter(of_model).collect();
    let changed =
        if changed.is_empty() { String::new() } else { format!(" ({})", changed.join(", ")) };
    Err(Error::usage(format!(
        "{} differs from the recipe in {what}{changed}; {}",
        weights.path.display(),
        Hint::RecipeOfWeights
    )))
}

/// Returns the part of two recipes that makes the weights of one useless to the other. Dropout may
/// differ, and so may the sides of the images, on which convolutions don't depend, as long as the
/// same stages have attention.
pub fn other_networks(one: &Config, other: &Config) -> Option<&'static str> {
    let mut model = one.model.clone();
    model.unet.dropout = other.model.unet.dropout;
    if model.sides != other.model.sides {
        let attention = |config: &Config| {
            let side = |stage: usize| config.model.sides.target >> stage;
            (0..config.model.unet.multipliers.len())
                .map(|s| config.model.unet.attention.contains(&side(s)))
                .collect::<Vec<_>>()
        };
        if attention(one) != attention(other) {
            return Some(
                "stages with attention (model.unet.attention names sides of feature maps)",
            );
        }
        (model.sides, model.unet.attention) =
            (other.model.sides, other.model.unet.attention.clone());
    }
    if model != other.model {
        return Some("[model]");
    }
    if one.diffusion.prediction != other.diffusion.prediction {
        return Some("predictions (diffusion.prediction)");
    }
    let normalised = |config: &Config| (config.data.mean, config.data.std);
    (normalised(one) != normalised(other)).then_some("data.mean and data.std")
}
