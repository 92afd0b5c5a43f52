//! Layer masking (arXiv 2311.17901): the sections of z that the denoiser doesn't see in a training
//! step, and the whole z that is dropped for classifier-free guidance.

use crate::config::Config;
use crate::rng::Stream;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

/// A mask of z: `[B, width]`, 1 where z is kept and 0 where it is dropped.
pub struct Mask {
    values: Vec<f32>,
    width: usize,
}

impl Mask {
    /// Uploads the mask: `[B, Z]`, or `[B, 1]` if one value covers all of z.
    pub fn tensor(self, device: &Device) -> Tensor<2> {
        let shape = [self.values.len() / self.width, self.width];
        Tensor::from_data(TensorData::new(self.values, shape), device)
    }
}

/// Samples which dimensions of z each of `batch` images keeps. The whole z of an image is dropped
/// with probability `z_drop` (classifier-free guidance), otherwise each of its sections on its own
/// with probability `layer_mask` (layer masking). If layer_mask is 0, the mask has a width of 1.
pub fn draw_masks(batch: usize, config: &Config, stream: &mut Stream) -> Mask {
    let train = &config.train;
    let mut passes = |p: f64| if stream.random_bool(p) { 0.0 } else { 1.0 };
    if train.layer_mask == 0.0 {
        return Mask { values: (0..batch).map(|_| passes(train.z_drop)).collect(), width: 1 };
    }
    let sections = config.model.sections();
    let mut image = || {
        let whole = passes(train.z_drop);
        // Sampled for dropped images too, so that every image takes equally many random numbers.
        let kept: Vec<f32> = sections.iter().map(|_| whole * passes(train.layer_mask)).collect();
        sections
            .iter()
            .zip(kept)
            .flat_map(|(section, kept)| std::iter::repeat_n(kept, section.len()))
            .collect::<Vec<_>>()
    };
    Mask { values: (0..batch).flat_map(|_| image()).collect(), width: config.model.z_dim }
}
