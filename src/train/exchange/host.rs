//! Transfers between the device and the host.

use crate::error::{Error, Result};
use crate::model::parameters;
use crate::train::checkpoint::State;
use crate::train::optim::ByName;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::HashMap;

/// Returns the weights by name, without autodiff.
pub(super) fn by_name(state: &State) -> HashMap<String, Tensor<1>> {
    parameters::collect(&state.model.valid()).into_iter().map(|t| (t.name, t.values)).collect()
}

/// Reads `tensor`; `doing` names the work for error messages.
pub(super) fn read(tensor: Tensor<1>, doing: &str) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(|e| Error::device(doing, &e))
}

/// Reads the values of `tensors`, concatenated, into `values`.
pub(super) fn read_into(values: &mut Vec<f32>, tensors: Vec<Tensor<1>>, doing: &str) -> Result<()> {
    values.clear();
    let failed = |e: &dyn std::fmt::Display| Error::device(doing, e);
    // An adapter is read once for all tensors. On the CPU each tensor is in host memory already.
    if tensors.first().is_some_and(|tensor| tensor.device() != Device::flex()) {
        *values = read(Tensor::cat(tensors, 0), doing)?;
        return Ok(());
    }
    for tensor in tensors {
        let data = tensor.try_into_data_as::<f32>().map_err(|e| failed(&e))?;
        values.extend_from_slice(data.as_slice().map_err(|e| failed(&format!("{e:?}")))?);
    }
    Ok(())
}

/// Reads the values of `tensors`, concatenated. There may be no tensor.
pub(super) fn read_all(tensors: Vec<Tensor<1>>, doing: &str) -> Result<Vec<f32>> {
    if tensors.is_empty() { Ok(Vec::new()) } else { read(Tensor::cat(tensors, 0), doing) }
}

/// Writes `values` to the device in one piece, and adds the tensors named in `owned` to `into`.
pub(super) fn upload<'a>(
    owned: impl Iterator<Item = &'a (String, usize)>,
    values: Vec<f32>,
    device: &Device,
    into: &mut ByName,
) {
    if values.is_empty() {
        return;
    }
    let count = values.len();
    let all = Tensor::<1>::from_data(TensorData::new(values, [count]), device);
    let mut start = 0;
    for (name, len) in owned {
        into.insert(name.clone(), all.clone().narrow(0, start, *len));
        start += len;
    }
}
