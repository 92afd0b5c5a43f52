//! Every case of the catalogue: compares the value and all gradients of the CPU kernels and of the
//! WGSL kernels with the reference in plain tensor operations.

use crate::common::wgpu;
use burn::tensor::Device;
use soda::device::{Class, Extensions};
use soda::error::Result;
use soda::kernels::catalog::{
    self, Case, Input, Numbers, Operation, Pass, Results, Suite, Tolerance, Tolerances, operations,
};
use soda::kernels::precision::{Precision, autocast};
use soda::kernels::shader::Filled;
use soda::kernels::testing::{fill_with_junk, launched, with_class, with_guards, with_references};
use soda::kernels::work::Work;
use std::collections::BTreeSet;

/// Compares named tensors, and checks that one wrong element in each would be detected.
fn compare(case: &Case, got: &Results, want: &Results, tolerance: Tolerance, where_: &str) {
    assert_eq!(got.len(), want.len(), "{} on {where_}", case.name());
    for ((name, got), (_, want)) in got.iter().zip(want) {
        let error = tolerance.error(got, want);
        assert!(
            error <= 1.0,
            "{name} of {} on {where_}: {error:.2} times the tolerance, {tolerance:?}",
            case.name()
        );
        let mut wrong = got.clone();
        wrong[got.len() / 2] += tolerance.wrong(want);
        assert!(tolerance.error(&wrong, want) > 1.0, "a wrong element of {name} would pass");
    }
}

fn results(case: &Case, device: &Device) -> Results {
    case.results(device).unwrap_or_else(|e| panic!("{}: {e}", case.name()))
}

fn reference(case: &Case) -> Results {
    with_references(|| results(case, &Device::flex()))
}

fn cases(operations: &[&dyn Operation]) -> Vec<Case> {
    catalog::cases(operations, Suite::Test)
}

fn the_cpus_kernels_equal_the_references(operations: &[&dyn Operation]) {
    // Finds elements that a kernel doesn't write.
    fill_with_junk(true);
    for case in cases(operations) {
        compare(
            &case,
            &results(&case, &Device::flex()),
            &reference(&case),
            case.tolerances.cpu,
            "the CPU",
        );
    }
}

fn shaders_equal_the_references(operations: &[&dyn Operation], class: Class) {
    let device = wgpu();
    for case in cases(operations) {
        let got = with_class(class, || results(&case, &device));
        compare(&case, &got, &reference(&case), case.tolerances.wgsl, &format!("{class:?}"));
    }
}

/// Launches are unchecked, so the shaders' buffers lie between guard bytes here, and new ones are
/// filled with NaN.
fn shaders_stay_within_their_buffers(operations: &[&dyn Operation], class: Class) {
    let device = wgpu();
    for case in cases(operations) {
        let results = with_guards(|| with_class(class, || results(&case, &device)));
        let written = results
            .iter()
            .all(|(_, values)| !values.is_empty() && values.iter().all(|v| v.is_finite()));
        assert!(written, "{}: a kernel leaves an element unwritten", case.name());
    }
    // Every shader that ran is one that the shader checks see.
    let listed: BTreeSet<String> =
        catalog::shaders(operations).into_iter().map(|(_, filled)| filled.text).collect();
    if let Some(other) = launched().difference(&listed).next() {
        panic!("the catalogue doesn't list a shader that was launched:\n{other}");
    }
}

#[test]
fn the_cpu_backends_kernels_equal_the_references() {
    the_cpus_kernels_equal_the_references(operations());
}

/// With the tiles of real GPUs, whichever adapter this is.
#[test]
fn the_shaders_of_gpus_equal_the_references() {
    shaders_equal_the_references(operations(), Class::Gpu);
}

#[test]
fn the_shaders_of_software_adapters_equal_the_references() {
    shaders_equal_the_references(operations(), Class::Software);
}

#[test]
fn no_shader_of_gpus_reads_or_writes_outside_its_buffers() {
    shaders_stay_within_their_buffers(operations(), Class::Gpu);
}

#[test]
fn no_shader_of_software_adapters_reads_or_writes_outside_its_buffers() {
    shaders_stay_within_their_buffers(operations(), Class::Software);
}

/// All operations on feature maps but convolutions (see half.rs), with maps stored as f16, on
/// values that f16 represents exactly. Results that aren't stored as f16 are as close to the f32
/// reference as before. Those that are have been rounded once (twice where attention's backward
/// pass reads its own result), by 2^-11 if the driver rounds to nearest, and by 2^-10 if it
/// doesn't.
fn shaders_of_f16_equal_the_references(class: Class) {
    let device = wgpu();
    let of_maps = |case: &Case| case.kernel != "conv2d" && case.inputs.iter().any(Input::is_map);
    for case in cases(operations()).into_iter().filter(of_maps) {
        let got = with_guards(|| with_class(class, || case.results_of(Numbers::Stored, &device)))
            .expect("the device is there");
        let want = with_references(|| case.results_of(Numbers::Halves, &Device::flex()))
            .expect("the CPU is there");
        assert_eq!(got.len(), want.len(), "{}", case.name());
        let own = case.tolerances.wgsl;
        for (got, want) in got.into_iter().zip(want) {
            let input = got
                .0
                .strip_prefix("the gradient of ")
                .and_then(|name| case.inputs.iter().find(|i| i.name == name));
            let stored = input.map_or(got.0 == "the value", Input::is_map);
            let tolerance =
                if stored { Tolerance::new(2e-3 + own.relative, own.absolute + 1e-6) } else { own };
            compare(&case, &vec![got], &vec![want], tolerance, &format!("{class:?}, f16"));
        }
    }
}

#[test]
fn the_shaders_of_gpus_for_f16_equal_the_references() {
    shaders_of_f16_equal_the_references(Class::Gpu);
}

#[test]
fn the_shaders_of_software_adapters_for_f16_equal_the_references() {
    shaders_of_f16_equal_the_references(Class::Software);
}

/// On an adapter without f16, half-precision products of f32 values equal those of rounded values,
/// up to the order of summation; f32 products don't. (The weights of upsampled inputs are rounded
/// as sums: see half.rs.)
#[test]
fn products_round_their_factors_where_maps_stay_f32() {
    let tolerance = Tolerance::new(1e-4, 1e-5);
    let device = wgpu();
    let cases = cases(operations());
    // If attention pads channels, it scales q before rounding it.
    let padded = |case: &Case| case.kernel == "attention" && !case.shape[1].is_multiple_of(4);
    let left_out = |case: &Case| case.name().contains("upsampl") || padded(case);
    let of = |kernel: &'static str| {
        cases.iter().filter(move |case| case.kernel == kernel && !left_out(case))
    };
    for case in of("conv2d").step_by(9).chain(of("attention").step_by(2)) {
        for class in [Class::Gpu, Class::Software] {
            let rounded = with_guards(|| {
                with_class(class, || autocast(Precision::F16, || results(case, &device)))
            });
            let plain = with_class(class, || results(case, &device));
            let want = with_references(|| case.results_of(Numbers::Halves, &Device::flex()))
                .expect("the CPU is there");
            for ((rounded, plain), want) in rounded.into_iter().zip(plain).zip(want) {
                // Sums over the result's gradient alone aren't products.
                if ["the gradient of bias", "the gradient of residual"].contains(&want.0.as_str()) {
                    continue;
                }
                assert!(
                    tolerance.error(&plain.1, &want.1) > 1.0,
                    "{} of {}: rounding changes nothing",
                    want.0,
                    case.name()
                );
                compare(
                    case,
                    &vec![rounded],
                    &vec![want],
                    tolerance,
                    &format!("{class:?}, rounded"),
                );
            }
        }
    }
}

#[test]
fn the_self_tests_cases_run_on_the_cpu() -> Result<()> {
    for case in catalog::cases(operations(), Suite::SelfTest) {
        let results = case.results(&Device::flex())?;
        assert!(
            results
                .iter()
                .all(|(_, values)| !values.is_empty() && values.iter().all(|v| v.is_finite())),
            "{}",
            case.name()
        );
    }
    Ok(())
}

/// An operation that is in none of our lists: x + x.
struct Doubling;

impl Operation for Doubling {
    fn name(&self) -> &'static str {
        "doubling"
    }

    fn cases(&self, _suite: Suite) -> Vec<Case> {
        let inputs = vec![Input::image("x", [2, 3, 4, 4])];
        let work = Work::floats(&[2 * 96]);
        vec![
            Case::new("doubling", &[2, 3, 4, 4], inputs, Tolerances::both(1e-6, 1e-6), |inputs| {
                let x = inputs.map("x");
                vec![("the value", (x.clone() + x).into())]
            })
            .passes(vec![
                Pass { name: "forward", learns: vec![], work },
                Pass { name: "backward", learns: vec!["x"], work },
            ]),
        ]
    }

    fn shaders(&self) -> Vec<Filled> {
        let text = "@compute @workgroup_size(64)\nfn main() {}\n".to_owned();
        let (kernel, variant, extensions) = ("doubling", "only".to_owned(), Extensions::default());
        vec![Filled {
            kernel,
            variant,
            text,
            workgroup: 64,
            buffers: 0,
            extensions,
            multiply_adds: vec![],
            info: vec![],
        }]
    }
}

/// The self test, the benchmark, the comparisons and the shader checks take a list of operations: a
/// new operation is one line in the catalogue.
#[test]
fn everything_that_takes_operations_accepts_a_new_one() {
    let one: &[&dyn Operation] = &[&Doubling];
    the_cpus_kernels_equal_the_references(one);
    shaders_equal_the_references(one, Class::Gpu);
    shaders_stay_within_their_buffers(one, Class::Software);

    let adapter = soda::device::select("wgpu").expect("an adapter");
    let mut seen = Vec::new();
    soda::selftest::run(one, &adapter, |outcome, total| seen.push((outcome.kernel, total)))
        .expect("it is right");
    assert_eq!(seen, [("doubling", 1)]);

    let timed = soda::bench::kernels::timed(one, 2);
    let names: Vec<String> = timed.iter().map(|timed| timed.name()).collect();
    assert_eq!(names, ["doubling_forward 2x3x4x4", "doubling_backward 2x3x4x4"]);
    assert!(timed.iter().all(|timed| {
        soda::bench::kernels::time(timed, &Device::flex(), 0.0).expect("a time").1.median > 0.0
    }));

    let shaders = catalog::shaders(one);
    assert_eq!((shaders.len(), shaders[0].0, shaders[0].1.kernel), (1, "doubling", "doubling"));
}
