//! Comparisons and devices that several tests share.
#![allow(dead_code)]

pub mod cases;
pub mod program;
#[cfg(unix)]
pub mod run;

use burn::tensor::Device;

/// The largest error of `got` against `want`, as a multiple of what is tolerated: |got - want| <= relative * max|want| +
/// absolute. Anything not finite, on either side, is an infinite error.
pub fn error(got: &[f32], want: &[f32], relative: f32, absolute: f32) -> f32 {
    assert_eq!(got.len(), want.len(), "comparing tensors of different sizes");
    assert!(!want.is_empty(), "comparing nothing");
    if !got.iter().chain(want).all(|v| v.is_finite()) {
        return f32::INFINITY;
    }
    let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let tolerated = relative * largest + absolute;
    got.iter().zip(want).fold(0.0f32, |m, (g, w)| m.max((g - w).abs())) / tolerated
}

/// Panics unless `got` equals `want` within the tolerance of [`error`].
pub fn assert_close(what: &str, got: &[f32], want: &[f32], relative: f32, absolute: f32) {
    let error = error(got, want, relative, absolute);
    assert!(error <= 1.0, "{what}: {error:.2} times the tolerated error (relative {relative:e}, absolute {absolute:e})");
}

/// The wgpu device of these tests: the adapter that `soda` would find first, a software one if there is no other.
///
/// # Panics
/// If there is no adapter at all: WGSL tests never pass by not running.
pub fn wgpu() -> Device {
    soda::device::select("wgpu").expect("the WGSL tests need an adapter; scripts/test.sh installs a software one").device
}
