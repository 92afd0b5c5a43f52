//! The training of the linear probe.

use serde::{Deserialize, Serialize};

/// The training of the linear probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// Passes over the features.
    pub epochs: usize,
    /// Features per step.
    pub batch_size: usize,
    /// Adam's learning rate, which decays to 0 along half a cosine.
    pub lr: f64,
}

impl Default for ProbeConfig {
    /// Returns the protocol `linear` (SODA on CIFAR-10), for features without a recipe.
    fn default() -> Self {
        Self { epochs: 15, batch_size: 128, lr: 1e-3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BUILT_IN, Config};

    #[test]
    fn every_built_in_recipe_uses_the_default_protocol() {
        for (name, text) in BUILT_IN {
            assert_eq!(
                Config::parse(text, name, &[]).unwrap().probe,
                ProbeConfig::default(),
                "{name}"
            );
        }
        let asked =
            Config::parse(BUILT_IN[0].1, BUILT_IN[0].0, &["probe.epochs=40".into()]).unwrap();
        assert_ne!(asked.probe, ProbeConfig::default());
    }
}
