//! Features of images under a frozen encoder.

use super::linear::Features;
use crate::config::DataConfig;
use crate::data::{Images, views};
use crate::error::{Error, Result};
use crate::model::Soda;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

/// Images encoded at a time.
const BATCH: usize = 128;

/// z of the images `indices`, without augmentation; with `flips`, also of each image's mirror image, appended.
///
/// # Errors
/// If the device can't be read.
pub fn encode(model: &Soda, images: &Images, indices: &[usize], data: &DataConfig, flips: bool, device: &Device) -> Result<Features> {
    let mut values = Vec::new();
    let mut labels = Vec::new();
    for flip in [false, true].into_iter().take(1 + usize::from(flips)) {
        for batch in indices.chunks(BATCH) {
            let x = source_tensor(images, batch, data, flip, device);
            let z = model.encode(x).try_into_vec_as::<f32>();
            values.extend(z.map_err(|e| Error::failed(format!("cannot read the features from the device: {e}")))?);
            labels.extend(batch.iter().map(|&i| images.label(i)));
        }
    }
    Ok(Features { dim: values.len() / labels.len().max(1), values, labels })
}

/// Raw pixels in [0, 1] as features: the baseline that knows nothing.
pub fn pixels(images: &Images, indices: &[usize], flips: bool) -> Features {
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for flip in [false, true].into_iter().take(1 + usize::from(flips)) {
        for &i in indices {
            let image = images.image(i);
            for row in image.chunks(32) {
                let value = |p: &u8| f32::from(*p) / 255.0;
                if flip { values.extend(row.iter().rev().map(value)) } else { values.extend(row.iter().map(value)) }
            }
            labels.push(images.label(i));
        }
    }
    Features { dim: 3072, values, labels }
}

/// `model` (without autodiff) with BatchNorm statistics of the plain training images instead of its own: what makes a
/// randomly initialised encoder a fair baseline.
pub fn calibrate(model: Soda, images: &Images, indices: &[usize], data: &DataConfig, device: &Device) -> Soda {
    // A forward pass on an autodiff device updates the statistics; 60 batches at momentum 0.1 forget the start (0.9^60 = 0.2 %).
    let training = model.train();
    let autodiff = device.clone().autodiff();
    for batch in indices.chunks(BATCH).cycle().take(60) {
        training.encode(source_tensor(images, batch, data, false, &autodiff));
    }
    training.valid()
}

fn source_tensor(images: &Images, indices: &[usize], data: &DataConfig, flip: bool, device: &Device) -> Tensor<4> {
    let mut values = vec![0.0; indices.len() * 3072];
    views::plain_source(images, indices, data, flip, &mut values);
    Tensor::from_data(TensorData::new(values, [indices.len(), 3, 32, 32]), device)
}
