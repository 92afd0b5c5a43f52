//! Exponential moving average of the weights.

use crate::config::TrainConfig;
use crate::model::{Soda, parameters};
use burn::module::Module;
use burn::tensor::Tensor;
use std::collections::HashMap;

/// The averaged networks. BatchNorm statistics are copied, not averaged.
#[derive(Clone, Debug)]
pub struct Ema {
    /// The average, without autodiff.
    pub model: Soda,
    /// Updates so far.
    pub updates: u64,
}

impl Ema {
    /// Starts at the weights of `model`.
    pub fn new(model: &Soda) -> Self {
        Self { model: model.valid(), updates: 0 }
    }

    /// The decay of update number `n` (from 1): min(ema_decay, 1 - (1 + n)^-ema_power).
    pub fn decay(config: &TrainConfig, n: u64) -> f64 {
        match config.ema_power {
            0.0 => config.ema_decay,
            power => config.ema_decay.min(1.0 - (1.0 + n as f64).powf(-power)),
        }
    }

    /// average = decay * average + (1 - decay) * weights; `model` without autodiff.
    pub fn update(&mut self, model: &Soda, config: &TrainConfig) {
        self.updates += 1;
        let decay = Self::decay(config, self.updates);
        let weights: HashMap<String, Tensor<1>> = parameters::collect(model).into_iter().map(|t| (t.name, t.values)).collect();
        self.model = parameters::replace(self.model.clone(), |name, average| {
            let value = weights.get(name)?.clone();
            Some(if parameters::is_statistic(name) { value } else { average * decay + value * (1.0 - decay) })
        });
    }
}
