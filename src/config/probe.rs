//! How the linear probe is trained.

use serde::{Deserialize, Serialize};

/// Training of the linear probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// Passes over the features.
    pub epochs: usize,
    /// Features a step.
    pub batch_size: usize,
    /// Adam's learning rate, falling to 0 along half a cosine.
    pub lr: f64,
}

impl Default for ProbeConfig {
    /// The protocol `linear` (SODA on CIFAR-10), for features that no recipe belongs to.
    fn default() -> Self {
        Self { epochs: 15, batch_size: 128, lr: 1e-3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BUILT_IN, Config};

    #[test]
    fn every_recipe_scores_by_the_protocol_so_that_scores_compare() {
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
