//! Layer masking: the sections of z that the denoiser doesn't see in a training step, and the whole z
//! that classifier-free guidance drops (arXiv 2311.17901).

use crate::config::Config;
use crate::rng::Stream;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

/// Values of `[B, width]`, 1 where z passes.
pub struct Mask {
    values: Vec<f32>,
    width: usize,
}

impl Mask {
    /// `[B, Z]`, or `[B, 1]` where all of z has one value.
    pub fn tensor(self, device: &Device) -> Tensor<2> {
        let shape = [self.values.len() / self.width, self.width];
        Tensor::from_data(TensorData::new(self.values, shape), device)
    }
}

/// Samples which dimensions of z each of `batch` images keeps: an image's whole z is dropped with probability `z_drop` (classifier-free guidance), else each of
/// its sections by itself with probability `layer_mask` (layer masking). The mask has a width of 1
/// where layer_mask is 0.
pub fn draw_masks(batch: usize, config: &Config, stream: &mut Stream) -> Mask {
    let train = &config.train;
    let mut passes = |p: f64| if stream.random_bool(p) { 0.0 } else { 1.0 };
    if train.layer_mask == 0.0 {
        return Mask { values: (0..batch).map(|_| passes(train.z_drop)).collect(), width: 1 };
    }
    let sections = config.model.sections();
    let mut image = || {
        let whole = passes(train.z_drop);
        // Drawn for dropped images too, so that every image takes as many numbers of the stream.
        let kept: Vec<f32> = sections.iter().map(|_| whole * passes(train.layer_mask)).collect();
        sections
            .iter()
            .zip(kept)
            .flat_map(|(section, kept)| std::iter::repeat_n(kept, section.len()))
            .collect::<Vec<_>>()
    };
    Mask { values: (0..batch).flat_map(|_| image()).collect(), width: config.model.z_dim }
}
