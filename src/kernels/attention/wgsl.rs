//! Launches of the attention shaders on cubecl's wgpu runtime.

use super::{AttentionKernels, AttentionOp};
use crate::kernels::launch::{Class, class, grid, launch_words};
use crate::kernels::layout;
use crate::kernels::template::{kernel_source, render};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::{DType, Shape};
use minijinja::context;

/// How a workgroup is laid out: the template values of the shaders, see shaders/attention_tiles.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Quads of rows of an invocation.
    pub row_quads: u32,
    /// Quads of columns of an invocation's tile of a product.
    pub column_quads: u32,
    /// Quads of channels of an invocation's sums.
    pub channel_quads: u32,
    /// Tiles along the workgroup's rows.
    pub groups: u32,
    /// Tiles of a product along a block; no more than `lanes`.
    pub columns: u32,
    /// Invocations along the channels.
    pub lanes: u32,
    /// Quads of channels that are staged in workgroup memory; 0 stages nothing.
    pub depth: u32,
}

impl Tile {
    /// Real GPUs, up to 64 channels. At most 256 invocations, and 16 KiB: weights 8, the staged block 4, sums 4.
    pub const NARROW: Self = Self { row_quads: 1, column_quads: 1, channel_quads: 2, groups: 16, columns: 8, lanes: 8, depth: 8 };
    /// Real GPUs, up to 128 channels.
    pub const MIDDLE: Self = Self { groups: 8, columns: 16, lanes: 16, depth: 4, ..Self::NARROW };
    /// Real GPUs, 256 channels a workgroup.
    pub const WIDE: Self = Self { lanes: 32, ..Self::MIDDLE };
    /// Software adapters, up to 64 channels. A load costs as much as 60 multiply-adds, from workgroup memory too: large
    /// tiles in registers, nothing staged.
    pub const SOFTWARE: Self =
        Self { row_quads: 2, column_quads: 2, channel_quads: 2, groups: 4, columns: 4, lanes: 8, depth: 0 };

    /// The tile for `channels` (of q, k and v each) and `pixels` on an adapter of `class`.
    pub fn new(class: Class, channels: usize, pixels: usize) -> Self {
        match class {
            Class::Gpu => {
                let tile = match channels {
                    0..=64 => Self::NARROW,
                    65..=128 => Self::MIDDLE,
                    _ => Self::WIDE,
                };
                // Small images would leave most of a tile idle.
                let quads = (pixels as u32).div_ceil(4).next_power_of_two();
                Self { groups: tile.groups.min(quads), columns: tile.columns.min(quads), ..tile }
            }
            // One for all sizes: these shaders take the drivers of such adapters a second each to compile.
            Class::Software => Self::SOFTWARE,
        }
    }

    fn workgroup(self) -> u32 {
        self.groups * self.lanes
    }

    fn rows(self) -> usize {
        4 * (self.row_quads * self.groups) as usize
    }

    /// Channels whose sums one workgroup makes.
    fn chunk(self) -> usize {
        4 * (self.channel_quads * self.lanes) as usize
    }
}

const FORWARD: &str =
    concat!(include_str!("../../../shaders/attention_forward.wgsl"), include_str!("../../../shaders/attention_tiles.wgsl"));
const QUERIES: &str =
    concat!(include_str!("../../../shaders/attention_queries.wgsl"), include_str!("../../../shaders/attention_tiles.wgsl"));
const KEYS: &str =
    concat!(include_str!("../../../shaders/attention_keys.wgsl"), include_str!("../../../shaders/attention_tiles.wgsl"));

/// The three shaders of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shader {
    /// shaders/attention_forward.wgsl
    Forward(Tile),
    /// shaders/attention_queries.wgsl
    Queries(Tile),
    /// shaders/attention_keys.wgsl
    Keys(Tile),
}

impl Shader {
    /// The complete WGSL text.
    pub fn wgsl(self) -> String {
        let (text, tile) = match self {
            Self::Forward(tile) => (FORWARD, tile),
            Self::Queries(tile) => (QUERIES, tile),
            Self::Keys(tile) => (KEYS, tile),
        };
        let Tile { row_quads, column_quads, channel_quads, groups, columns, lanes, depth } = tile;
        let workgroup = tile.workgroup();
        render(text, context! { row_quads, column_quads, channel_quads, groups, columns, lanes, depth, workgroup })
    }
}

kernel_source!(Shader);

/// One call's sizes.
struct Call {
    batch: usize,
    pixels: usize,
    tile: Tile,
    workgroups: usize,
    info: [u32; 5],
}

impl Call {
    fn new(qkv: &CubeTensor) -> Self {
        let [batch, channels, height, width] = layout::dims(qkv);
        let (c, pixels) = (channels / 3, height * width);
        assert!(c.is_multiple_of(4), "attention: q has {c} channels, the WGSL kernel takes multiples of 4");
        let tile = Tile::new(class(qkv), c, pixels);
        let chunks = c.div_ceil(tile.chunk());
        let workgroups = batch * pixels.div_ceil(tile.rows()) * chunks;
        let scale = 1.0 / (c as f32).sqrt();
        let info = [workgroups as u32, pixels as u32, (c / 4) as u32, chunks as u32, scale.to_bits()];
        Self { batch, pixels, tile, workgroups, info }
    }

    fn launch(&self, name: &'static str, shader: Shader, buffers: &[&CubeTensor]) {
        launch_words(name, shader, self.tile.workgroup(), grid(self.workgroups), buffers, &self.info);
    }
}

/// `tensor` in dense NHWC memory.
fn operand(name: &str, tensor: CubeTensor) -> CubeTensor {
    assert!(tensor.dtype == DType::F32, "attention: {name} is {:?}, the WGSL kernel takes f32", tensor.dtype);
    layout::into_nhwc(tensor)
}

impl AttentionKernels for CubeBackend {
    fn forward(qkv: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let qkv = operand("qkv", qkv);
        let call = Call::new(&qkv);
        let [batch, channels, height, width] = layout::dims(&qkv);
        let out = layout::empty_nhwc(&qkv, [batch, channels / 3, height, width]);
        let log_sums = layout::empty_acc(&qkv, Shape::new([call.batch, call.pixels]));
        call.launch("attention forward", Shader::Forward(call.tile), &[&qkv, &out, &log_sums]);
        (out, log_sums)
    }

    fn backward(
        d_out: FloatTensor<Self>,
        qkv: FloatTensor<Self>,
        out: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (d_out, qkv, out) = (operand("d_out", d_out), operand("qkv", qkv), operand("out", out));
        let log_sums = into_contiguous(log_sums);
        let call = Call::new(&qkv);
        let d_qkv = layout::empty_nhwc_like(&qkv);
        let deltas = layout::empty_acc(&qkv, Shape::new([call.batch, call.pixels]));
        let buffers = [&qkv, &d_out, &out, &log_sums, &deltas, &d_qkv];
        call.launch("attention backward, queries", Shader::Queries(call.tile), &buffers);
        let buffers = [&qkv, &d_out, &log_sums, &deltas, &d_qkv];
        call.launch("attention backward, keys", Shader::Keys(call.tile), &buffers);
        d_qkv
    }
}

impl AttentionOp for CubeBackend {
    fn self_attention(qkv: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AttentionKernels>::forward(qkv).0
    }
}
