//! Tensors that are constant across passes, uploaded only once, because an upload ends the
//! submission that is being filled.

use crate::kernels::plan;
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::{Mutex, PoisonError};

/// The uploads so far: a row, the number of times it is repeated, and the tensor, without autodiff.
static KNOWN: Mutex<Vec<(Vec<f32>, usize, Tensor<2>)>> = Mutex::new(Vec::new());

/// The number of batch sizes that are kept per row; a run has two or three.
const SIZES: usize = 8;

/// Returns `row` `[N]` repeated `rows` times, `[rows, N]` on `device`, untracked.
///
/// The tensors stay cached, for each row those of the latest [`SIZES`] values of `rows`, so use
/// this only for a handful of small rows.
pub(super) fn constant(row: Vec<f32>, rows: usize, device: &Device) -> Tensor<2> {
    let plain = device.clone().inner();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = known
        .iter()
        .find(|(other, n, tensor)| *n == rows && *other == row && tensor.device() == plain);
    let tensor = match found {
        Some((_, _, tensor)) => tensor.clone(),
        None => {
            let tensor =
                Tensor::from_data(TensorData::new(row.repeat(rows), [rows, row.len()]), &plain);
            let of_row =
                known.iter().filter(|(other, _, tensor)| *other == row && tensor.device() == plain);
            if of_row.count() >= SIZES {
                let oldest = known
                    .iter()
                    .position(|(other, _, tensor)| *other == row && tensor.device() == plain);
                oldest.map(|i| known.remove(i));
            }
            known.push((row.clone(), rows, tensor.clone()));
            tensor
        }
    };
    plan::constant(&tensor, || row.repeat(rows));
    if device.is_autodiff() { Tensor::from_inner(tensor) } else { tensor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_on_one_device_are_uploaded_once() {
        let device = Device::flex();
        for device in [device.clone(), device.clone().autodiff()] {
            for (row, rows) in [
                (vec![17.25, 1.0], 2),
                (vec![17.25, 2.0], 2),
                (vec![17.25, 1.0], 1),
                (vec![17.25, 1.0], 2),
            ] {
                let tensor = constant(row.clone(), rows, &device);
                assert_eq!(
                    (tensor.dims(), tensor.device().is_autodiff()),
                    ([rows, 2], device.is_autodiff())
                );
                assert_eq!(
                    tensor.into_data().try_into_vec::<f32>().expect("f32"),
                    row.repeat(rows)
                );
            }
        }
        for rows in 1..=3 * SIZES {
            constant(vec![18.25], rows, &device);
        }
        let known = KNOWN.lock().expect("no panic");
        assert_eq!(known.iter().filter(|(row, ..)| row.first() == Some(&17.25)).count(), 3);
        let sizes: Vec<usize> =
            known.iter().filter(|(row, ..)| row[..] == [18.25]).map(|(_, rows, _)| *rows).collect();
        assert_eq!(sizes, (2 * SIZES + 1..=3 * SIZES).collect::<Vec<_>>());
    }
}
