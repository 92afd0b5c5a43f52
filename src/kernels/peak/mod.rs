//! The peak throughput of a device: a copy and a run of multiply-adds, in WGSL on wgpu devices and
//! in SIMD vectors on the CPU. The throughput of other kernels is given as a fraction of these.

mod cases;
mod cpu;
mod reference;
mod wgsl;

pub use cases::PeakOperation;

use crate::kernels::choice::references;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use reference::CHAINS;

/// Copies `x` `[N]`: N floats read, N written.
///
/// # Panics
/// If N is 0 or not a multiple of 1024.
pub fn copy(x: Tensor<1>) -> Tensor<1> {
    check(&x);
    let x = x.into_dispatch();
    Tensor::from_dispatch(if references() {
        reference::copy::<Dispatch>(x)
    } else {
        <Dispatch as Peak>::copy(x)
    })
}

/// Computes `rounds` steps of six chains a <- (a + x) / 2 for each element of `x` `[N]`, in
/// registers: 12 N `rounds` floating-point operations. The result is close to `x` if `rounds` is 30
/// or more.
///
/// # Panics
/// As [`copy`].
pub fn multiply_add(x: Tensor<1>, rounds: usize) -> Tensor<1> {
    check(&x);
    let x = x.into_dispatch();
    Tensor::from_dispatch(match references() {
        true => reference::multiply_add::<Dispatch>(x, rounds),
        false => <Dispatch as Peak>::multiply_add(x, rounds),
    })
}

/// Returns the floating-point operations of [`multiply_add`].
pub fn multiply_add_flops(n: usize, rounds: usize) -> f64 {
    (2 * CHAINS * n * rounds) as f64
}

fn check(x: &Tensor<1>) {
    assert!(
        x.dims()[0].is_multiple_of(1024) && x.dims()[0] > 0,
        "peak: x has {} elements, which is not a positive multiple of 1024",
        x.dims()[0]
    );
}

/// The operations on every backend, by default in plain tensor operations.
#[backend_extension(Cube, Flex)]
pub trait Peak: Backend {
    /// Computes [`copy`].
    fn copy(x: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::copy::<Self>(x)
    }

    /// Computes [`multiply_add`].
    fn multiply_add(x: FloatTensor<Self>, rounds: usize) -> FloatTensor<Self> {
        reference::multiply_add::<Self>(x, rounds)
    }
}
