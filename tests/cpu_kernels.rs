//! The CPU backend's convolution and batch normalisation against Burn's own operations: value and every gradient.

mod common;

use burn::module::{Module, RunningState};
use burn::nn::BatchNormConfig;
use burn::tensor::{Device, Tensor, TensorData};
use common::{assert_close, error};
use soda::kernels::batch_norm;
use soda::kernels::conv2d::{Conv2dOptions, conv2d, reference};
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

#[test]
fn convolution_equals_burns_in_value_and_every_gradient() {
    let device = Device::flex().autodiff();
    for (index, (b, from, to, height, width, kernel, stride, with_bias)) in CASES.into_iter().enumerate() {
        let options = Conv2dOptions { stride, padding: kernel / 2 };
        let run = |ours: bool| {
            let x = random([b, from, height, width], index as u64 * 4, &device).require_grad();
            let w = random([to, from, kernel, kernel], index as u64 * 4 + 1, &device).require_grad();
            let bias = with_bias.then(|| random([to], index as u64 * 4 + 2, &device).require_grad());
            let y = if ours {
                conv2d(x.clone(), w.clone(), bias.clone(), options)
            } else {
                reference(x.clone(), w.clone(), bias.clone(), options)
            };
            let [_, _, oh, ow] = y.dims();
            let grads = (y.clone() * random([b, to, oh, ow], index as u64 * 4 + 3, &device)).sum().backward();
            let mut out = vec![("value", values(y.inner()))];
            out.push(("gradient of x", values(x.grad(&grads).expect("tracked"))));
            out.push(("gradient of w", values(w.grad(&grads).expect("tracked"))));
            if let Some(bias) = bias {
                out.push(("gradient of bias", values(bias.grad(&grads).expect("tracked"))));
            }
            out
        };
        let (got, want) = (run(true), run(false));
        for ((name, got), (_, want)) in got.iter().zip(&want) {
            // Sums of up to 3,072 products in another order.
            assert_close(&format!("{name}, case {index}"), got, want, 1e-5, 1e-6);
            let mut wrong = got.clone();
            wrong[got.len() / 2] += want.iter().fold(0.0f32, |m, v| m.max(v.abs())) * 1e-3 + 1e-4;
            assert!(error(&wrong, want, 1e-5, 1e-6) > 1.0, "a wrong element of {name} would pass");
        }
    }
}

#[test]
fn batch_norm_equals_burns_in_value_gradients_and_running_mean() {
    let device = Device::flex().autodiff();
    for (index, (b, c, h, w, relu)) in
        [(4, 16, 8, 8, true), (2, 5, 3, 7, true), (3, 33, 4, 4, false), (1, 8, 5, 5, true)].into_iter().enumerate()
    {
        let run = |ours: bool| {
            let mut norm = BatchNormConfig::new(c).init(&device);
            norm.gamma = norm.gamma.map(|_| (random([c], index as u64 + 90, &device) + 1.0).require_grad());
            norm.beta = norm.beta.map(|_| random([c], index as u64 + 80, &device).require_grad());
            let x = (random([b, c, h, w], index as u64 + 70, &device) * 2.0 + 3.0).require_grad();
            let y =
                if ours { batch_norm::batch_norm(&norm, x.clone(), relu) } else { batch_norm::reference(&norm, x.clone(), relu) };
            let grads = (y.clone() * random([b, c, h, w], index as u64 + 60, &device)).sum().backward();
            let updated = norm.valid();
            // Burn keeps the biased variance, ours the unbiased one as PyTorch does: n / (n - 1) apart.
            let n = (b * h * w) as f64;
            let factor = if ours { (n - 1.0) / n } else { 1.0 };
            let variance = (updated.running_var.value() - 0.9) * factor;
            let mut frozen = norm.valid();
            frozen.running_mean = RunningState::new(random([c], index as u64 + 40, &Device::flex()));
            frozen.running_var = RunningState::new(random([c], index as u64 + 30, &Device::flex()).square() + 0.1);
            let x_inference = random([b, c, h, w], index as u64 + 50, &Device::flex());
            let inference = if ours {
                batch_norm::batch_norm(&frozen, x_inference, relu)
            } else {
                batch_norm::reference(&frozen, x_inference, relu)
            };
            [
                ("value", values(y.inner())),
                ("gradient of x", values(x.grad(&grads).expect("tracked"))),
                ("gradient of gamma", values(norm.gamma.val().grad(&grads).expect("tracked"))),
                ("gradient of beta", values(norm.beta.val().grad(&grads).expect("tracked"))),
                ("running mean", values(updated.running_mean.value())),
                ("running variance", values(variance)),
                ("inference", values(inference)),
            ]
        };
        let (got, want) = (run(true), run(false));
        for ((name, got), (_, want)) in got.iter().zip(&want) {
            // Sums of up to 256 numbers in another order.
            let relative = 1e-5;
            assert_close(&format!("{name}, case {index}"), got, want, relative, 1e-5);
            let mut wrong = got.clone();
            wrong[0] += want.iter().fold(0.0f32, |m, v| m.max(v.abs())) * 2.0 * relative + 1e-4;
            assert!(error(&wrong, want, relative, 1e-5) > 1.0, "a wrong {name} would pass");
        }
    }
}
