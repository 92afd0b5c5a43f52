//! The CPU backend's kernels against plain tensor operations: value and every gradient, on memory that began as NaN.

mod common;

use burn::module::{Module, RunningState};
use burn::nn::{BatchNormConfig, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use common::{assert_close, error};
use soda::kernels::adamw::{self, Options, Parameter};
use soda::kernels::buffers::fill_with_junk;
use soda::kernels::conv2d::{Conv2dOptions, conv2d, reference};
use soda::kernels::linear::linear;
use soda::kernels::{attention, batch_norm, feature_map};
use soda::rng::{self, Purpose};

fn random<const D: usize>(shape: [usize; D], index: u64, device: &Device) -> Tensor<D> {
    let values = rng::normal(&mut rng::stream(3, Purpose::Test, index), shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

type Case = (usize, usize, usize, usize, usize, usize, usize, bool);

/// (batch, from, to, height, width, kernel, stride, bias): the networks' shapes and odd ones.
#[rustfmt::skip]
const CASES: [Case; 12] = [
    (2, 3, 16, 32, 32, 3, 1, true),
    (2, 16, 3, 32, 32, 3, 1, true),
    (3, 32, 32, 16, 16, 3, 1, false),
    (2, 64, 32, 8, 8, 3, 1, true),
    (2, 96, 64, 4, 4, 3, 1, true),
    (2, 32, 64, 32, 32, 3, 2, false),
    (2, 64, 64, 16, 16, 3, 2, true),
    (2, 32, 64, 16, 16, 1, 2, false),
    (2, 48, 32, 16, 16, 1, 1, true),
    (1, 5, 7, 9, 6, 3, 1, true),
    (3, 17, 33, 7, 5, 3, 2, true),
    (1, 4, 4, 1, 1, 3, 1, true),
];

/// Compares named tensors, and sees to it that one wrong element of each would be seen.
fn compare(got: &[(&str, Vec<f32>)], want: &[(&str, Vec<f32>)], case: &str, relative: f32, absolute: f32) {
    assert_eq!(got.len(), want.len());
    for ((name, got), (_, want)) in got.iter().zip(want) {
        assert_close(&format!("{name}, {case}"), got, want, relative, absolute);
        let mut wrong = got.clone();
        wrong[got.len() / 2] += want.iter().fold(0.0f32, |m, v| m.max(v.abs())) * 3.0 * relative + 3.0 * absolute;
        assert!(error(&wrong, want, relative, absolute) > 1.0, "a wrong element of {name} would pass");
    }
}

/// A device whose kernels get memory full of NaN: what one forgets to write is found.
fn cpu() -> Device {
    fill_with_junk(true);
    Device::flex()
}

#[test]
fn convolution_equals_burns_in_value_and_every_gradient() {
    let device = cpu().autodiff();
    for (index, (b, from, to, height, width, kernel, stride, with_bias)) in CASES.into_iter().enumerate() {
        let options = Conv2dOptions { stride, padding: kernel / 2 };
        for with_residual in [false, true] {
            let run = |ours: bool| {
                let x = random([b, from, height, width], index as u64 * 4, &device).require_grad();
                let w = random([to, from, kernel, kernel], index as u64 * 4 + 1, &device).require_grad();
                let bias = with_bias.then(|| random([to], index as u64 * 4 + 2, &device).require_grad());
                let shape = [b, to, height.div_ceil(stride), width.div_ceil(stride)];
                let residual = with_residual.then(|| random(shape, index as u64 + 90, &device).require_grad());
                let convolve = if ours { conv2d } else { reference };
                let y = convolve(x.clone(), w.clone(), bias.clone(), residual.clone(), options);
                assert_eq!(y.dims(), shape);
                let grads = (y.clone() * random(shape, index as u64 * 4 + 3, &device)).sum().backward();
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
            };
            // Sums of up to 3,072 products in another order.
            compare(&run(true), &run(false), &format!("case {index}, residual {with_residual}"), 1e-5, 1e-6);
        }
    }
}

#[test]
fn batch_norm_equals_burns_in_value_gradients_and_running_mean() {
    let device = cpu().autodiff();
    let cases = [
        (4, 16, 8, 8, true, false),
        (2, 5, 3, 7, true, false),
        (3, 33, 4, 4, false, false),
        (1, 8, 5, 5, true, false),
        (2, 24, 9, 8, true, true),
        (3, 6, 4, 4, false, true),
    ];
    for (index, (b, c, h, w, relu, with_residual)) in cases.into_iter().enumerate() {
        let run = |ours: bool| {
            let apply = if ours { batch_norm::batch_norm } else { batch_norm::reference };
            let seed = index as u64;
            let mut norm = BatchNormConfig::new(c).init(&device);
            norm.gamma = norm.gamma.map(|_| (random([c], seed + 90, &device) + 1.0).require_grad());
            norm.beta = norm.beta.map(|_| random([c], seed + 80, &device).require_grad());
            let x = (random([b, c, h, w], seed + 70, &device) * 2.0 + 3.0).require_grad();
            let residual = with_residual.then(|| random([b, c, h, w], seed + 20, &device).require_grad());
            let y = apply(&norm, x.clone(), residual.clone(), relu);
            let grads = (y.clone() * random([b, c, h, w], seed + 60, &device)).sum().backward();
            let updated = norm.valid();
            // Burn keeps the biased variance, ours the unbiased one as PyTorch does: n / (n - 1) apart.
            let n = (b * h * w) as f64;
            let factor = if ours { (n - 1.0) / n } else { 1.0 };
            let variance = (updated.running_var.value() - 0.9) * factor;
            let mut frozen = norm.valid();
            frozen.running_mean = RunningState::new(random([c], seed + 40, &cpu()));
            frozen.running_var = RunningState::new(random([c], seed + 30, &cpu()).square() + 0.1);
            let x_inference = random([b, c, h, w], seed + 50, &cpu());
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
        // Sums of up to 256 numbers in another order.
        compare(&run(true), &run(false), &format!("case {index}"), 1e-5, 1e-5);
    }
}

#[test]
fn attention_equals_its_composition_in_value_and_gradient() {
    let device = cpu().autodiff();
    for (index, (b, c, h, w)) in
        [(2, 64, 16, 16), (3, 16, 4, 4), (1, 5, 3, 7), (2, 8, 1, 1), (1, 33, 9, 8)].into_iter().enumerate()
    {
        let run = |ours: bool| {
            let qkv = random([b, h, w, 3 * c], index as u64 + 200, &device).permute([0, 3, 1, 2]).detach().require_grad();
            let operation = if ours { attention::attention } else { attention::reference };
            let y = operation(qkv.clone() * 2.0);
            let grads = (y.clone() * random([b, c, h, w], index as u64 + 210, &device)).sum().backward();
            [("value", values(y.inner())), ("gradient of qkv", values(qkv.grad(&grads).expect("tracked")))]
        };
        // Exponentials of our own polynomial, sums of up to 256 numbers in another order.
        compare(&run(true), &run(false), &format!("case {index}"), 1e-5, 1e-6);
    }
}

#[test]
fn concatenation_and_upsampling_equal_their_compositions() {
    let device = cpu().autodiff();
    for (index, (b, c_a, c_b, h, w)) in [(2, 16, 32, 8, 8), (3, 5, 1, 3, 7), (9, 33, 7, 9, 4)].into_iter().enumerate() {
        let run = |ours: bool| {
            let seed = index as u64 + 600;
            let (x_a, x_b) = (random([b, c_a, h, w], seed, &device).require_grad(), random([b, c_b, h, w], seed + 9, &device));
            let x_b = x_b.require_grad();
            let y = match ours {
                true => feature_map::upsample(feature_map::concat(x_a.clone(), x_b.clone())),
                false => feature_map::reference::upsample(feature_map::reference::concat(x_a.clone(), x_b.clone())),
            };
            let grads = (y.clone() * random([b, c_a + c_b, 2 * h, 2 * w], seed + 19, &device)).sum().backward();
            [
                ("value", values(y.inner())),
                ("gradient of a", values(x_a.grad(&grads).expect("tracked"))),
                ("gradient of b", values(x_b.grad(&grads).expect("tracked"))),
            ]
        };
        // Sums of four.
        compare(&run(true), &run(false), &format!("case {index}"), 1e-6, 0.0);
    }
}

#[test]
fn a_linear_layer_over_pixels_equals_burns() {
    let device = cpu().autodiff();
    let mut layer = LinearConfig::new(20, 36).init(&device);
    layer.weight = layer.weight.map(|w| random(w.dims(), 300, &device).require_grad());
    let run = |ours: bool| {
        let x = random([3, 20, 5, 4], 301, &device).require_grad();
        let residual = random([3, 36, 5, 4], 303, &device).require_grad();
        let y = match ours {
            true => linear(&layer, x.clone(), Some(residual.clone())),
            false => layer.forward(x.clone().permute([0, 2, 3, 1])).permute([0, 3, 1, 2]) + residual.clone(),
        };
        let grads = (y.clone() * random([3, 36, 5, 4], 302, &device)).sum().backward();
        [
            ("value", values(y.inner())),
            ("gradient of x", values(x.grad(&grads).expect("tracked"))),
            ("gradient of the weight", values(layer.weight.val().grad(&grads).expect("tracked"))),
            ("gradient of the bias", values(layer.bias.as_ref().expect("a bias").val().grad(&grads).expect("tracked"))),
            ("gradient of the residual", values(residual.grad(&grads).expect("tracked"))),
        ]
    };
    compare(&run(true), &run(false), "a linear layer", 1e-5, 1e-6);
}

#[test]
fn adamw_equals_its_composition() {
    let device = cpu();
    for n in [1, 15, 1_000, 100_003] {
        let parameter = || Parameter {
            weight: random([n], 400, &device),
            first: random([n], 401, &device) * 0.1,
            second: random([n], 402, &device).square() * 0.01,
            average: random([n], 403, &device),
        };
        let options = Options { lr: 1e-2, weight_decay: 0.05, betas: [0.9, 0.95], update: 3, ema_decay: 0.97 };
        let run = |ours: bool| {
            let operation = if ours { adamw::adamw } else { adamw::reference };
            let new = operation(parameter(), random([n], 404, &device), Tensor::from_floats([0.7], &device), options);
            [("weight", new.weight), ("first", new.first), ("second", new.second), ("average", new.average)]
                .map(|(name, t)| (name, values(t)))
        };
        // A handful of roundings.
        compare(&run(true), &run(false), &format!("{n} values"), 1e-6, 1e-7);
        let tensors = vec![random([n], 404, &device), random([7], 405, &device)];
        let all = Tensor::cat(tensors.clone(), 0);
        let [got, want] = [adamw::norm(tensors), all.square().sum().sqrt()].map(|t| [("norm", values(t))]);
        // Burn adds up 100,003 numbers in f32.
        compare(&got, &want, &format!("{n} values"), 1e-5, 0.0);
    }
}

#[test]
fn adamw_leaves_tensors_that_others_hold() {
    let device = cpu();
    let make = |i: u64| random([40], 500 + i, &device);
    let (weight, first, second, average) = (make(0), make(1), make(2).square(), make(3));
    let before: Vec<_> = [&weight, &first, &second, &average].map(|t| values(t.clone())).into();
    let held = Parameter { weight: weight.clone(), first: first.clone(), second: second.clone(), average: average.clone() };
    let options = Options { lr: 1e-2, weight_decay: 0.05, betas: [0.9, 0.95], update: 1, ema_decay: 0.5 };
    let new = adamw::adamw(held, make(4), Tensor::ones([1], &device), options);
    assert!(values(new.weight) != before[0]);
    assert_eq!([weight, first, second, average].map(values).to_vec(), before);
}
