//! The convolution's shaders against Burn's CPU backend: value and every gradient, with the tiles of every class of adapter.

use crate::common::cases::{Convolution, compare};
use crate::common::wgpu;
use burn::tensor::Device;
use soda::kernels::conv2d::wgsl::{Tile, force_tile};
use soda::kernels::launch::{Class, force_class};

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

/// (batch, from, to, height, width, bias, residual) of 3x3 convolutions on an upsampled input.
#[rustfmt::skip]
const UPSAMPLED: [(usize, usize, usize, usize, usize, bool, bool); 9] = [
    (2, 32, 32, 16, 16, true, false),
    (3, 64, 64, 4, 4, true, false),
    (2, 24, 40, 8, 4, false, true),
    (1, 128, 132, 4, 12, true, true),
    (2, 5, 7, 3, 5, true, true),
    (3, 8, 6, 5, 2, false, false),
    (1, 4, 4, 1, 1, true, false),
    (40, 64, 32, 8, 8, true, false),
    (2, 3, 20, 7, 9, true, false),
];

fn equals_burns(class: Class, tile: Option<Tile>) {
    let device = wgpu();
    force_class(Some(class));
    force_tile(tile);
    let cases = CASES.map(|(b, from, to, height, width, kernel, stride, bias, residual)| Convolution {
        sizes: [b, from, to, height, width],
        kernel,
        stride,
        bias,
        residual,
        upsample: false,
    });
    let upsampled = UPSAMPLED.map(|(b, from, to, height, width, bias, residual)| Convolution {
        sizes: [b, from, to, height, width],
        kernel: 3,
        stride: 1,
        bias,
        residual,
        upsample: true,
    });
    for (index, case) in cases.into_iter().chain(upsampled).enumerate() {
        let (got, want) = (case.run(index as u64, &device, true), case.run(index as u64, &Device::flex(), false));
        // Sums of up to 10,240 products in another order.
        compare(&got, &want, &format!("case {index}, {case:?}, {class:?}, {tile:?}"), 1e-5, 1e-5);
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
