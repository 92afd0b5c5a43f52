//! Attention in WGSL against plain tensor operations on the CPU backend: value and gradient, with the tiles of real GPUs and
//! with those of software adapters.

use crate::common::cases::{compare, random, values};
use crate::common::wgpu;
use burn::tensor::{Device, Tensor};
use soda::kernels::attention::{attention, reference};
use soda::kernels::launch::{Class, force_class};

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

type Named = [(&'static str, Vec<f32>); 2];

/// The result and the gradient of qkv, on `device`.
fn run(index: usize, operation: fn(Tensor<4>) -> Tensor<4>, device: &Device) -> Named {
    let (b, c, h, w, factor) = CASES[index];
    let device = device.clone().autodiff();
    let map = |channels, stream| random([b, h, w, channels], stream, &device).permute([0, 3, 1, 2]);
    let qkv = (map(3 * c, 2 * index as u64) * factor).detach().require_grad();
    let y = operation(qkv.clone());
    assert_eq!(y.dims(), [b, c, h, w]);
    let grads = (y.clone() * map(c, 2 * index as u64 + 1)).sum().backward();
    [("value", values(y.inner())), ("gradient of qkv", values(qkv.grad(&grads).expect("tracked")))]
}

fn check(class: Class) {
    let device = wgpu();
    for (index, case) in CASES.iter().enumerate() {
        force_class(Some(class));
        let got = run(index, attention, &device);
        force_class(None);
        let want = run(index, reference, &Device::flex());
        // Exponentials of the driver, sums of up to 257 numbers in another order.
        compare(&got, &want, &format!("{class:?}, {case:?}"), 1e-5, 1e-6);
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
