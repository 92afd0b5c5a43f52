//! Numbers that are the same in every pass, uploaded once: an upload ends the submission that is being filled.

use burn::tensor::{Device, Tensor, TensorData};
use std::sync::{Mutex, PoisonError};

/// What was uploaded so far: a row, how often it stands there, and the tensor, without autodiff.
static KNOWN: Mutex<Vec<(Vec<f32>, usize, Tensor<2>)>> = Mutex::new(Vec::new());

/// `row`, `[N]`, as `rows` equal rows `[rows, N]` on `device`, untracked. They are kept for as long as the process runs: for a handful of
/// small ones.
pub(super) fn constant(row: Vec<f32>, rows: usize, device: &Device) -> Tensor<2> {
    let plain = device.clone().inner();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = known.iter().find(|(other, n, tensor)| *n == rows && *other == row && tensor.device() == plain);
    let tensor = match found {
        Some((_, _, tensor)) => tensor.clone(),
        None => {
            let tensor = Tensor::from_data(TensorData::new(row.repeat(rows), [rows, row.len()]), &plain);
            known.push((row, rows, tensor.clone()));
            tensor
        }
    };
    if device.is_autodiff() { Tensor::from_inner(tensor) } else { tensor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_on_one_device_are_one_upload() {
        let device = Device::flex();
        for device in [device.clone(), device.clone().autodiff()] {
            for (row, rows) in [(vec![17.25, 1.0], 2), (vec![17.25, 2.0], 2), (vec![17.25, 1.0], 1), (vec![17.25, 1.0], 2)] {
                let tensor = constant(row.clone(), rows, &device);
                assert_eq!((tensor.dims(), tensor.device().is_autodiff()), ([rows, 2], device.is_autodiff()));
                assert_eq!(tensor.into_data().try_into_vec::<f32>().expect("f32"), row.repeat(rows));
            }
        }
        let known = KNOWN.lock().expect("no panic");
        assert_eq!(known.iter().filter(|(row, ..)| row.first() == Some(&17.25)).count(), 3);
    }
}
