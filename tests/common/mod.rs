//! Comparisons and devices that several tests share.
#![allow(dead_code)]

pub mod program;
#[cfg(unix)]
pub mod run;

use burn::tensor::Device;
use soda::kernels::catalog::Tolerance;

/// Returns the largest error of `got` against `want` as a multiple of the tolerance: |got - want|
/// <= relative * max|want| + absolute.
pub fn error(got: &[f32], want: &[f32], relative: f32, absolute: f32) -> f32 {
    Tolerance::new(relative, absolute).error(got, want)
}

/// Panics unless `got` equals `want` within the tolerance of [`error`].
pub fn assert_close(what: &str, got: &[f32], want: &[f32], relative: f32, absolute: f32) {
    let error = error(got, want, relative, absolute);
    assert!(
        error <= 1.0,
        "{what}: {error:.2} times the tolerance (relative {relative:e}, absolute {absolute:e})"
    );
}

/// Returns the wgpu device of these tests: the adapter that `soda` would find first, a software one
/// if there is no other.
///
/// # Panics
/// If there is no adapter at all: WGSL tests never pass without running.
pub fn wgpu() -> Device {
    soda::device::select("wgpu")
        .expect("the WGSL tests need an adapter; scripts/test.sh installs a software one")
        .device
}
