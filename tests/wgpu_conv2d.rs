//! The convolution's shaders against Burn's CPU backend: value and every gradient, with the tiles of every class of adapter.

mod common;

use burn::tensor::{Device, Tensor, TensorData};
use common::{assert_close, error, wgpu};
use soda::kernels::conv2d::wgsl::{Tile, force_tile};
use soda::kernels::conv2d::{Conv2dOptions, conv2d, reference};
use soda::kernels::launch::{Class, force_class};
use soda::rng::{self, Purpose};

fn random<const D: usize>(shape: [usize; D], index: u64, device: &Device) -> Tensor<D> {
    let values = rng::normal(&mut rng::stream(3, Purpose::Test, index), shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

type Case = (usize, usize, usize, usize, usize, usize, usize, bool, bool);

/// (batch, from, to, height, width, kernel, stride, bias, residual): the networks' shapes and odd ones.
#[rustfmt::skip]
const CASES: [Case; 18] = [
    (2, 3, 16, 32, 32, 3, 1, true, false),
    (2, 16, 3, 32, 32, 3, 1, true, false),
    (3, 32, 32, 16, 16, 3, 1, false, true),
    (2, 64, 32, 8, 8, 3, 1, true, true),
    (2, 96, 64, 4, 4, 3, 1, true, false),
    (5, 32, 64, 2, 2, 3, 1, true, true),
    (2, 32, 64, 32, 32, 3, 2, false, false),
    (2, 64, 64, 16, 16, 3, 2, true, true),
    (2, 32, 64, 16, 16, 1, 2, false, false),
    (2, 48, 32, 16, 16, 1, 1, true, true),
    (7, 130, 260, 1, 1, 1, 1, true, false),
    (1, 5, 7, 9, 6, 3, 1, true, true),
    (3, 17, 33, 7, 5, 3, 2, true, false),
    (3, 6, 5, 7, 5, 1, 2, true, true),
    (1, 4, 4, 1, 1, 3, 1, true, false),
    (1, 4, 4, 1, 1, 3, 2, true, false),
    (40, 64, 128, 16, 16, 3, 1, true, false),
    (1, 36, 132, 3, 11, 3, 1, true, true),
];

/// Value and gradients by name.
fn run(case: &Case, index: u64, device: &Device, ours: bool) -> Vec<(&'static str, Vec<f32>)> {
    let (b, from, to, height, width, kernel, stride, with_bias, with_residual) = *case;
    let device = &device.clone().autodiff();
    let options = Conv2dOptions { stride, padding: kernel / 2 };
    let x = random([b, from, height, width], index * 5, device).require_grad();
    let w = random([to, from, kernel, kernel], index * 5 + 1, device).require_grad();
    let bias = with_bias.then(|| random([to], index * 5 + 2, device).require_grad());
    let shape = [b, to, height.div_ceil(stride), width.div_ceil(stride)];
    let residual = with_residual.then(|| random(shape, index * 5 + 3, device).require_grad());
    let convolve = if ours { conv2d } else { reference };
    let y = convolve(x.clone(), w.clone(), bias.clone(), residual.clone(), options);
    assert_eq!(y.dims(), shape);
    let grads = (y.clone() * random(shape, index * 5 + 4, device)).sum().backward();
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

fn equals_burns(class: Class, tile: Option<Tile>) {
    let device = wgpu();
    force_class(Some(class));
    force_tile(tile);
    for (index, case) in CASES.iter().enumerate() {
        let got = run(case, index as u64, &device, true);
        let want = run(case, index as u64, &Device::flex(), false);
        assert_eq!(got.len(), want.len());
        for ((name, got), (_, want)) in got.iter().zip(&want) {
            // Sums of up to 10,240 products in another order.
            let (relative, absolute) = (1e-5, 1e-5);
            assert_close(&format!("{name}, case {index}, {class:?}, {tile:?}"), got, want, relative, absolute);
            let mut wrong = got.clone();
            wrong[got.len() / 2] += want.iter().fold(0.0f32, |m, v| m.max(v.abs())) * 3.0 * relative + 3.0 * absolute;
            assert!(error(&wrong, want, relative, absolute) > 1.0, "a wrong element of {name} would pass");
        }
    }
}

#[test]
fn convolution_equals_burns_on_gpus() {
    equals_burns(Class::Gpu, None);
}

#[test]
fn convolution_equals_burns_on_software_adapters() {
    equals_burns(Class::Software, None);
}

#[test]
fn convolution_equals_burns_with_every_tile() {
    for tile in Tile::ALL {
        equals_burns(Class::Gpu, Some(tile));
    }
}
