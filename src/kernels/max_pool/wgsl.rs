//! Launches of the max-pooling shaders on cubecl's wgpu runtime.

use super::{MaxPool, backward_work, forward_work, out_dims, reference};
use crate::kernels::adapter::on_wgpu;
use crate::kernels::launch::launch;
use crate::kernels::layout;
use crate::kernels::shader::{Filled, Shader, Types, info};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use minijinja::{Value, context};

info! {
    /// The info block of both shaders.
    struct Info { total: u32, units: u32, height: u32, width: u32, out_height: u32, out_width: u32 }
}

/// The invocations of a workgroup. Each has one window and one unit of channels.
const WORKGROUP: u32 = 64;

/// shaders/max_pool_forward.wgsl
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Forward {
    /// Whether a unit is four channels, not one.
    four: bool,
    types: Types,
}

impl Shader for Forward {
    type Info = Info;
    const FILE: &'static str = "max_pool_forward";
    const TEXT: &'static str = include_str!("../../../shaders/max_pool_forward.wgsl");
    const BUFFERS: usize = 2;

    fn workgroup(&self) -> u32 {
        WORKGROUP
    }

    fn values(&self) -> Value {
        context! { four => self.four }
    }

    fn types(&self) -> Types {
        self.types
    }
}

/// shaders/max_pool_backward.wgsl
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Backward {
    /// Whether a unit is four channels, not one.
    four: bool,
    types: Types,
}

impl Shader for Backward {
    type Info = Info;
    const FILE: &'static str = "max_pool_backward";
    const TEXT: &'static str = include_str!("../../../shaders/max_pool_backward.wgsl");
    const BUFFERS: usize = 3;

    fn workgroup(&self) -> u32 {
        WORKGROUP
    }

    fn values(&self) -> Value {
        context! { four => self.four }
    }

    fn types(&self) -> Types {
        self.types
    }
}

/// Returns the variants for f32 feature maps of `channels` channels.
pub(super) fn launched(channels: usize) -> [Filled; 2] {
    let (four, types) = (channels.is_multiple_of(4), Types::F32);
    [Filled::new(Forward { four, types }), Filled::new(Backward { four, types })]
}

/// Returns all variants.
pub(super) fn shaders() -> Vec<Filled> {
    let all = Types::ALL.into_iter().flat_map(|types| [false, true].map(|four| (four, types)));
    all.flat_map(|(four, types)| {
        [Filled::new(Forward { four, types }), Filled::new(Backward { four, types })]
    })
    .collect()
}

impl Info {
    /// Returns for `x` whether units are four channels, the info block, and the number of
    /// workgroups.
    fn new(x: &CubeTensor) -> (bool, Self, usize) {
        let [_, channels, height, width] = layout::dims(x);
        let [batch, _, out_height, out_width] = out_dims(layout::dims(x));
        let four = channels.is_multiple_of(4);
        let units = if four { channels / 4 } else { channels };
        let total = batch * out_height * out_width * units;
        let [units, height, width, out_height, out_width] =
            [units, height, width, out_height, out_width].map(|v| v as u32);
        let info = Self { total: total as u32, units, height, width, out_height, out_width };
        (four, info, total.div_ceil(WORKGROUP as usize))
    }
}

impl MaxPool for CubeBackend {
    fn forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if !on_wgpu(&x) {
            return reference::forward::<Self>(x);
        }
        let types = Types::of(layout::elem("max_pool", "x", &x));
        let x = layout::into_nhwc(x);
        let dims = layout::dims(&x);
        let y = layout::empty_nhwc(&x, out_dims(dims));
        let (four, info, workgroups) = Info::new(&x);
        launch(
            "max_pool forward",
            Forward { four, types },
            workgroups,
            &[&x, &y],
            &info,
            forward_work(dims),
        );
        y
    }

    fn backward(dy: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        if !on_wgpu(&x) {
            return reference::backward::<Self>(dy, x);
        }
        let elem = layout::elem("max_pool", "x", &x);
        layout::check("max_pool", "the result's gradient", &dy, elem);
        let (dy, x) = (layout::into_nhwc(dy), layout::into_nhwc(x));
        let dims = layout::dims(&x);
        let dx = layout::empty_nhwc_like(&x);
        let (four, info, workgroups) = Info::new(&x);
        let shader = Backward { four, types: Types::of(elem) };
        launch(
            "max_pool backward",
            shader,
            workgroups,
            &[&x, &dy, &dx],
            &info,
            backward_work(dims),
        );
        dx
    }
}
