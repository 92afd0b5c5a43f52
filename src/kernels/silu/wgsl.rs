//! Launches of the SiLU shader on cubecl's wgpu runtime.

use super::{Silu, reference, work};
use crate::kernels::adapter::on_wgpu;
use crate::kernels::launch::launch;
use crate::kernels::layout;
use crate::kernels::shader::{Filled, Shader, Types, info};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, into_contiguous};
use burn::tensor::Shape;
use minijinja::{Value, context};

info! {
    /// The info block of the shader.
    struct Info { total: u32, width: u32, first: u32, length: u32 }
}

/// The invocations of a workgroup.
const WORKGROUP: u32 = 64;

/// shaders/silu.wgsl
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Forward(Types);

impl Shader for Forward {
    type Info = Info;
    const FILE: &'static str = "silu";
    const TEXT: &'static str = include_str!("../../../shaders/silu.wgsl");
    const BUFFERS: usize = 2;

    fn workgroup(&self) -> u32 {
        WORKGROUP
    }

    fn values(&self) -> Value {
        context! {}
    }

    fn types(&self) -> Types {
        self.0
    }
}

/// Returns all variants.
pub(super) fn shaders() -> Vec<Filled> {
    Types::ALL.map(|types| Filled::new(Forward(types))).into()
}

impl Silu for CubeBackend {
    fn forward(x: FloatTensor<Self>, first: usize, length: usize) -> FloatTensor<Self> {
        if !on_wgpu(&x) {
            return reference::forward::<Self>(x, first, length);
        }
        let types = Types::of(layout::elem("silu", "x", &x));
        let x = into_contiguous(x);
        let [rows, width] = [0, 1].map(|axis| x.meta.shape()[axis]);
        let y = layout::empty(&x, Shape::new([rows, length]), x.dtype);
        let total = rows * length;
        let [total, width, first, cut] = [total, width, first, length].map(|v| v as u32);
        let info = Info { total, width, first, length: cut };
        launch(
            "silu",
            Forward(types),
            total.div_ceil(WORKGROUP) as usize,
            &[&x, &y],
            &info,
            work(rows, length),
        );
        y
    }
}
