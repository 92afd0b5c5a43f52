//! Launches of the attention shaders on cubecl's wgpu runtime.

use super::{Attention, forward_work, passes_work, reference};
use crate::device::Class;
use crate::kernels::adapter::{class, on_wgpu};
use crate::kernels::launch::launch;
use crate::kernels::layout;
use crate::kernels::shader::{Elem, Filled, Shader, Types, info};
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::Shape;
use minijinja::{Value, context};

/// The layout of a workgroup: the template values of the shaders; see
/// shaders/shared/attention_tiles.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tile {
    /// Row quads of an invocation.
    row_quads: u32,
    /// Column quads of an invocation's tile of a product.
    column_quads: u32,
    /// Channel quads of an invocation's sums.
    channel_quads: u32,
    /// Tiles along the workgroup's rows.
    groups: u32,
    /// Tiles of a product along a block; no more than `lanes`.
    columns: u32,
    /// Invocations along the channels.
    lanes: u32,
    /// Channel quads that are staged in workgroup memory; 0 stages nothing.
    depth: u32,
}

impl Tile {
    /// The tile for real GPUs and up to 64 channels. All tiles for GPUs have at most 256
    /// invocations and 16 KiB of workgroup memory: weights 8, the staged block 4, sums 4.
    const NARROW: Self = Self {
        row_quads: 1,
        column_quads: 1,
        channel_quads: 2,
        groups: 16,
        columns: 8,
        lanes: 8,
        depth: 8,
    };
    /// The tile for real GPUs and up to 128 channels.
    const MIDDLE: Self = Self { groups: 8, columns: 16, lanes: 16, depth: 4, ..Self::NARROW };
    /// The tile for real GPUs and more channels, 256 per workgroup.
    const WIDE: Self = Self { lanes: 32, ..Self::MIDDLE };
    /// The tile for software adapters, with up to 64 channels per workgroup. On these a load, even
    /// from workgroup memory, costs as much as 60 multiply-adds, so the tiles in registers are
    /// large and nothing is staged.
    const SOFTWARE: Self = Self {
        row_quads: 2,
        column_quads: 2,
        channel_quads: 2,
        groups: 4,
        columns: 4,
        lanes: 8,
        depth: 0,
    };

    /// Returns the tile for `channels` (of q, k and v each) and `pixels` on an adapter of `class`.
    fn new(class: Class, channels: usize, pixels: usize) -> Self {
        match class {
            Class::Gpu => {
                let tile = match channels {
                    0..=64 => Self::NARROW,
                    65..=128 => Self::MIDDLE,
                    _ => Self::WIDE,
                };
                // Small images would leave most of a tile idle.
                let quads = (pixels as u32).div_ceil(4).next_power_of_two();
                let (groups, columns) = (tile.groups.min(quads), tile.columns.min(quads));
                // An invocation of a smaller tile stages more values, which pass through its
                // registers.
                let depth = if groups < tile.groups { tile.depth.min(4) } else { tile.depth };
                Self { groups, columns, depth, ..tile }
            }
            // One tile for all sizes, as the drivers of such adapters take a second to compile each
            // of these shaders.
            Class::Software => Self::SOFTWARE,
        }
    }

    fn workgroup(self) -> u32 {
        self.groups * self.lanes
    }

    fn rows(self) -> usize {
        4 * (self.row_quads * self.groups) as usize
    }

    /// Returns the number of channels whose sums one workgroup computes.
    fn chunk(self) -> usize {
        4 * (self.channel_quads * self.lanes) as usize
    }

    /// Returns the multiply-adds of one iteration of a product's loop and of an accumulation's.
    fn multiply_adds(self) -> Vec<u32> {
        [self.column_quads, self.channel_quads].map(|quads| 64 * self.row_quads * quads).into()
    }

    fn context(self) -> Value {
        let Self { row_quads, column_quads, channel_quads, groups, columns, lanes, depth } = self;
        context! { row_quads, column_quads, channel_quads, groups, columns, lanes, depth }
    }
}

info! {
    /// The info block of all passes.
    struct Info {
        workgroups: u32,
        pixels: u32,
        vectors: u32,
        chunks: u32,
        scale: f32,
    }
}

/// The shader shaders/attention_forward.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Forward(Tile, Types);

impl Shader for Forward {
    type Info = Info;
    const FILE: &'static str = "attention_forward";
    const TEXT: &'static str = include_str!("../../../shaders/attention_forward.wgsl");
    const BUFFERS: usize = 3;

    fn workgroup(&self) -> u32 {
        self.0.workgroup()
    }

    fn values(&self) -> Value {
        self.0.context()
    }

    fn types(&self) -> Types {
        self.1
    }

    fn multiply_adds(&self) -> Vec<u32> {
        self.0.multiply_adds()
    }
}

/// The shader shaders/attention_queries.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Queries(Tile, Types);

impl Shader for Queries {
    type Info = Info;
    const FILE: &'static str = "attention_queries";
    const TEXT: &'static str = include_str!("../../../shaders/attention_queries.wgsl");
    const BUFFERS: usize = 6;

    fn workgroup(&self) -> u32 {
        self.0.workgroup()
    }

    fn values(&self) -> Value {
        self.0.context()
    }

    fn types(&self) -> Types {
        self.1
    }

    fn multiply_adds(&self) -> Vec<u32> {
        self.0.multiply_adds()
    }
}

/// The shader shaders/attention_keys.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Keys(Tile, Types);

impl Shader for Keys {
    type Info = Info;
    const FILE: &'static str = "attention_keys";
    const TEXT: &'static str = include_str!("../../../shaders/attention_keys.wgsl");
    const BUFFERS: usize = 5;

    fn workgroup(&self) -> u32 {
        self.0.workgroup()
    }

    fn values(&self) -> Value {
        self.0.context()
    }

    fn types(&self) -> Types {
        self.1
    }

    fn multiply_adds(&self) -> Vec<u32> {
        self.0.multiply_adds()
    }
}

/// Returns every variant for q, k and v of the given `[channels, pixels]`.
pub(super) fn shaders(sizes: &[[usize; 2]]) -> Vec<Filled> {
    let classes = [Class::Gpu, Class::Software].into_iter();
    let all = classes.flat_map(|class| {
        sizes.iter().flat_map(move |size| Types::PRODUCTS.map(|types| (class, *size, types)))
    });
    all.flat_map(|(class, size, types)| of_size(class, size, types)).collect()
}

/// Returns the GPU variants for f32.
pub(super) fn launched(channels: usize, pixels: usize) -> [Filled; 3] {
    of_size(Class::Gpu, [channels, pixels], Types::F32)
}

fn of_size(class: Class, [channels, pixels]: [usize; 2], types: Types) -> [Filled; 3] {
    let tile = Tile::new(class, channels, pixels);
    [
        Filled::new(Forward(tile, types)),
        Filled::new(Queries(tile, types)),
        Filled::new(Keys(tile, types)),
    ]
}

/// The sizes of one call, and how its shaders are filled.
struct Call {
    /// `[B, C, H, W]` of the result.
    shape: [usize; 4],
    types: Types,
    tile: Tile,
    info: Info,
}

impl Call {
    fn new(qkv: &CubeTensor, factors: Elem) -> Self {
        let [batch, channels, height, width] = layout::dims(qkv);
        let (c, pixels) = (channels / 3, height * width);
        assert!(
            c.is_multiple_of(4),
            "attention: q has {c} channels, the WGSL kernel takes multiples of 4"
        );
        let tile = Tile::new(class(qkv), c, pixels);
        let chunks = c.div_ceil(tile.chunk());
        let info = Info {
            workgroups: (batch * pixels.div_ceil(tile.rows()) * chunks) as u32,
            pixels: pixels as u32,
            vectors: (c / 4) as u32,
            chunks: chunks as u32,
            scale: 1.0 / (c as f32).sqrt(),
        };
        Self {
            shape: [batch, c, height, width],
            types: Types::product(layout::elem("attention", "qkv", qkv), factors),
            tile,
            info,
        }
    }

    fn launch<S: Shader<Info = Info>>(
        &self,
        name: &'static str,
        shader: fn(Tile, Types) -> S,
        buffers: &[&CubeTensor],
        work: Work,
    ) {
        let shader = shader(self.tile, self.types);
        launch(name, shader, self.info.workgroups as usize, buffers, &self.info, work);
    }

    /// Allocates one uninitialised value for each row.
    fn rows(&self, like: &CubeTensor) -> CubeTensor {
        let [batch, _, height, width] = self.shape;
        layout::empty_acc(like, Shape::new([batch, height * width]))
    }
}

impl Attention for CubeBackend {
    fn forward(qkv: FloatTensor<Self>, factors: Elem) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !on_wgpu(&qkv) {
            return reference::forward::<Self>(qkv);
        }
        let qkv = layout::into_nhwc(qkv);
        let call = Call::new(&qkv, factors);
        let out = layout::empty_nhwc(&qkv, call.shape);
        let log_sums = call.rows(&qkv);
        call.launch(
            "attention forward",
            Forward,
            &[&qkv, &out, &log_sums],
            forward_work(call.shape),
        );
        (out, log_sums)
    }

    fn backward(
        d_out: FloatTensor<Self>,
        qkv: FloatTensor<Self>,
        out: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        factors: Elem,
    ) -> FloatTensor<Self> {
        if !on_wgpu(&qkv) {
            return reference::backward::<Self>(d_out, qkv);
        }
        let [d_out, qkv, out] = [d_out, qkv, out].map(layout::into_nhwc);
        let log_sums = into_contiguous(log_sums);
        let call = Call::new(&qkv, factors);
        for (name, tensor, elem) in [
            ("d_out", &d_out, call.types.elem),
            ("out", &out, call.types.elem),
            ("log_sums", &log_sums, Elem::F32),
        ] {
            layout::check("attention", name, tensor, elem);
        }
        let d_qkv = layout::empty_nhwc_like(&qkv);
        let deltas = call.rows(&qkv);
        let [queries, keys] = passes_work(call.shape);
        let buffers = [&qkv, &d_out, &out, &log_sums, &deltas, &d_qkv];
        call.launch("attention backward, queries", Queries, &buffers, queries);
        let buffers = [&qkv, &d_out, &log_sums, &deltas, &d_qkv];
        call.launch("attention backward, keys", Keys, &buffers, keys);
        d_qkv
    }
}
