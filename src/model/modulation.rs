//! How t and z reach a residual block: each through SiLU and a linear layer that gives every channel a scale and a shift.

use crate::config::AdaGnScale;
use crate::kernels::linear::dense;
use burn::nn::Linear;
use burn::tensor::{Tensor, activation::silu};

/// `embedding` `[B, from]` to `[B, 2C]`, scale ‖ shift, with the 1 of "1 + scale" already added.
pub fn scale_shift(linear: &Linear, embedding: Tensor<2>, convention: AdaGnScale) -> Tensor<2> {
    let out = dense(linear, silu(embedding));
    match convention {
        AdaGnScale::Plain => out,
        AdaGnScale::OnePlus => {
            let [batch, both] = out.dims();
            let one = Tensor::ones([batch, both / 2], &out.device());
            let zero = Tensor::zeros([batch, both / 2], &out.device());
            out + Tensor::cat(vec![one, zero], 1)
        }
    }
}
