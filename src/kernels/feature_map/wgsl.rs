//! Launches of the shader of concatenation on cubecl's wgpu runtime.

use super::{FeatureMapGradients, FeatureMapOp};
use crate::kernels::columns::{Blocks, Columns};
use crate::kernels::launch::{Class, class, launch_words};
use crate::kernels::layout;
use crate::kernels::template::{kernel_source, render};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::DType;
use minijinja::context;

/// shaders/concat.wgsl, with its template values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// How a workgroup lies on the pixels.
    pub columns: Columns,
    /// Whether the parts are written, not the whole.
    pub split: bool,
}

impl Shader {
    /// The complete WGSL text.
    pub fn wgsl(self) -> String {
        render(include_str!("../../../shaders/concat.wgsl"), context! { split => self.split, ..self.columns.context() })
    }
}
kernel_source!(Shader);

/// Between the parts `a`, `b` and the whole `y`, as `split` says.
fn run(name: &'static str, split: bool, [a, b, y]: [&CubeTensor; 3]) {
    let ([batch, c_a, height, width], [_, c_b, ..]) = (layout::dims(a), layout::dims(b));
    let class = class(a);
    let columns = Columns::new(class, &[c_a, c_b]);
    // A few pixels for each invocation.
    let each = match class {
        Class::Gpu => 4,
        Class::Software => 32,
    };
    let blocks = Blocks::new(columns, batch * height * width, c_a + c_b, each, u32::MAX / columns.workgroup);
    let [values, pixels, size, count] = blocks.info();
    let info = [values, pixels, size, count, columns.values(c_a)];
    launch_words(name, Shader { columns, split }, columns.workgroup, blocks.grid(), &[a, b, y], &info);
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
        run("concat", false, [&a, &b, &y]);
        y
    }
}

impl FeatureMapGradients for CubeBackend {
    fn split(dy: FloatTensor<Self>, c_a: usize) -> [FloatTensor<Self>; 2] {
        let dy = image("the gradient", dy);
        let [batch, both, height, width] = layout::dims(&dy);
        let [a, b] = [c_a, both - c_a].map(|channels| layout::empty_nhwc(&dy, [batch, channels, height, width]));
        run("concat backward", true, [&a, &b, &dy]);
        [a, b]
    }
}
