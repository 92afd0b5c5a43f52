//! The exponential moving average (EMA) of the weights.

use crate::config::TrainConfig;
use crate::model::Soda;
use crate::model::parameters::{self, Named};
use burn::module::Module;
use burn::tensor::Tensor;
use std::collections::HashMap;

/// The EMA of the networks. BatchNorm statistics are copied, not averaged.
#[derive(Clone, Debug)]
pub struct Ema {
    /// The averages by parameter name, outside the networks, so that they can be updated in place.
    average: HashMap<String, Named>,
    /// The networks without their tensors.
    hollow: Soda,
    /// The number of updates so far.
    pub updates: u64,
}

impl Ema {
    /// Starts an EMA at the weights of `model`, as if after `updates` updates.
    pub fn new(model: &Soda, updates: u64) -> Self {
        let (hollow, tensors) = parameters::take(model.valid());
        Self {
            average: tensors.into_iter().map(|t| (t.name.clone(), t)).collect(),
            hollow,
            updates,
        }
    }

    /// Returns the averaged networks, without autodiff.
    pub fn model(&self) -> Soda {
        parameters::fill(self.hollow.clone(), &self.average)
    }

    /// Returns the decay of update number `n` (from 1): min(ema_decay, 1 - (1 + n)^-ema_power), or
    /// ema_decay if ema_power is 0.
    pub fn decay(config: &TrainConfig, n: u64) -> f64 {
        match config.ema_power {
            0.0 => config.ema_decay,
            power => config.ema_decay.min(1.0 - (1.0 + n as f64).powf(-power)),
        }
    }

    /// Checks whether parameter `name` has one dimension: a gain, a shift or a bias.
    pub(super) fn is_vector(&self, name: &str) -> bool {
        self.average[name].shape.len() < 2
    }

    /// Returns the average of parameter `name`, flattened.
    pub(super) fn average(&self, name: &str) -> Tensor<1> {
        self.average[name].values.clone()
    }

    /// Replaces the average of parameter `name` by the result of `update`. Both are flattened.
    /// Nothing else holds the tensor meanwhile, so it may be updated in place.
    pub(super) fn update<T>(
        &mut self,
        name: &str,
        update: impl FnOnce(Tensor<1>) -> (Tensor<1>, T),
    ) -> T {
        let (key, old) = self.average.remove_entry(name).expect("every parameter has its average");
        let (values, out) = update(old.values);
        self.average.insert(key, Named { values, ..old });
        out
    }

    /// Copies the BatchNorm statistics of `model`.
    pub(super) fn copy_statistics(&mut self, model: &Soda) {
        let tensors = parameters::collect(&model.valid());
        self.average.extend(
            tensors
                .into_iter()
                .filter(|t| parameters::is_statistic(&t.name))
                .map(|t| (t.name.clone(), t)),
        );
    }
}
