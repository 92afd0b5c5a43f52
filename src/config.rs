//! The recipe of a run: one typed structure, read from TOML. A recipe file states its values; it
//! may omit only those that have a default here.

mod built_in;
mod check;
mod data;
mod difference;
mod diffusion;
mod encoder;
mod message;
mod model;
mod probe;
mod sample;
mod side;
mod train;

pub use built_in::BUILT_IN;
pub use data::{DataConfig, ViewConfig, Views};
pub use difference::differences;
pub use diffusion::{DiffusionConfig, Levels, LossWeight, Prediction, ScheduleKind};
pub use encoder::{EncoderConfig, Stem};
pub use model::{AdaGnScale, ModelConfig, UNetConfig};
pub use probe::ProbeConfig;
pub use sample::{Guidance, SampleConfig, Sampler};
pub use side::{DEFAULT_SIDE, Sides, check_side};
pub use train::{LrSchedule, MicroBatch, OnSaveError, Precision, TrainConfig};

use crate::error::{Error, Hint, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A whole recipe, as in `configs/*.toml`. Unknown keys are rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The single seed of the run: initial weights, image order, views, t, eps, masks, dropout.
    pub seed: u64,
    /// Images and views.
    pub data: DataConfig,
    /// The networks.
    pub model: ModelConfig,
    /// The forward process.
    pub diffusion: DiffusionConfig,
    /// Optimisation, logging and checkpoints.
    pub train: TrainConfig,
    /// Sampling.
    pub sample: SampleConfig,
    /// The linear probe.
    pub probe: ProbeConfig,
}

impl Config {
    /// Returns the recipe for one of several processes, which takes `images` images of each batch.
    pub fn for_images(&self, images: usize) -> Self {
        let mut own = self.clone();
        own.train.batch_size = images;
        own
    }

    /// Reads `path`, applies the `--set key=value` overrides in order and checks every value.
    ///
    /// # Errors
    /// For an unreadable file, an unknown key, a wrong type or an impossible value; the message
    /// names the file and the field.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
        Self::parse(&text, &path.display().to_string(), overrides)
    }

    /// Like [`Config::load`], but from text; error messages call it `origin`.
    pub fn parse(text: &str, origin: &str, overrides: &[String]) -> Result<Self> {
        let mut table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| message::of(origin, &[], &e))?;
        for item in overrides {
            set(&mut table, item)?;
        }
        // Printed and parsed again, so that messages quote the offending line, overrides included.
        let resolved =
            toml::to_string(&table).map_err(|e| Error::usage(format!("{origin}: {e}")))?;
        let config: Config =
            toml::from_str(&resolved).map_err(|e| message::of(origin, overrides, &e))?;
        config.settled().map_err(|e| message::of_check(origin, overrides, &e))
    }

    /// Returns the recipe after a program has changed fields of it: with every value checked, and
    /// the sides of the networks ([`ModelConfig::sides`]) set to those of the views.
    /// [`train`](fn@crate::train::run::train) calls it first.
    ///
    /// # Errors
    /// For an impossible value; the message names the field.
    ///
    /// ```
    /// let mut config = soda::config::Config::named("quick".as_ref(), &[])?;
    /// config.data.side = 64;
    /// config.train.batch_size = 16;
    /// let config = config.checked()?;
    /// assert_eq!(config.model.sides.source, 64);
    /// # Ok::<(), soda::error::Error>(())
    /// ```
    pub fn checked(self) -> Result<Self> {
        self.settled().map_err(|e| Error::usage(format!("the recipe: {e}")))
    }

    fn settled(mut self) -> std::result::Result<Self, String> {
        self.model.sides = self.data.sides();
        self.check()?;
        Ok(self)
    }

    /// Describes the loss in words.
    pub fn loss_in_words(&self) -> String {
        let weighted = if self.train.loss_weight == LossWeight::Uniform {
            ""
        } else {
            ", weighted by noise level"
        };
        let penalty = if self.train.decorrelation > 0.0 { ", with a penalty on z" } else { "" };
        format!("mean squared error on {}{weighted}{penalty}", self.diffusion.prediction.name())
    }

    /// Returns the resolved recipe as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a Config is always representable as TOML")
    }
}

/// Applies one `key.path=value`; the value is TOML, or else taken as a string.
fn set(table: &mut toml::Table, item: &str) -> Result<()> {
    let Some((key, value)) = item.split_once('=') else {
        return Err(Error::usage(format!(
            "{} {item}: expected key=value, for example train.batch_size=64",
            Hint::Override
        )));
    };
    let value = value.trim();
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut path: Vec<&str> = key.trim().split('.').collect();
    let last = path.pop().expect("split yields at least one part");
    let mut at = table;
    for part in path {
        at = match at.get_mut(part) {
            Some(toml::Value::Table(inner)) => inner,
            _ => {
                return Err(Error::usage(format!(
                    "{} {item}: there is no section {part:?} in the configuration",
                    Hint::Override
                )));
            }
        };
    }
    match (at.get(last), value) {
        // Accept 1 for 1.0.
        (Some(toml::Value::Float(_)), toml::Value::Integer(i)) => {
            at.insert(last.into(), toml::Value::Float(i as f64))
        }
        (_, value) => at.insert(last.into(), value),
    };
    Ok(())
}
