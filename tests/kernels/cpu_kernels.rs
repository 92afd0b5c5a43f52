//! The CPU backend's kernels against plain tensor operations: value and every gradient, on memory that began as NaN.

use crate::common::cases::{self, Convolution, compare, random, values};
use burn::nn::LinearConfig;
use burn::tensor::Device;
use soda::kernels::attention;
use soda::kernels::buffers::fill_with_junk;
use soda::kernels::linear::linear;

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

/// A device whose kernels get memory full of NaN: what one forgets to write is found.
fn cpu() -> Device {
    fill_with_junk(true);
    Device::flex()
}

#[test]
fn convolution_equals_burns_in_value_and_every_gradient() {
    let device = cpu();
    for (index, (b, from, to, height, width, kernel, stride, bias)) in CASES.into_iter().enumerate() {
        for residual in [false, true] {
            let case = Convolution { sizes: [b, from, to, height, width], kernel, stride, bias, residual, upsample: false };
            let run = |ours: bool| case.run(index as u64, &device, ours);
            // Sums of up to 3,072 products in another order.
            compare(&run(true), &run(false), &format!("case {index}, residual {residual}"), 1e-5, 1e-6);
        }
    }
}

#[test]
fn convolution_of_an_upsampled_input_equals_burns_in_value_and_every_gradient() {
    let device = cpu();
    // The networks' shapes; more channels out and in; odd sizes; one pixel.
    let cases =
        [[2, 32, 32, 16, 16], [3, 64, 64, 4, 4], [2, 24, 40, 8, 4], [1, 130, 72, 4, 12], [2, 5, 7, 3, 5], [1, 4, 3, 1, 1]];
    for (index, sizes) in cases.into_iter().enumerate() {
        for extra in [false, true] {
            let case = Convolution { sizes, kernel: 3, stride: 1, bias: !extra, residual: extra, upsample: true };
            let run = |ours: bool| case.run(index as u64 + 40, &device, ours);
            // Sums of up to 1,170 products in another order.
            compare(&run(true), &run(false), &format!("{case:?}"), 1e-5, 1e-6);
        }
    }
}

#[test]
fn batch_norm_equals_burns_in_value_gradients_and_running_mean() {
    cases::batch_norm(&cpu());
}

#[test]
fn batch_norm_keeps_its_digits_far_from_zero() {
    cases::batch_norm_far_from_zero(&cpu());
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
fn concatenation_equals_its_composition() {
    cases::feature_map(&cpu());
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
    // A handful of roundings.
    cases::adamw(&cpu(), 1e-6, 1e-7);
}

#[test]
fn adamw_leaves_tensors_that_others_hold() {
    cases::adamw_leaves_tensors_that_others_hold(&cpu());
}
