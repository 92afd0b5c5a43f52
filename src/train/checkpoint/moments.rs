//! The optimizer's moments as tensors of a checkpoint.

use crate::error::{Error, Result};
use crate::kernels::adamw;
use crate::model::weights::{self, Tensors};
use crate::model::{Soda, parameters};
use crate::train::optim::{AdamW, Moments};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::HashMap;
use std::path::Path;

/// Copies the moments of `optim` to the host.
pub(super) fn optimizer_to_host(optim: &AdamW) -> Result<Tensors> {
    let mut names: Vec<_> = optim.moments.keys().collect();
    names.sort_unstable();
    let named = names.into_iter().flat_map(|name| {
        let m = &optim.moments[name];
        [("first", &m.first), ("second", &m.second)].map(|(kind, values)| parameters::Named {
            name: format!("{name}.{kind}"),
            shape: values.dims().to_vec(),
            values: values.clone(),
        })
    });
    let scale = optim.loss_scale.iter().map(|state| parameters::Named {
        name: LOSS_SCALE.to_owned(),
        shape: state.dims().to_vec(),
        values: state.clone(),
    });
    weights::to_host(named.chain(scale).collect())
}

/// The name of the state of dynamic loss scaling among the moments.
pub(super) const LOSS_SCALE: &str = "loss_scale";

/// Restores the optimizer of `model` from its moments. `path` names their origin in error
/// messages.
pub(super) fn optimizer(
    tensors: Tensors,
    path: &Path,
    model: &Soda,
    updates: u64,
    device: &Device,
) -> Result<AdamW> {
    let mut tensors: HashMap<String, Vec<f32>> =
        tensors.into_iter().map(|(name, _, values)| (name, values)).collect();
    let mut moments = HashMap::new();
    for parameter in parameters::collect(&model.valid()) {
        let mut take = |kind: &str| tensors.remove(&format!("{}.{kind}", parameter.name));
        let (Some(first), Some(second)) = (take("first"), take("second")) else {
            if parameters::is_statistic(&parameter.name) {
                continue;
            }
            return Err(Error::failed(format!(
                "{} lacks the moments of {}; this checkpoint belongs to another network",
                path.display(),
                parameter.name
            )));
        };
        let len = parameter.shape.iter().product::<usize>();
        if first.len() != len || second.len() != len {
            return Err(Error::failed(format!(
                "{}: the moments of {} have a different size; this checkpoint belongs to another \
                network",
                path.display(),
                parameter.name
            )));
        }
        let tensor = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [len]), device);
        moments.insert(parameter.name, Moments { first: tensor(first), second: tensor(second) });
    }
    let loss_scale = match tensors.remove(LOSS_SCALE) {
        Some(state) if state.len() == adamw::STATE => {
            Some(Tensor::from_floats(state.as_slice(), device))
        }
        Some(state) => {
            let found = state.len();
            return Err(Error::failed(format!(
                "{}: {LOSS_SCALE} has {found} values instead of {}",
                path.display(),
                adamw::STATE
            )));
        }
        None => None,
    };
    Ok(AdamW { moments, updates, loss_scale })
}
