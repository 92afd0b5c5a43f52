//! Launches of the concatenation shader on cubecl's wgpu runtime.

use super::{Concat, ConcatInputs, reference, work};
use crate::device::Class;
use crate::kernels::adapter::{class, on_wgpu};
use crate::kernels::columns::{Blocks, Columns};
use crate::kernels::launch::launch;
use crate::kernels::layout;
use crate::kernels::shader::{Filled, Shader, Types, info};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use minijinja::{Value, context};

/// shaders/concat.wgsl
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Move {
    columns: Columns,
    /// Whether the parts are written, rather than the whole.
    split: bool,
    types: Types,
}

info! {
    /// The info block of the shader.
    struct Info {
        width: u32,
        pixels: u32,
        size: u32,
        count: u32,
        first: u32,
    }
}

impl Shader for Move {
    type Info = Info;
    const FILE: &'static str = "concat";
    const TEXT: &'static str = include_str!("../../../shaders/concat.wgsl");
    const BUFFERS: usize = 3;

    fn workgroup(&self) -> u32 {
        self.columns.wg
    }

    fn values(&self) -> Value {
        context! { split => self.split, ..self.columns.context() }
    }

    fn types(&self) -> Types {
        self.types
    }
}

/// Returns all variants for parts of `channels` channels.
pub(super) fn shaders(channels: &[[usize; 2]]) -> Vec<Filled> {
    let classes = [Class::Gpu, Class::Software].into_iter();
    let all = classes.flat_map(|class| {
        channels.iter().flat_map(move |channels| Types::ALL.map(|types| (class, channels, types)))
    });
    all.flat_map(|(class, channels, types)| both(class, channels, types)).collect()
}

/// Returns the variants for GPUs, for f32 parts of `channels` channels.
pub(super) fn launched(channels: &[usize; 2]) -> [Filled; 2] {
    both(Class::Gpu, channels, Types::F32)
}

fn both(class: Class, channels: &[usize; 2], types: Types) -> [Filled; 2] {
    let columns = Columns::new(class, channels);
    [false, true].map(|split| Filled::new(Move { columns, split, types }))
}

/// Copies the parts `a` and `b` to the whole `y`, or back if `split` is set.
fn run(name: &'static str, split: bool, [a, b, y]: [&CubeTensor; 3]) {
    let ([batch, c_a, height, width], [_, c_b, ..]) = (layout::dims(a), layout::dims(b));
    let class = class(a);
    let columns = Columns::new(class, &[c_a, c_b]);
    // A few pixels for each invocation.
    let each = match class {
        Class::Gpu => 4,
        Class::Software => 32,
    };
    let blocks =
        Blocks::new(columns, batch * height * width, c_a + c_b, each, u32::MAX / columns.wg);
    let shader =
        Move { columns, split, types: Types::of(layout::elem("concat", "the feature map", a)) };
    let Blocks { width: units, pixels, size, count, .. } = blocks;
    let info = Info { width: units, pixels, size, count, first: columns.units(c_a) };
    launch(
        name,
        shader,
        blocks.workgroups(),
        &[a, b, y],
        &info,
        work([batch, c_a + c_b, height, width]),
    );
}

impl Concat for CubeBackend {
    fn forward(inputs: ConcatInputs<Self>) -> FloatTensor<Self> {
        if !on_wgpu(&inputs.a) {
            return reference::forward::<Self>(inputs.a, inputs.b);
        }
        let ConcatInputs { a, b } = inputs;
        layout::check("concat", "b", &b, layout::elem("concat", "a", &a));
        let [a, b] = [a, b].map(layout::into_nhwc);
        let ([batch, c_a, height, width], [_, c_b, ..]) = (layout::dims(&a), layout::dims(&b));
        let y = layout::empty_nhwc(&a, [batch, c_a + c_b, height, width]);
        run("concat", false, [&a, &b, &y]);
        y
    }

    fn backward(dy: FloatTensor<Self>, channels: usize) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !on_wgpu(&dy) {
            return reference::backward::<Self>(dy, channels);
        }
        let dy = layout::into_nhwc(dy);
        let [batch, both, height, width] = layout::dims(&dy);
        let [a, b] = [channels, both - channels]
            .map(|channels| layout::empty_nhwc(&dy, [batch, channels, height, width]));
        run("concat backward", true, [&a, &b, &dy]);
        (a, b)
    }
}
