//! Kernels against plain tensor operations, on whatever device the caller names. The oracle is always the reference on the
//! CPU backend.

use super::{assert_close, error};
use burn::module::{Module, RunningState};
use burn::nn::BatchNormConfig;
use burn::tensor::{Device, Tensor, TensorData};
use soda::kernels::adamw::{self, Options, Parameter};
use soda::kernels::conv2d::{self, Conv2dOptions};
use soda::kernels::{batch_norm, feature_map};
use soda::rng::{self, Purpose};

pub fn random<const D: usize>(shape: [usize; D], index: u64, device: &Device) -> Tensor<D> {
    let values = rng::normal(&mut rng::stream(3, Purpose::Test, index), shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), device)
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

/// Compares named tensors, and sees to it that one wrong element of each would be seen.
pub fn compare(got: &[(&str, Vec<f32>)], want: &[(&str, Vec<f32>)], case: &str, relative: f32, absolute: f32) {
    assert_eq!(got.len(), want.len());
    for ((name, got), (_, want)) in got.iter().zip(want) {
        assert_close(&format!("{name}, {case}"), got, want, relative, absolute);
        let mut wrong = got.clone();
        wrong[got.len() / 2] += want.iter().fold(0.0f32, |m, v| m.max(v.abs())) * 3.0 * relative + 3.0 * absolute;
        assert!(error(&wrong, want, relative, absolute) > 1.0, "a wrong element of {name} would pass");
    }
}

/// One convolution and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// Batch, channels from and to, height, width.
    pub sizes: [usize; 5],
    pub kernel: usize,
    pub stride: usize,
    pub bias: bool,
    pub residual: bool,
    /// Whether the input is upsampled first.
    pub upsample: bool,
}

impl Convolution {
    /// Value and every gradient on `device`, by our kernels or by Burn's operations; `seed` draws the numbers.
    pub fn run(&self, seed: u64, device: &Device, ours: bool) -> Vec<(&'static str, Vec<f32>)> {
        let Self { sizes: [b, from, to, height, width], kernel, stride, .. } = *self;
        let device = &device.clone().autodiff();
        let options = if self.upsample { Conv2dOptions::UPSAMPLE } else { Conv2dOptions::same(kernel, stride) };
        let x = random([b, from, height, width], seed * 5, device).require_grad();
        let w = random([to, from, kernel, kernel], seed * 5 + 1, device).require_grad();
        let bias = self.bias.then(|| random([to], seed * 5 + 2, device).require_grad());
        let [height, width] = [height, width].map(|side| if self.upsample { 2 * side } else { side.div_ceil(stride) });
        let shape = [b, to, height, width];
        let residual = self.residual.then(|| random(shape, seed * 5 + 3, device).require_grad());
        let convolve = if ours { conv2d::conv2d } else { conv2d::reference };
        let y = convolve(x.clone(), w.clone(), bias.clone(), residual.clone(), options);
        assert_eq!(y.dims(), shape);
        let grads = (y.clone() * random(shape, seed * 5 + 4, device)).sum().backward();
        let mut out = vec![("value", values(y.inner()))];
        out.push(("gradient of x", values(x.grad(&grads).expect("tracked"))));
        out.push(("gradient of w", values(w.grad(&grads).expect("tracked"))));
        if let Some(bias) = bias {
            out.push(("gradient of bias", values(bias.grad(&grads).expect("tracked"))));
        }
        if let Some(residual) = residual {
            out.push(("gradient of the residual", values(residual.grad(&grads).expect("tracked"))));
        }
        out
    }
}

/// Batch normalisation in value, gradients and running statistics. Odd sizes: channels that aren't a multiple of four, one
/// image, one pixel, more channels than invocations (one or four at a time), several blocks of pixels and a rest.
pub fn batch_norm(device: &Device) {
    let cases = [
        (4, 16, 8, 8, true, false),
        (2, 5, 3, 7, true, false),
        (3, 33, 4, 4, false, false),
        (1, 8, 5, 5, true, false),
        (2, 24, 9, 8, true, true),
        (3, 6, 4, 4, false, true),
        (1, 7, 1, 1, true, false),
        (1, 8, 1, 1, true, true),
        (2, 1_040, 2, 3, true, true),
        (1, 261, 3, 5, true, false),
        (3, 4, 37, 41, true, true),
        (2, 64, 33, 31, true, false),
    ];
    for (index, (b, c, h, w, relu, with_residual)) in cases.into_iter().enumerate() {
        let run = |ours: bool, device: &Device| {
            let learning = &device.clone().autodiff();
            let apply = if ours { batch_norm::batch_norm } else { batch_norm::reference };
            let seed = index as u64;
            let mut norm = BatchNormConfig::new(c).init(learning);
            norm.gamma = norm.gamma.map(|_| (random([c], seed + 90, learning) + 1.0).require_grad());
            norm.beta = norm.beta.map(|_| random([c], seed + 80, learning).require_grad());
            let x = (random([b, c, h, w], seed + 70, learning) * 2.0 + 3.0).require_grad();
            let residual = with_residual.then(|| random([b, c, h, w], seed + 20, learning).require_grad());
            let y = apply(&norm, x.clone(), residual.clone(), relu);
            let grads = (y.clone() * random([b, c, h, w], seed + 60, learning)).sum().backward();
            let updated = norm.valid();
            // Burn keeps the biased variance, ours the unbiased one as PyTorch does: n / (n - 1) apart.
            let n = (b * h * w) as f64;
            let factor = if ours { (n - 1.0) / n } else { 1.0 };
            let variance = (updated.running_var.value() - 0.9) * factor;
            let mut frozen = norm.valid();
            frozen.running_mean = RunningState::new(random([c], seed + 40, device));
            frozen.running_var = RunningState::new(random([c], seed + 30, device).square() + 0.1);
            let x_inference = random([b, c, h, w], seed + 50, device);
            let inference = apply(&frozen, x_inference, residual.clone().map(Tensor::inner), relu);
            let mut out = vec![
                ("value", values(y.inner())),
                ("gradient of x", values(x.grad(&grads).expect("tracked"))),
                ("gradient of gamma", values(norm.gamma.val().grad(&grads).expect("tracked"))),
                ("gradient of beta", values(norm.beta.val().grad(&grads).expect("tracked"))),
                ("running mean", values(updated.running_mean.value())),
                ("running variance", values(variance)),
                ("inference", values(inference)),
            ];
            if let Some(residual) = residual {
                out.push(("gradient of the residual", values(residual.grad(&grads).expect("tracked"))));
            }
            out
        };
        // Sums of up to 4,551 numbers in another order. One pixel has no variance: then a * x and a * mean, which the CPU kernel
        // subtracts, are thousands (a = gamma / sqrt(eps) = 316 gamma), with roundings of some 1e-4.
        let absolute = if b * h * w == 1 { 5e-4 } else { 1e-5 };
        compare(&run(true, device), &run(false, &Device::flex()), &format!("case {index}"), 1e-5, absolute);
    }
}

/// Statistics of values far from zero against those in f64: a variance from plain sums of squares would lose all digits.
pub fn batch_norm_far_from_zero(device: &Device) {
    for (index, (c, pixels)) in [(8, 3_000), (5, 700)].into_iter().enumerate() {
        let learning = &device.clone().autodiff();
        let x = values(random([pixels, c], index as u64 + 700, &Device::flex()) * 0.5 + 1_000.0);
        let norm = BatchNormConfig::new(c).init(learning);
        let image = Tensor::<4>::from_data(TensorData::new(x.clone(), [1, pixels, 1, c]), learning).permute([0, 3, 1, 2]);
        let y = batch_norm::batch_norm(&norm, image, None, false).permute([0, 2, 3, 1]);

        let channel = |i: usize| x.iter().skip(i).step_by(c).map(|v| f64::from(*v));
        let mean: Vec<f64> = (0..c).map(|i| channel(i).sum::<f64>() / pixels as f64).collect();
        let squares = |i: usize| channel(i).map(|v| (v - mean[i]).powi(2)).sum::<f64>();
        let variance: Vec<f64> = (0..c).map(|i| squares(i) / (pixels - 1) as f64).collect();
        let deviation = |i: usize| (variance[i] * (pixels - 1) as f64 / pixels as f64 + norm.epsilon).sqrt();
        let want_y = x.iter().enumerate().map(|(at, v)| ((f64::from(*v) - mean[at % c]) / deviation(at % c)) as f32);
        let want = [
            ("running mean", mean.iter().map(|m| (0.1 * m) as f32).collect()),
            ("running variance", variance.iter().map(|v| (0.9 + 0.1 * v) as f32).collect::<Vec<f32>>()),
            ("value", want_y.collect()),
        ];
        let updated = norm.valid();
        let got = [
            ("running mean", values(updated.running_mean.value())),
            ("running variance", values(updated.running_var.value())),
            ("value", values(y.inner())),
        ];
        // The last digit of a mean of 1,000 in f32 is 6e-5, that of the values a tenth of a thousandth of a deviation of 0.5.
        compare(&got[..2], &want[..2], &format!("{c} channels"), 1e-6, 1e-6);
        compare(&got[2..], &want[2..], &format!("{c} channels"), 0.0, 2e-4);
    }
}

/// Concatenation in value and gradients.
pub fn feature_map(device: &Device) {
    let cases = [
        (2, 16, 32, 8, 8),
        (3, 5, 1, 3, 7),
        (9, 33, 7, 9, 4),
        (1, 4, 8, 1, 1),
        (1, 3, 2, 1, 1),
        (1, 700, 588, 3, 2),
        (2, 200, 121, 2, 3),
        (2, 8, 4, 23, 31),
    ];
    for (index, (b, c_a, c_b, h, w)) in cases.into_iter().enumerate() {
        let run = |ours: bool, device: &Device| {
            let device = &device.clone().autodiff();
            let seed = index as u64 + 600;
            let (x_a, x_b) = (random([b, c_a, h, w], seed, device), random([b, c_b, h, w], seed + 9, device));
            let (x_a, x_b) = (x_a.require_grad(), x_b.require_grad());
            let y = match ours {
                true => feature_map::concat(x_a.clone(), x_b.clone()),
                false => feature_map::reference::concat(x_a.clone(), x_b.clone()),
            };
            let grads = (y.clone() * random([b, c_a + c_b, h, w], seed + 19, device)).sum().backward();
            [
                ("value", values(y.inner())),
                ("gradient of a", values(x_a.grad(&grads).expect("tracked"))),
                ("gradient of b", values(x_b.grad(&grads).expect("tracked"))),
            ]
        };
        // Numbers are moved, not computed (tolerance for the negative control).
        compare(&run(true, device), &run(false, &Device::flex()), &format!("case {index}"), 1e-6, 0.0);
    }
}

/// AdamW's update and the norm of several tensors, to the given tolerance.
pub fn adamw(device: &Device, relative: f32, absolute: f32) {
    let options = Options { lr: 1e-2, weight_decay: 0.05, betas: [0.9, 0.95], update: 3, ema_decay: 0.97 };
    for n in [1, 15, 1_000, 100_003, 100_004] {
        let run = |ours: bool, device: &Device| {
            let operation = if ours { adamw::adamw } else { adamw::reference };
            let parameter = Parameter {
                weight: random([n], 400, device),
                first: random([n], 401, device) * 0.1,
                second: random([n], 402, device).square() * 0.01,
                average: random([n], 403, device),
            };
            let new = operation(parameter, random([n], 404, device), Tensor::from_floats([0.7], device), options);
            [("weight", new.weight), ("first", new.first), ("second", new.second), ("average", new.average)]
                .map(|(name, t)| (name, values(t)))
        };
        compare(&run(true, device), &run(false, &Device::flex()), &format!("{n} values"), relative, absolute);

        let tensors = |device: &Device| vec![random([n], 404, device), random([7], 405, device), random([64], 406, device) * 3.0];
        let all = Tensor::cat(tensors(&Device::flex()), 0).square().sum().sqrt();
        let [got, want] = [adamw::norm(tensors(device)), all].map(|t| [("norm", values(t))]);
        // Burn adds up 100,075 numbers in f32.
        compare(&got, &want, &format!("{n} values"), 1e-5, 0.0);
    }
}

/// AdamW writes in place, but never into what somebody else can see.
pub fn adamw_leaves_tensors_that_others_hold(device: &Device) {
    let make = |i: u64| random([40], 500 + i, device);
    let (weight, first, second, average) = (make(0), make(1), make(2).square(), make(3));
    let before: Vec<_> = [&weight, &first, &second, &average].map(|t| values(t.clone())).into();
    let held = Parameter { weight: weight.clone(), first: first.clone(), second: second.clone(), average: average.clone() };
    let options = Options { lr: 1e-2, weight_decay: 0.05, betas: [0.9, 0.95], update: 1, ema_decay: 0.5 };
    let new = adamw::adamw(held, make(4), Tensor::ones([1], device), options);
    assert!(values(new.weight) != before[0]);
    assert_eq!([weight, first, second, average].map(values).to_vec(), before);
}
