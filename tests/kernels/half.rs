//! Convolutions of f16 maps: every implementation against the f32 reference, on operands that f16
//! represents exactly.

use crate::common::wgpu;
use burn::tensor::{DType, Device, Tensor, TensorData, f16};
use soda::device::{Class, Profile};
use soda::kernels::catalog::{operations, random, shaders};
use soda::kernels::conv2d::{Conv2dOptions, Tile, conv2d};
use soda::kernels::testing::{
    launched, with_class, with_guards, with_matrix_shim, with_profile, with_references,
};
use soda::kernels::vjp::vjp;
use std::collections::BTreeSet;

/// One convolution.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// `[B, C, H, W]`.
    shape: [usize; 4],
    to: usize,
    kernel: usize,
    stride: usize,
    upsample: bool,
    /// Bias and residual.
    extra: [bool; 2],
    tile: Option<Tile>,
}

/// Batch, channels in and out, height, width, kernel, stride; bias and residual.
type Sizes = ([usize; 7], [bool; 2]);

/// Odd sizes, three channels, both strides, stems, vectors; more than one block of 128.
#[rustfmt::skip]
const CALLS: [Sizes; 10] = [
    ([2, 3, 16, 9, 7, 3, 1], [true, true]),
    ([1, 16, 3, 8, 8, 3, 1], [true, false]),
    ([2, 24, 40, 8, 8, 3, 1], [true, true]),
    ([1, 5, 7, 9, 6, 3, 1], [false, true]),
    ([3, 17, 33, 7, 5, 3, 2], [true, true]),
    ([2, 36, 68, 6, 6, 3, 2], [false, false]),
    ([2, 66, 34, 5, 5, 1, 1], [true, true]),
    ([7, 130, 260, 1, 1, 1, 1], [true, false]),
    ([2, 3, 20, 15, 12, 7, 2], [true, true]),
    ([1, 20, 132, 13, 12, 3, 1], [true, true]),
];

/// Convolutions of an upsampled input.
const UPSAMPLED: [Sizes; 2] =
    [([2, 24, 40, 8, 4, 3, 1], [true, true]), ([2, 5, 7, 3, 5, 3, 1], [true, false])];

fn call(([b, from, to, height, width, kernel, stride], extra): Sizes, upsample: bool) -> Call {
    Call { shape: [b, from, height, width], to, kernel, stride, upsample, extra, tile: None }
}

fn calls() -> Vec<Call> {
    CALLS
        .map(|sizes| call(sizes, false))
        .into_iter()
        .chain(UPSAMPLED.map(|sizes| call(sizes, true)))
        .collect()
}

/// Returns every call with the smallest tile of GPUs, and one with each of the other tiles, which
/// software drivers compile slowly: how a tile is multiplied doesn't depend on how it is read.
fn tiled() -> Vec<Call> {
    let with = |tile, call| Call { tile: Some(tile), ..call };
    let others =
        [with(Tile::TALL, call(CALLS[4], false)), with(Tile::LARGE, call(CALLS[9], false))];
    calls().into_iter().map(|call| with(Tile::MEDIUM, call)).chain(others).collect()
}

/// The operands of a convolution: x, the residual and the result's gradient in NHWC order, the
/// weight and the bias in their own.
#[derive(Clone)]
struct Operands {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
    dy: Vec<f32>,
}

impl Operands {
    fn all(&mut self) -> [(&'static str, &mut Vec<f32>); 5] {
        let Self { x, weight, bias, residual, dy } = self;
        [
            ("x", x),
            ("the weight", weight),
            ("the bias", bias),
            ("the residual", residual),
            ("the result's gradient", dy),
        ]
    }
}

/// Named results, and whether each is stored as f16.
type Results = Vec<Named>;
type Named = (&'static str, bool, Vec<f32>);

impl Call {
    fn options(&self) -> Conv2dOptions {
        let options = if self.upsample {
            Conv2dOptions::UPSAMPLE
        } else {
            Conv2dOptions::same(self.kernel, self.stride)
        };
        Conv2dOptions { tile: self.tile, ..options }
    }

    fn out(&self) -> [usize; 4] {
        let [b, _, height, width] = self.shape;
        let side = |n: usize| if self.upsample { 2 * n } else { n.div_ceil(self.stride) };
        [b, self.to, side(height), side(width)]
    }

    /// Returns the number of terms of the longest sum: of the result, the input's gradient or the
    /// weight's.
    fn terms(&self) -> usize {
        let ([b, from, ..], [_, to, height, width]) = (self.shape, self.out());
        (from.max(to) * self.kernel * self.kernel).max(b * height * width)
    }

    fn operands(&self) -> Operands {
        let numbers = |stream: u64, count: usize, round: fn(f32) -> f32| -> Vec<f32> {
            let drawn = random([count], stream, &Device::flex())
                .into_data()
                .try_to_vec::<f32>()
                .expect("f32");
            drawn.into_iter().map(round).collect()
        };
        let half = |v: f32| f16::from_f32(v).to_f32();
        // The weights of an upsampled input are sums of four of these; f16 holds the sums exactly.
        let weight = |v: f32| (v.clamp(-2.0, 2.0) * 64.0).round() / 64.0;
        let count = |dims: [usize; 4]| dims.iter().product::<usize>();
        Operands {
            x: numbers(1, count(self.shape), half),
            weight: numbers(2, self.to * self.shape[1] * self.kernel * self.kernel, weight),
            bias: numbers(3, self.to, |v| v),
            residual: numbers(4, count(self.out()), half),
            dy: numbers(5, count(self.out()), half),
        }
    }

    /// Returns the value and every gradient on `device`, with maps in f16 or in f32.
    fn results(&self, operands: &Operands, device: &Device, half: bool) -> Results {
        let device = &device.clone().autodiff();
        let map = |values: &[f32], [b, c, h, w]: [usize; 4]| {
            let data = TensorData::new(values.to_vec(), [b, h, w, c]);
            let tensor = match half {
                true => {
                    Tensor::<4>::from_data(data.convert_dtype(DType::F16), (device, DType::F16))
                }
                false => Tensor::<4>::from_data(data, device),
            };
            tensor.permute([0, 3, 1, 2])
        };
        let x = map(&operands.x, self.shape).detach().require_grad();
        let residual = map(&operands.residual, self.out()).detach().require_grad();
        let weight = TensorData::new(
            operands.weight.clone(),
            [self.to, self.shape[1], self.kernel, self.kernel],
        );
        let weight = Tensor::<4>::from_data(weight, device).require_grad();
        let bias =
            Tensor::<1>::from_data(TensorData::new(operands.bias.clone(), [self.to]), device)
                .require_grad();
        let [has_bias, has_residual] = self.extra;
        let given = (has_bias.then(|| bias.clone()), has_residual.then(|| residual.clone()));
        let y = conv2d(x.clone(), weight.clone(), given.0, given.1, self.options());
        let gradients = vjp(y.clone(), map(&operands.dy, self.out()).detach());
        fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
            tensor.into_data().convert::<f32>().try_to_vec().expect("numbers")
        }
        let mut results = vec![
            ("the value", half, read(y.inner())),
            ("the gradient of x", half, read(x.grad(&gradients).expect("tracked"))),
            ("the gradient of the weight", false, read(weight.grad(&gradients).expect("tracked"))),
        ];
        if has_bias {
            results.push((
                "the gradient of the bias",
                false,
                read(bias.grad(&gradients).expect("tracked")),
            ));
        }
        if has_residual {
            results.push((
                "the gradient of the residual",
                half,
                read(residual.grad(&gradients).expect("tracked")),
            ));
        }
        results
    }

    /// Returns the largest error of each result as a multiple of the tolerance; infinite if an
    /// element isn't finite. A result that is stored as f16 is rounded to 11 bits. Sums in f32, in
    /// any order, have an error of less than one unit of the largest result's 24th bit per term
    /// (and errors add up like a random walk). f16 can't distinguish 2^-24 from 0.
    fn errors(&self, got: &Results, want: &Results) -> Vec<(&'static str, f32)> {
        assert_eq!(got.len(), want.len(), "{self:?}");
        let bit = |n: i32| 2f32.powi(-n);
        let error = |((name, stored, got), (_, _, want)): (&Named, &Named)| {
            if got.len() != want.len()
                || want.is_empty()
                || !got.iter().chain(want).all(|v| v.is_finite())
            {
                return (*name, f32::INFINITY);
            }
            let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let absolute = (self.terms() as f32).sqrt() * bit(22) * largest
                + if *stored { bit(24) } else { 0.0 };
            let relative = if *stored { bit(11) } else { 0.0 };
            let errors =
                got.iter().zip(want).map(|(g, w)| (g - w).abs() / (relative * w.abs() + absolute));
            (*name, errors.fold(0.0, f32::max))
        };
        got.iter().zip(want).map(error).collect()
    }

    /// Compares the results of `run` for this call with the reference, and checks that an error in
    /// any operand would be detected.
    fn check(&self, run: impl Fn(&dyn Fn() -> Results) -> Results) {
        let device = wgpu();
        let mut operands = self.operands();
        let want = with_references(|| self.results(&operands, &Device::flex(), false));
        let got = run(&|| self.results(&operands, &device, true));
        for (name, error) in self.errors(&got, &want) {
            assert!(error <= 1.0, "{name} of {self:?}: {error:.2} times the tolerance");
        }
        let used = [true, true, self.extra[0], self.extra[1], true];
        for i in (0..5).filter(|i| used[*i]) {
            let (_, numbers) = &mut operands.all()[i];
            let place = numbers.len() / 2;
            let before = numbers[place];
            numbers[place] += 1.0;
            let wrong = with_references(|| self.results(&operands, &Device::flex(), false));
            let (name, numbers) = &mut operands.all()[i];
            numbers[place] = before;
            let seen = self.errors(&got, &wrong).into_iter().any(|(_, error)| error > 1.0);
            assert!(seen, "an error in {name} of {self:?} would pass");
        }
    }
}

/// Checks that every shader that ran between guards is in the catalogue; returns their source.
fn listed() -> BTreeSet<String> {
    let all: BTreeSet<String> =
        shaders(operations()).into_iter().map(|(_, filled)| filled.text).collect();
    let ran = launched();
    if let Some(other) = ran.difference(&all).next() {
        panic!("the catalogue doesn't list a shader that was launched:\n{other}");
    }
    ran
}

#[test]
fn tiles_of_gpus_equal_the_reference() {
    for call in tiled() {
        call.check(|work| with_guards(|| with_class(Class::Gpu, work)));
    }
    assert!(
        listed()
            .iter()
            .all(|text| !text.contains("multiply_add(") && !text.contains("coopMultiplyAdd("))
    );
}

/// With blocks and taps.
#[test]
fn kernels_of_software_adapters_equal_the_reference() {
    for call in calls() {
        call.check(|work| with_guards(|| with_class(Class::Software, work)));
    }
    listed();
}

/// The shim uses the same indices as the shaders for cooperative matrices.
#[test]
fn the_shim_of_matrices_equals_the_reference() {
    for call in tiled() {
        call.check(|work| with_guards(|| with_class(Class::Gpu, || with_matrix_shim(work))));
    }
    let ran = listed();
    assert!(
        ran.iter().filter(|text| text.contains("multiply_add(")).count() > 4,
        "the shim didn't run"
    );
}

/// Returns the adapter's profile, as if it were a GPU.
fn card() -> Profile {
    let adapter = soda::device::adapters().into_iter().next().expect("an adapter");
    Profile { class: Class::Gpu, ..adapter.profile }
}

#[test]
#[ignore = "needs cooperative matrices: scripts/test_coop.sh"]
fn cooperative_matrices_equal_the_reference() {
    let path = soda::kernels::conv2d::f16_path(&card());
    assert!(path.starts_with("cooperative matrices"), "{path}");
    // The first use compares them with the plain implementation, which must not count among the
    // shaders that ran between guards.
    let first = call(CALLS[1], false);
    with_profile(card(), || first.results(&first.operands(), &wgpu(), true));
    for call in tiled() {
        call.check(|work| with_guards(|| with_profile(card(), work)));
    }
    let ran = listed();
    let products =
        ran.iter().filter(|text| text.contains("fn gradient") || text.contains("fn channels"));
    assert!(
        products.clone().all(|text| text.contains("coopMultiplyAdd(")),
        "another implementation ran: the check rejected matrices"
    );
    assert!(products.count() > 4, "the matrices didn't run");
}
