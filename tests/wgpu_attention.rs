//! Attention in WGSL against plain tensor operations on the CPU backend: value and gradient, with the tiles of real GPUs and
//! with those of software adapters.

mod common;

use burn::tensor::{Device, Tensor, TensorData};
use common::{assert_close, error, wgpu};
use soda::kernels::attention::{attention, reference};
use soda::kernels::launch::{Class, force_class};
use soda::rng::{self, Purpose};

/// (batch, C, height, width, factor of qkv).
#[rustfmt::skip]
const CASES: [(usize, usize, usize, usize, f32); 14] = [
    (2, 64, 16, 16, 1.0),
    (2, 256, 4, 4, 1.0),
    (1, 256, 16, 16, 1.0),
    (3, 16, 4, 4, 1.0),
    (1, 128, 8, 8, 1.0),
    (1, 5, 3, 7, 2.0),
    (1, 33, 9, 8, 2.0),
    (2, 6, 5, 5, 1.0),
    (1, 130, 6, 7, 1.0),
    (1, 300, 5, 3, 1.0),
    (2, 8, 1, 1, 1.0),
    (1, 12, 1, 257, 1.0),
    (1, 72, 11, 13, 1.0),
    (2, 64, 16, 16, 4.0),
];

const RELATIVE: f32 = 1e-5;
const ABSOLUTE: f32 = 1e-6;

type Named = [(&'static str, Vec<f32>); 2];

/// The result and the gradient of qkv, on `device`.
fn run(index: usize, operation: fn(Tensor<4>) -> Tensor<4>, device: &Device) -> Named {
    let (b, c, h, w, factor) = CASES[index];
    let device = device.clone().autodiff();
    let random = |channels: usize, stream: u64| {
        let values = rng::normal(&mut rng::stream(5, Purpose::Test, stream), b * h * w * channels);
        Tensor::<4>::from_data(TensorData::new(values, [b, h, w, channels]), &device).permute([0, 3, 1, 2])
    };
    let qkv = (random(3 * c, 2 * index as u64) * factor).detach().require_grad();
    let y = operation(qkv.clone());
    assert_eq!(y.dims(), [b, c, h, w]);
    let grads = (y.clone() * random(c, 2 * index as u64 + 1)).sum().backward();
    let values = |t: Tensor<4>| t.into_data().try_to_vec().expect("f32");
    [("value", values(y.inner())), ("gradient of qkv", values(qkv.grad(&grads).expect("tracked")))]
}

fn check(class: Class) {
    let device = wgpu();
    for (index, case) in CASES.iter().enumerate() {
        force_class(Some(class));
        let got = run(index, attention, &device);
        force_class(None);
        let want = run(index, reference, &Device::flex());
        for ((name, got), (_, want)) in got.iter().zip(&want) {
            // Exponentials of the driver, sums of up to 257 numbers in another order.
            assert_close(&format!("{name}, {class:?}, {case:?}"), got, want, RELATIVE, ABSOLUTE);
            let mut wrong = got.clone();
            let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            wrong[got.len() / 2] += 3.0 * (RELATIVE * largest + ABSOLUTE);
            assert!(error(&wrong, want, RELATIVE, ABSOLUTE) > 1.0, "a wrong element of {name} would pass");
        }
    }
}

#[test]
fn tiles_of_gpus_equal_the_composition() {
    check(Class::Gpu);
}

#[test]
fn tiles_of_software_adapters_equal_the_composition() {
    check(Class::Software);
}
