//! How t and z reach a residual block: each through SiLU (once for all blocks) and a linear layer of the block's own that gives
//! every channel a scale and a shift.

use crate::config::AdaGnScale;
use crate::kernels::linear::dense;
use burn::nn::Linear;
use burn::tensor::{Tensor, TensorData};

/// `activated` `[B, from]`, an embedding after its SiLU, to `[B, 2C]`, scale ‖ shift, with the 1 of "1 + scale" already added.
pub fn scale_shift(linear: &Linear, activated: Tensor<2>, convention: AdaGnScale) -> Tensor<2> {
    let out = dense(linear, activated);
    match convention {
        AdaGnScale::Plain => out,
        AdaGnScale::OnePlus => {
            let [_, both] = out.dims();
            let ones: Vec<f32> = (0..both).map(|i| if i < both / 2 { 1.0 } else { 0.0 }).collect();
            let ones = Tensor::from_data(TensorData::new(ones, [1, both]), &out.device());
            out + ones
        }
    }
}
