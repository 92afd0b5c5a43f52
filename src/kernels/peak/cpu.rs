//! The peak throughput of the CPU.

use super::Peak;
use super::reference::CHAINS;
use crate::kernels::buffers::Buffer;
use crate::kernels::layout::flex_values;
use crate::kernels::simd::{Path, mul_add};
use burn_flex::{Flex, FlexTensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// The elements of a task.
const TASK: usize = 1 << 16;

impl Peak for Flex {
    fn copy(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        let mut y = Buffer::new(flex_values(&x).len());
        y.par_chunks_mut(TASK)
            .zip(flex_values(&x).par_chunks(TASK))
            .for_each(|(y, x)| y.copy_from_slice(x));
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
        // Two vectors at a time: one alone has too few chains to keep all multipliers busy.
        for pair in vectors.chunks_exact_mut(2) {
            let b = [simd.mul_f32s(pair[0], half), simd.mul_f32s(pair[1], half)];
            let mut chains: [[S::f32s; 2]; CHAINS] =
                std::array::from_fn(|i| [simd.splat_f32s(i as f32); 2]);
            for _ in 0..self.rounds {
                for chain in &mut chains {
                    for (a, b) in chain.iter_mut().zip(b) {
                        *a = mul_add(simd, *a, half, b);
                    }
                }
            }
            for (i, y) in pair.iter_mut().enumerate() {
                let sum = chains
                    .iter()
                    .fold(simd.splat_f32s(0.0), |sum, chain| simd.add_f32s(sum, chain[i]));
                *y = simd.mul_f32s(sum, simd.splat_f32s(1.0 / CHAINS as f32));
            }
        }
    }
}
