//! AdaGN in operations that every backend has: the reference that the fused kernels are tested
//! against, and the fallback where there is no fused kernel.

use super::inputs::{
    Activation, AdaGnGradients, AdaGnInputs, AdaGnOptions, AdaGnParameters, Modulation,
};
use crate::kernels::{autodiff, math};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::{Shape, Slice, TensorData};

/// Computes the result. The backward pass needs nothing else; gamma stands in for it.
pub(super) fn forward<B: Backend>(inputs: AdaGnInputs<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let AdaGnInputs { h, parameters: AdaGnParameters { modulation, gamma, beta, options } } =
        inputs;
    let normed = normalise::<B>(h, gamma.clone(), beta, &options);
    let modulated = match modulation {
        Modulation::Absent => normed,
        Modulation::By { t, z } => modulate::<B>(modulate::<B>(normed, t), z),
    };
    (finish::<B>(modulated, &options), gamma)
}

/// Computes the gradients by Burn's autodiff.
pub(super) fn backward<B: Backend>(
    d_out: FloatTensor<B>,
    inputs: AdaGnInputs<B>,
) -> AdaGnGradients<B> {
    let AdaGnInputs { h, parameters: AdaGnParameters { modulation, gamma, beta, options } } =
        inputs;
    match modulation {
        Modulation::Absent => {
            let [h, gamma, beta] =
                autodiff::gradients::<B, 3>([h, gamma, beta], d_out, |[h, gamma, beta]| {
                    let parameters = AdaGnParameters::<Autodiff<B>> {
                        modulation: Modulation::Absent,
                        gamma,
                        beta,
                        options,
                    };
                    forward::<Autodiff<B>>(AdaGnInputs { h, parameters }).0
                });
            AdaGnGradients { h, modulation: Modulation::Absent, gamma, beta }
        }
        Modulation::By { t, z } => {
            let [h, t, z, gamma, beta] = autodiff::gradients::<B, 5>(
                [h, t, z, gamma, beta],
                d_out,
                |[h, t, z, gamma, beta]| {
                    let parameters = AdaGnParameters::<Autodiff<B>> {
                        modulation: Modulation::By { t, z },
                        gamma,
                        beta,
                        options,
                    };
                    forward::<Autodiff<B>>(AdaGnInputs { h, parameters }).0
                },
            );
            AdaGnGradients { h, modulation: Modulation::By { t, z }, gamma, beta }
        }
    }
}

/// Computes gamma * (h - mean) / sqrt(var + eps) + beta over each group.
fn normalise<B: Backend>(
    h: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    options: &AdaGnOptions,
) -> FloatTensor<B> {
    let shape = h.shape();
    let [b, c, height, width] = shape.dims();
    let (per_group, per_channel) = (c / options.groups * height * width, Shape::new([1, c, 1, 1]));
    let grouped = B::float_reshape(h, Shape::new([b, options.groups, per_group]));
    let centred = B::float_sub(grouped.clone(), B::float_mean_dim(grouped, 2));
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 2);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, options.eps.into()));
    let xhat = B::float_reshape(B::float_div(centred, deviation), shape);
    let scaled = B::float_mul(xhat, B::float_reshape(gamma, per_channel.clone()));
    B::float_add(scaled, B::float_reshape(beta, per_channel))
}

/// Computes scale * x + shift from `scale_shift` `[B, 2C]`.
fn modulate<B: Backend>(x: FloatTensor<B>, scale_shift: FloatTensor<B>) -> FloatTensor<B> {
    let [b, c, _, _] = x.shape().dims();
    let half = |from: usize| {
        let half = [Slice::from(0..b), Slice::from(from..from + c)];
        B::float_reshape(B::float_slice(scale_shift.clone(), &half), Shape::new([b, c, 1, 1]))
    };
    B::float_add(B::float_mul(x, half(0)), half(c))
}

/// Computes dropout(activation(u)). The dropout mask is computed on the host.
fn finish<B: Backend>(u: FloatTensor<B>, options: &AdaGnOptions) -> FloatTensor<B> {
    let out = match options.activation {
        Activation::None => u,
        Activation::Silu => B::float_mul(u.clone(), B::sigmoid(u)),
    };
    let Some(dropout) = options.dropout else { return out };
    let [b, c, height, width] = out.shape().dims();
    let scale = 1.0 / (1.0 - dropout.p);
    let mask: Vec<f32> = (0..(b * height * width * c) as u32)
        .map(
            |element| {
                if math::hash(dropout.key, element) < dropout.threshold() { 0.0 } else { scale }
            },
        )
        .collect();
    let mask = B::float_from_data(TensorData::new(mask, [b, height, width, c]), &out.device());
    B::float_mul(out, B::float_permute(mask, &[0, 3, 1, 2]))
}
