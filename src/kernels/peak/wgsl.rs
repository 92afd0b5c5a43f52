//! The peak throughput of wgpu devices.

use super::reference::{self, CHAINS};
use super::{Peak, multiply_add_flops};
use crate::kernels::adapter::on_wgpu;
use crate::kernels::launch::launch;
use crate::kernels::layout;
use crate::kernels::shader::{Elem, Filled, Shader, info};
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use minijinja::{Value, context};

info! {
    /// The info block of [`CopyShader`].
    struct CopyInfo { vectors: u32 }

    /// The info block of [`MultiplyAddShader`].
    struct MultiplyAddInfo { vectors: u32, rounds: u32, half: f32 }
}

/// The invocations of a workgroup. Each has a vector of four values.
const WORKGROUP: u32 = 256;

/// The rounds of multiply-adds per iteration of the unrolled loop: the loop's own instructions are
/// then a hundredth of all.
const UNROLL: u32 = 8;

/// shaders/copy.wgsl
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CopyShader;

impl Shader for CopyShader {
    type Info = CopyInfo;
    const FILE: &'static str = "copy";
    const TEXT: &'static str = include_str!("../../../shaders/copy.wgsl");
    const BUFFERS: usize = 2;

    fn workgroup(&self) -> u32 {
        WORKGROUP
    }

    fn values(&self) -> Value {
        context! {}
    }
}

/// shaders/multiply_add.wgsl
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct MultiplyAddShader;

impl Shader for MultiplyAddShader {
    type Info = MultiplyAddInfo;
    const FILE: &'static str = "multiply_add";
    const TEXT: &'static str = include_str!("../../../shaders/multiply_add.wgsl");
    const BUFFERS: usize = 2;

    fn workgroup(&self) -> u32 {
        WORKGROUP
    }

    fn values(&self) -> Value {
        context! { chains => CHAINS, unroll => UNROLL }
    }

    fn multiply_adds(&self) -> Vec<u32> {
        vec![4 * CHAINS as u32 * UNROLL, 4 * CHAINS as u32]
    }
}

/// Returns both shaders.
pub(super) fn shaders() -> Vec<Filled> {
    vec![Filled::new(CopyShader), Filled::new(MultiplyAddShader)]
}

/// Returns `x` made contiguous, and a tensor for the result.
fn operands(name: &str, x: CubeTensor) -> [CubeTensor; 2] {
    layout::check(name, "x", &x, Elem::F32);
    let x = into_contiguous(x);
    let y = layout::empty_acc(&x, x.meta.shape().clone());
    [x, y]
}

impl Peak for CubeBackend {
    fn copy(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if !on_wgpu(&x) {
            return reference::copy::<Self>(x);
        }
        let [x, y] = operands("copy", x);
        let n = x.meta.shape().num_elements();
        let info = CopyInfo { vectors: (n / 4) as u32 };
        launch(
            "copy",
            CopyShader,
            (n / 4).div_ceil(WORKGROUP as usize),
            &[&x, &y],
            &info,
            Work::floats(&[2 * n]),
        );
        y
    }

    fn multiply_add(x: FloatTensor<Self>, rounds: usize) -> FloatTensor<Self> {
        if !on_wgpu(&x) {
            return reference::multiply_add::<Self>(x, rounds);
        }
        let [x, y] = operands("multiply_add", x);
        let n = x.meta.shape().num_elements();
        let info = MultiplyAddInfo { vectors: (n / 4) as u32, rounds: rounds as u32, half: 0.5 };
        let work = Work { operations: multiply_add_flops(n, rounds), ..Work::floats(&[2 * n]) };
        launch(
            "multiply_add",
            MultiplyAddShader,
            (n / 4).div_ceil(WORKGROUP as usize),
            &[&x, &y],
            &info,
            work,
        );
        y
    }
}
