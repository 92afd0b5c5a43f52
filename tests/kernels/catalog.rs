//! Every case of the catalogue: the CPU backend's kernels and those in WGSL against the reference in plain tensor operations, in value and
//! every gradient.

use crate::common::wgpu;
use burn::tensor::Device;
use soda::device::Class;
use soda::error::Result;
use soda::kernels::catalog::{self, Case, Results, Suite, Tolerance, operations};
use soda::kernels::testing::{fill_with_junk, with_class, with_guards, with_references};

/// Compares named tensors, and sees to it that one wrong element of each would be seen.
fn compare(case: &Case, got: &Results, want: &Results, tolerance: Tolerance, where_: &str) {
    assert_eq!(got.len(), want.len(), "{} on {where_}", case.name());
    for ((name, got), (_, want)) in got.iter().zip(want) {
        let error = tolerance.error(got, want);
        assert!(error <= 1.0, "{name} of {} on {where_}: {error:.2} times the tolerated error, {tolerance:?}", case.name());
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

/// All cases but those that only the self test has.
fn cases() -> Vec<Case> {
    catalog::cases(operations(), Suite::Test)
}

#[test]
fn the_cpu_backends_kernels_equal_the_references() {
    // What a kernel forgets to write is found.
    fill_with_junk(true);
    for case in cases() {
        compare(&case, &results(&case, &Device::flex()), &reference(&case), case.tolerances.cpu, "the CPU");
    }
}

fn shaders_equal_the_references(class: Class) {
    let device = wgpu();
    for case in cases() {
        let got = with_class(class, || results(&case, &device));
        compare(&case, &got, &reference(&case), case.tolerances.wgsl, &format!("{class:?}"));
    }
}

/// The tiles that real GPUs get, whichever adapter this is.
#[test]
fn the_shaders_of_gpus_equal_the_references() {
    shaders_equal_the_references(Class::Gpu);
}

#[test]
fn the_shaders_of_software_adapters_equal_the_references() {
    shaders_equal_the_references(Class::Software);
}

/// Nothing checks indices for the shaders: their buffers lie between guard bytes, and fresh ones hold NaN.
#[test]
fn no_shader_reads_or_writes_beside_its_buffers() {
    let device = wgpu();
    for class in [Class::Gpu, Class::Software] {
        for case in cases() {
            with_guards(|| with_class(class, || results(&case, &device)));
        }
    }
}

#[test]
fn the_self_tests_cases_run_on_the_cpu() -> Result<()> {
    for case in catalog::cases(operations(), Suite::SelfTest) {
        let results = case.results(&Device::flex())?;
        assert!(results.iter().all(|(_, values)| !values.is_empty() && values.iter().all(|v| v.is_finite())), "{}", case.name());
    }
    Ok(())
}
