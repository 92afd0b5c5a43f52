//! The cases of the self test: the operations of both networks, a few images of the sizes that they meet.

use super::{Case, Results};
use crate::error::{Error, Result};
use crate::kernels::ada_gn::{Activation, AdaGnOptions, Dropout, ada_gn, group_norm};
use crate::kernels::adamw::{Options, Parameter, adamw, norm};
use crate::kernels::attention::attention;
use crate::kernels::batch_norm::batch_norm;
use crate::kernels::concat::concat;
use crate::kernels::conv2d::wgsl::{Tile, force_tile};
use crate::kernels::conv2d::{Conv2dOptions, conv2d};
use crate::rng::{self, Purpose};
use burn::nn::BatchNormConfig;
use burn::tensor::{Device, Gradients, Tensor, TensorData};

/// Every case.
pub(super) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    // Batch, channels in and out, side, kernel, stride: the stem, the output, both strides, shortcuts, vectors.
    for shape in [
        [2, 3, 128, 16, 3, 1],
        [2, 128, 3, 16, 3, 1],
        [2, 128, 128, 16, 3, 1],
        [4, 256, 256, 4, 3, 1],
        [2, 64, 128, 16, 3, 2],
        [2, 384, 128, 8, 1, 1],
        [2, 64, 128, 16, 1, 2],
        [16, 512, 256, 1, 1, 1],
    ] {
        all.push(conv2d_case(shape, None));
    }
    // Channels in and out, side of the input before upsampling.
    all.extend([[256, 256, 4], [128, 128, 16]].map(upsampled_case));
    // Few images get the small tiles of GPUs: the large ones have to be asked for.
    all.extend(Tile::ALL.map(|tile| conv2d_case([2, 132, 132, 15, 3, 1], Some(tile))));
    for (channels, side, modulated) in [(128, 32, true), (384, 8, true), (256, 4, true), (128, 16, false)] {
        all.push(ada_gn_case(channels, side, modulated));
    }
    all.extend([(64, 32, false), (512, 4, true)].map(|(channels, side, residual)| batch_norm_case(channels, side, residual)));
    all.extend([(128, 16), (256, 4)].map(|(channels, side)| attention_case(channels, side)));
    all.extend([feature_map_case(), adamw_case()]);
    all
}

fn random<const D: usize>(shape: [usize; D], index: u64, device: &Device) -> Tensor<D> {
    let values = rng::normal(&mut rng::stream(7, Purpose::Test, index), shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// `[B, C, H, W]` over NHWC memory, tracked.
fn image([b, c, h, w]: [usize; 4], index: u64, device: &Device) -> Tensor<4> {
    random([b, h, w, c], index, device).permute([0, 3, 1, 2]).detach().require_grad()
}

/// The numbers of `tensor`.
fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as().map_err(|e| Error::device("testing its kernels", &e))
}

/// The gradient of `x`; nothing where there is none, which no comparison passes.
fn gradient<const D: usize>(x: Tensor<D>, grads: &Gradients) -> Result<Vec<f32>> {
    x.grad(grads).map_or(Ok(Vec::new()), values)
}

/// The value of `y`, and the gradients of `inputs` and `vectors` given a random one of `y`.
fn results(
    y: Tensor<4>,
    inputs: Vec<(&'static str, Tensor<4>)>,
    vectors: Vec<(&'static str, Tensor<1>)>,
    matrices: Vec<(&'static str, Tensor<2>)>,
) -> Results {
    let dy = random(y.dims(), 99, &y.device());
    let grads = (y.clone() * dy).sum().backward();
    let value = std::iter::once(values(y.inner()).map(|values| ("the value", values)));
    let inputs = inputs.into_iter().map(|(name, x)| Ok((name, gradient(x, &grads)?)));
    let vectors = vectors.into_iter().map(|(name, x)| Ok((name, gradient(x, &grads)?)));
    let matrices = matrices.into_iter().map(|(name, x)| Ok((name, gradient(x, &grads)?)));
    value.chain(inputs).chain(vectors).chain(matrices).collect()
}

/// `tile`: what GPUs are to use, else what fits the size.
fn conv2d_case([batch, from, to, side, kernel, stride]: [usize; 6], tile: Option<Tile>) -> Case {
    let run = move |device: &Device| {
        let device = &device.clone().autodiff();
        let x = image([batch, from, side, side], 0, device);
        let w = (random([to, from, kernel, kernel], 1, device) * 0.1).detach().require_grad();
        let bias = random([to], 2, device).require_grad();
        let residual = image([batch, to, side.div_ceil(stride), side.div_ceil(stride)], 3, device);
        force_tile(tile);
        let options = Conv2dOptions::same(kernel, stride);
        let y = conv2d(x.clone(), w.clone(), Some(bias.clone()), Some(residual.clone()), options);
        let inputs = vec![("the input's gradient", x), ("the weights' gradient", w), ("the residual's gradient", residual)];
        let results = results(y, inputs, vec![("the bias' gradient", bias)], vec![]);
        force_tile(None);
        results
    };
    let tiles = tile.map_or(String::new(), |t| format!(", tiles {}x{}", t.bm, t.bn));
    let size = format!("{kernel}x{kernel}, stride {stride}, {batch}x{from}x{side}x{side} to {to}{tiles}");
    Case { kernel: "conv2d", size, run: Box::new(run) }
}

fn upsampled_case([from, to, side]: [usize; 3]) -> Case {
    let run = move |device: &Device| {
        let device = &device.clone().autodiff();
        let x = image([2, from, side, side], 5, device);
        let w = (random([to, from, 3, 3], 6, device) * 0.1).detach().require_grad();
        let bias = random([to], 7, device).require_grad();
        let y = conv2d(x.clone(), w.clone(), Some(bias.clone()), None, Conv2dOptions::UPSAMPLE);
        let inputs = vec![("the input's gradient", x), ("the weights' gradient", w)];
        results(y, inputs, vec![("the bias' gradient", bias)], vec![])
    };
    Case { kernel: "upsample, conv2d", size: format!("2x{from}x{side}x{side} to {to}"), run: Box::new(run) }
}

fn ada_gn_case(channels: usize, side: usize, modulated: bool) -> Case {
    let run = move |device: &Device| {
        let device = &device.clone().autodiff();
        let h = image([2, channels, side, side], 10, device);
        let (gamma, beta) = (random([channels], 11, device).require_grad(), random([channels], 12, device).require_grad());
        let dropout = modulated.then_some(Dropout { p: 0.1, key: [3, 4] });
        let options = AdaGnOptions { groups: 32, eps: 1e-5, activation: Activation::Silu, dropout };
        let vectors = vec![("gamma's gradient", gamma.clone()), ("beta's gradient", beta.clone())];
        if !modulated {
            return results(group_norm(h.clone(), gamma, beta, options), vec![("the input's gradient", h)], vectors, vec![]);
        }
        let [t, z] = [13, 14].map(|index| random([2, 2 * channels], index, device).require_grad());
        let y = ada_gn(h.clone(), t.clone(), z.clone(), gamma, beta, options);
        results(y, vec![("the input's gradient", h)], vectors, vec![("t's gradient", t), ("z's gradient", z)])
    };
    let kernel = if modulated { "ada_gn" } else { "group_norm" };
    Case { kernel, size: format!("2x{channels}x{side}x{side}"), run: Box::new(run) }
}

fn batch_norm_case(channels: usize, side: usize, with_residual: bool) -> Case {
    let run = move |device: &Device| {
        let device = &device.clone().autodiff();
        let norm = BatchNormConfig::new(channels).init(device);
        let x = image([4, channels, side, side], 20, device);
        let residual = with_residual.then(|| image([4, channels, side, side], 21, device));
        let y = batch_norm(&norm, x.clone(), residual.clone(), true);
        let mut inputs = vec![("the input's gradient", x)];
        inputs.extend(residual.map(|r| ("the residual's gradient", r)));
        let vectors = vec![("gamma's gradient", norm.gamma.val()), ("beta's gradient", norm.beta.val())];
        let mut all = results(y, inputs, vectors, vec![])?;
        all.push(("the running mean", values(norm.running_mean.value_sync().inner())?));
        Ok(all)
    };
    Case { kernel: "batch_norm", size: format!("4x{channels}x{side}x{side}"), run: Box::new(run) }
}

fn attention_case(channels: usize, side: usize) -> Case {
    let run = move |device: &Device| {
        let qkv = image([2, 3 * channels, side, side], 30, &device.clone().autodiff());
        results(attention(qkv.clone()), vec![("the gradient of qkv", qkv)], vec![], vec![])
    };
    Case { kernel: "attention", size: format!("2x{channels}x{side}x{side}"), run: Box::new(run) }
}

fn feature_map_case() -> Case {
    let run = |device: &Device| {
        let device = &device.clone().autodiff();
        let [a, b] = [(40, 128), (41, 64)].map(|(index, channels)| image([2, channels, 8, 8], index, device));
        let y = concat(a.clone(), b.clone());
        results(y, vec![("the first gradient", a), ("the second gradient", b)], vec![], vec![])
    };
    Case { kernel: "concat", size: "2x(128+64)x8x8".into(), run: Box::new(run) }
}

fn adamw_case() -> Case {
    const N: usize = 100_004;
    let run = |device: &Device| {
        let parameter = Parameter {
            weight: random([N], 50, device),
            first: random([N], 51, device) * 0.1,
            second: random([N], 52, device).square() * 0.01,
            average: random([N], 53, device),
        };
        let grad: Tensor<1> = random([N], 54, device);
        let norm = norm(vec![grad.clone(), random([7], 55, device)]);
        let options = Options { lr: 1e-2, weight_decay: 0.05, betas: [0.9, 0.95], update: 3, ema_decay: 0.97 };
        let new = adamw(parameter, grad, norm.clone().recip(), Tensor::from_floats(options.factors(), device));
        Ok(vec![
            ("the norm", values(norm)?),
            ("the weights", values(new.weight)?),
            ("the first moment", values(new.first)?),
            ("the second moment", values(new.second)?),
            ("the average", values(new.average)?),
        ])
    };
    Case { kernel: "adamw", size: N.to_string(), run: Box::new(run) }
}
