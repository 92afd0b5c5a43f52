//! Launches of the shaders for feature maps on cubecl's wgpu runtime.

use super::{FeatureMapGradients, FeatureMapOp};
use crate::kernels::columns::{Blocks, Columns};
use crate::kernels::launch::{Class, class, launch};
use crate::kernels::layout;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, KernelSource, SourceTemplate};
use burn::cubecl::prelude::KernelId;
use burn::tensor::DType;

/// The two shaders, with their template values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shader {
    /// shaders/concat.wgsl
    Concat(Columns),
    /// shaders/split.wgsl
    Split(Columns),
}

impl Shader {
    /// The complete WGSL text.
    pub fn wgsl(self) -> String {
        KernelSource::source(&self).complete()
    }
}

impl KernelSource for Shader {
    fn source(&self) -> SourceTemplate {
        let (text, columns) = match self {
            Self::Concat(columns) => (include_str!("../../../shaders/concat.wgsl"), columns),
            Self::Split(columns) => (include_str!("../../../shaders/split.wgsl"), columns),
        };
        columns.register(SourceTemplate::new(text))
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(*self)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// `pixels` pixels of `channels` channels in all, a few of them for each invocation.
fn blocks(columns: Columns, class: Class, pixels: usize, channels: usize) -> Blocks {
    let each = match class {
        Class::Gpu => 4,
        Class::Software => 32,
    };
    Blocks::new(columns, pixels, channels, each, u32::MAX / columns.workgroup)
}

fn image(name: &str, x: CubeTensor) -> CubeTensor {
    assert!(x.dtype == DType::F32, "feature_map: {name} is {:?}, the WGSL kernel takes f32", x.dtype);
    layout::into_nhwc(x)
}

impl FeatureMapOp for CubeBackend {
    fn concat(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let (a, b) = (image("a", a), image("b", b));
        let ([batch, c_a, height, width], [_, c_b, ..]) = (layout::dims(&a), layout::dims(&b));
        let y = layout::empty_nhwc(&a, [batch, c_a + c_b, height, width]);
        let columns = Columns::new(class(&a), &[c_a, c_b]);
        let blocks = blocks(columns, class(&a), batch * height * width, c_a + c_b);
        let [values, pixels, size, count] = blocks.info();
        let info = [values, pixels, size, count, columns.values(c_a)];
        launch("concat", Shader::Concat(columns), columns.workgroup, blocks.grid(), &[&a, &b, &y], &info);
        y
    }
}

impl FeatureMapGradients for CubeBackend {
    fn split(dy: FloatTensor<Self>, c_a: usize) -> [FloatTensor<Self>; 2] {
        let dy = image("the gradient", dy);
        let [batch, both, height, width] = layout::dims(&dy);
        let part = |channels| layout::empty_nhwc(&dy, [batch, channels, height, width]);
        let [a, b] = [part(c_a), part(both - c_a)];
        let columns = Columns::new(class(&dy), &[c_a, both - c_a]);
        let blocks = blocks(columns, class(&dy), batch * height * width, both);
        let [values, pixels, size, count] = blocks.info();
        let info = [values, pixels, size, count, columns.values(c_a)];
        launch("concat backward", Shader::Split(columns), columns.workgroup, blocks.grid(), &[&dy, &a, &b], &info);
        [a, b]
    }
}
