//! AdaGN in plain tensor operations: the oracle of the fused kernels, on any backend.

use super::{Activation, AdaGnOptions};
use crate::kernels::math;
use burn::tensor::{Tensor, TensorData, activation::silu};

/// As [`super::ada_gn`], composed. The dropout mask is made on the host.
pub fn ada_gn(
    h: Tensor<4>,
    t_mod: Tensor<2>,
    z_mod: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    options: AdaGnOptions,
) -> Tensor<4> {
    let normed = normalise(h, gamma, beta, &options);
    let modulated = modulate(modulate(normed, t_mod), z_mod);
    finish(modulated, &options)
}

/// As [`super::group_norm`], composed.
pub fn group_norm(h: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>, options: AdaGnOptions) -> Tensor<4> {
    let normed = normalise(h, gamma, beta, &options);
    finish(normed, &options)
}

/// gamma * (h - mean) / sqrt(var + eps) + beta over each group.
fn normalise(h: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>, options: &AdaGnOptions) -> Tensor<4> {
    let [b, c, height, width] = h.dims();
    let grouped = h.reshape([b, options.groups, c / options.groups * height * width]);
    let centred = grouped.clone() - grouped.mean_dim(2);
    let variance = centred.clone().square().mean_dim(2);
    let xhat = (centred / (variance + options.eps).sqrt()).reshape([b, c, height, width]);
    xhat * gamma.reshape([1, c, 1, 1]) + beta.reshape([1, c, 1, 1])
}

/// scale * x + shift, `scale_shift` `[B, 2C]`.
fn modulate(x: Tensor<4>, scale_shift: Tensor<2>) -> Tensor<4> {
    let [b, c, _, _] = x.dims();
    let scale = scale_shift.clone().narrow(1, 0, c).reshape([b, c, 1, 1]);
    let shift = scale_shift.narrow(1, c, c).reshape([b, c, 1, 1]);
    x * scale + shift
}

fn finish(u: Tensor<4>, options: &AdaGnOptions) -> Tensor<4> {
    let out = match options.activation {
        Activation::None => u,
        Activation::Silu => silu(u),
    };
    let Some(dropout) = options.dropout else { return out };
    let [b, c, height, width] = out.dims();
    let scale = 1.0 / (1.0 - dropout.p);
    let mask: Vec<f32> = (0..(b * height * width * c) as u32)
        .map(|element| if math::hash(dropout.key, element) < dropout.threshold() { 0.0 } else { scale })
        .collect();
    let mask = Tensor::<4>::from_data(TensorData::new(mask, [b, height, width, c]), &out.device());
    out * mask.permute([0, 3, 1, 2])
}
