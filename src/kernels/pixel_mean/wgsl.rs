//! Launches of the pixel-mean shader on cubecl's wgpu runtime.

use super::{PixelMean, reference, work};
use crate::kernels::adapter::on_wgpu;
use crate::kernels::launch::launch;
use crate::kernels::layout;
use crate::kernels::shader::{Filled, Shader, Types, info};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::tensor::Shape;
use minijinja::{Value, context};

info! {
    /// The info block of the shader.
    struct Info { total: u32, pixels: u32, channels: u32 }
}

/// The invocations of a workgroup.
const WORKGROUP: u32 = 64;

/// shaders/pixel_mean.wgsl
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Forward(Types);

impl Shader for Forward {
    type Info = Info;
    const FILE: &'static str = "pixel_mean";
    const TEXT: &'static str = include_str!("../../../shaders/pixel_mean.wgsl");
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

impl PixelMean for CubeBackend {
    fn forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if !on_wgpu(&x) {
            return reference::forward::<Self>(x);
        }
        let types = Types::of(layout::elem("pixel_mean", "x", &x));
        let x = layout::into_nhwc(x);
        let dims = layout::dims(&x);
        let [b, c, h, w] = dims;
        let y = layout::empty_acc(&x, Shape::new([b, c]));
        let [total, pixels, channels] = [b * c, h * w, c].map(|v| v as u32);
        let info = Info { total, pixels, channels };
        launch(
            "pixel_mean",
            Forward(types),
            total.div_ceil(WORKGROUP) as usize,
            &[&x, &y],
            &info,
            work(dims),
        );
        y
    }
}
