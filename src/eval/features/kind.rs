//! The kinds of features: `z`, `backbone`, `denoiser:BLOCK@T`.

use crate::config::Config;
use crate::error::{Error, Result};
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// Where in the networks a feature vector is taken from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FeatureKind {
    /// z, the encoder's output.
    Z,
    /// The encoder's pooled vector before its last layer.
    Backbone,
    /// The output of one residual level of the denoiser, averaged over its pixels, for the noised
    /// image (Xiang et al. 2023, "Denoising Diffusion Autoencoders are Unified Self-supervised
    /// Learners"; see [`Extractor`](super::Extractor)).
    Denoiser {
        /// Name of the level, see [`UNetConfig::levels`](crate::config::UNetConfig::levels).
        block: String,
        /// The noise level, 1 to T.
        t: usize,
    },
}

impl FeatureKind {
    /// Returns the index of the level among those of the denoiser; `None` for features of the
    /// encoder.
    pub(super) fn level(&self, config: &Config) -> Option<usize> {
        match self {
            Self::Denoiser { block, .. } => {
                config.model.unet.levels().iter().position(|(name, _)| name == block)
            }
            _ => None,
        }
    }

    /// Checks that networks of the recipe `config` have these features.
    ///
    /// # Errors
    /// If the level is unknown (the message lists the levels) or the noise level is out of range.
    pub fn check(&self, config: &Config) -> Result<()> {
        let Self::Denoiser { block, t } = self else { return Ok(()) };
        if self.level(config).is_none() {
            let levels = config.model.unet.levels();
            let names: Vec<&str> = levels.iter().map(|(name, _)| name.as_str()).collect();
            let names = names.join(", ");
            return Err(Error::usage(format!(
                "{self}: this denoiser has no block {block:?}; it has {names}"
            )));
        }
        let steps = config.diffusion.steps;
        if !(1..=steps).contains(t) {
            return Err(Error::usage(format!(
                "{self}: T must be 1 to {steps}, the noise levels of these weights"
            )));
        }
        Ok(())
    }

    /// Returns the length D of a vector for the recipe `config`.
    ///
    /// # Errors
    /// As [`check`](FeatureKind::check).
    pub fn dim(&self, config: &Config) -> Result<usize> {
        self.check(config)?;
        Ok(match (self, self.level(config)) {
            (_, Some(level)) => config.model.unet.levels()[level].1,
            (Self::Backbone, _) => 8 * config.model.encoder.base,
            _ => config.model.z_dim,
        })
    }
}

impl FromStr for FeatureKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let denoiser = |rest: &str| {
            let (block, t) = rest.split_once('@')?;
            let t = t.parse().ok()?;
            (!block.is_empty()).then(|| Self::Denoiser { block: block.to_owned(), t })
        };
        let block = text.strip_prefix("denoiser:").filter(|block| !block.is_empty());
        if block.is_some_and(|block| !block.contains('@')) {
            return Err(Error::usage(format!(
                "{text}: @T is missing, the noise level of denoiser:BLOCK@T; for example {text}@11"
            )));
        }
        match text {
            "z" => Some(Self::Z),
            "backbone" => Some(Self::Backbone),
            _ => text.strip_prefix("denoiser:").and_then(denoiser),
        }
        .ok_or_else(|| {
            Error::usage(format!(
                "{text:?} is not a kind of features: use z, backbone or denoiser:BLOCK@T, such as \
                 denoiser:up1.0@11"
            ))
        })
    }
}

impl Display for FeatureKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Z => write!(f, "z"),
            Self::Backbone => write!(f, "backbone"),
            Self::Denoiser { block, t } => write!(f, "denoiser:{block}@{t}"),
        }
    }
}
