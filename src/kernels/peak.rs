//! What a device can do at best: a copy and a run of multiply-adds, in WGSL on wgpu devices and in the CPU's vectors.
//! Speeds of other kernels are given as shares of these.

use super::buffers::Buffer;
use super::launch::{grid, launch_words};
use super::layout::{empty_acc, flex_values};
use super::simd::{Path, mul_add};
use super::template::{kernel_source, render};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::backend::{Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_flex::{Flex, FlexTensor};
use minijinja::context;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// A copy of `x` `[N]`, N a multiple of 4: N floats read, N written.
pub fn copy(x: Tensor<1>) -> Tensor<1> {
    check(&x);
    Tensor::from_dispatch(<Dispatch as Peak>::copy(x.into_dispatch()))
}

/// `rounds` steps of six chains a <- (a + x) / 2 for each of `x` `[N]`, N a multiple of 1024, in registers: 12 N `rounds`
/// floating-point operations. Returns about `x` once `rounds` is 30 or more.
pub fn multiply_add(x: Tensor<1>, rounds: usize) -> Tensor<1> {
    check(&x);
    Tensor::from_dispatch(<Dispatch as Peak>::multiply_add(x.into_dispatch(), rounds))
}

/// Chains of [`multiply_add`].
const CHAINS: usize = 6;

/// Floating-point operations of [`multiply_add`].
pub fn multiply_add_flops(n: usize, rounds: usize) -> f64 {
    (2 * CHAINS * n * rounds) as f64
}

fn check(x: &Tensor<1>) {
    assert!(x.dims()[0].is_multiple_of(1024) && x.dims()[0] > 0, "peak: x has {} elements, no multiple of 1024", x.dims()[0]);
}

/// The operations on every device.
#[backend_extension(Cube, Flex)]
pub trait Peak: burn::backend::Backend {
    /// See [`copy`].
    fn copy(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`multiply_add`].
    fn multiply_add(x: FloatTensor<Self>, rounds: usize) -> FloatTensor<Self>;
}

/// The two shaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shader {
    /// shaders/copy.wgsl
    Copy,
    /// shaders/multiply_add.wgsl
    MultiplyAdd,
}

impl Shader {
    const WORKGROUP: u32 = 256;

    /// The complete WGSL text.
    pub fn wgsl(self) -> String {
        let text = match self {
            Self::Copy => include_str!("../../shaders/copy.wgsl"),
            Self::MultiplyAdd => include_str!("../../shaders/multiply_add.wgsl"),
        };
        render(text, context! { wg => Self::WORKGROUP })
    }

    fn run(self, name: &'static str, x: CubeTensor, rounds: u32) -> CubeTensor {
        let x = into_contiguous(x);
        let shape = x.meta.shape().clone();
        let vectors = shape.num_elements() / 4;
        let y = empty_acc(&x, shape);
        let count = grid(vectors.div_ceil(Self::WORKGROUP as usize));
        launch_words(name, self, Self::WORKGROUP, count, &[&x, &y], &[vectors as u32, rounds]);
        y
    }
}

kernel_source!(Shader);

impl Peak for CubeBackend {
    fn copy(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Shader::Copy.run("copy", x, 0)
    }

    fn multiply_add(x: FloatTensor<Self>, rounds: usize) -> FloatTensor<Self> {
        Shader::MultiplyAdd.run("multiply_add", x, rounds as u32)
    }
}

/// Elements of a task of the CPU.
const TASK: usize = 1 << 16;

impl Peak for Flex {
    fn copy(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        let mut y = Buffer::new(flex_values(&x).len());
        y.par_chunks_mut(TASK).zip(flex_values(&x).par_chunks(TASK)).for_each(|(y, x)| y.copy_from_slice(x));
        y.tensor(x.layout().shape().clone())
    }

    fn multiply_add(x: FlexTensor, rounds: usize) -> FlexTensor {
        let x = x.to_contiguous();
        let mut y = Buffer::copy(flex_values(&x));
        let path = Path::best();
        y.par_chunks_mut(1024).for_each(|y| path.run(Chains { y, rounds }));
        y.tensor(x.layout().shape().clone())
    }
}

struct Chains<'a> {
    y: &'a mut [f32],
    rounds: usize,
}

impl WithSimd for Chains<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let half = simd.splat_f32s(0.5);
        let (vectors, _) = S::as_mut_simd_f32s(self.y);
        // Two vectors at a time: one alone has too few chains to keep every multiplier busy.
        for pair in vectors.chunks_exact_mut(2) {
            let b = [simd.mul_f32s(pair[0], half), simd.mul_f32s(pair[1], half)];
            let mut chains: [[S::f32s; 2]; CHAINS] = std::array::from_fn(|i| [simd.splat_f32s(i as f32); 2]);
            for _ in 0..self.rounds {
                for chain in &mut chains {
                    for (a, b) in chain.iter_mut().zip(b) {
                        *a = mul_add(simd, *a, half, b);
                    }
                }
            }
            for (i, y) in pair.iter_mut().enumerate() {
                let sum = chains.iter().fold(simd.splat_f32s(0.0), |sum, chain| simd.add_f32s(sum, chain[i]));
                *y = simd.mul_f32s(sum, simd.splat_f32s(1.0 / CHAINS as f32));
            }
        }
    }
}
