//! Convolution shaders and their tiles.

use crate::kernels::template::{kernel_source, render};
use minijinja::context;
use std::cell::Cell;

thread_local! {
    static FORCED: Cell<Option<Tile>> = const { Cell::new(None) };
}

/// Makes launches from this thread use `tile` whatever the adapter and the sizes: tests run the tiles of large GPUs on small
/// inputs and a software adapter.
pub fn force_tile(tile: Option<Tile>) {
    FORCED.set(tile);
}

/// Sizes of a matrix product's tiles; what conv2d_tiled.wgsl and conv2d_weights_tiled.wgsl say about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of a workgroup's block.
    pub bm: usize,
    /// Columns of it.
    pub bn: usize,
    /// Terms of the sums that are in workgroup memory at a time.
    pub bk: usize,
    /// Rows of an invocation's block.
    pub tm: usize,
    /// Columns of it.
    pub tn: usize,
}

impl Tile {
    /// For many rows and columns. 256 invocations and 16 KiB, WebGPU's default limits.
    pub const LARGE: Self = Self { bm: 128, bn: 128, bk: 16, tm: 8, tn: 8 };
    /// For many rows and up to 64 columns.
    pub const TALL: Self = Self { bm: 128, bn: 64, bk: 16, tm: 8, tn: 4 };
    /// Where larger tiles would leave a GPU idle.
    pub const MEDIUM: Self = Self { bm: 64, bn: 64, bk: 16, tm: 4, tn: 4 };
    /// Every tile in use.
    pub const ALL: [Self; 3] = [Self::LARGE, Self::TALL, Self::MEDIUM];

    /// Workgroups that keep a large GPU busy (an H100 has 132 processors, an A40 84, each with room for two).
    const BUSY: usize = 256;

    /// The tile for a product of `rows` times `cols`, `products` times.
    pub(super) fn choose(rows: usize, cols: usize, products: usize) -> Self {
        let enough = |tile: Self| tile.count(rows, cols) * products >= Self::BUSY;
        match FORCED.get() {
            Some(tile) => tile,
            None if cols > 64 && rows > 64 && enough(Self::LARGE) => Self::LARGE,
            None if cols <= 64 && rows > 64 && enough(Self::TALL) => Self::TALL,
            None => Self::MEDIUM,
        }
    }

    /// Workgroups that cover `rows` times `cols`.
    pub(super) fn count(self, rows: usize, cols: usize) -> usize {
        rows.div_ceil(self.bm) * cols.div_ceil(self.bn)
    }

    /// Invocations of a workgroup.
    fn workgroup(self) -> usize {
        self.bm / self.tm * (self.bn / self.tn)
    }
}

/// How the general shaders read and write feature maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fours {
    /// Whether the channels of the input are a multiple of four.
    pub x4: bool,
    /// Whether those of the output are.
    pub y4: bool,
}

impl Fours {
    /// For `c` and `o` channels.
    pub(super) fn new(c: usize, o: usize) -> Self {
        Self { x4: c.is_multiple_of(4), y4: o.is_multiple_of(4) }
    }
}

/// What the shaders of blocks do: conv2d_block.wgsl says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// 3x3, stride 1.
    Same,
    /// 3x3 on the input upsampled.
    Up,
    /// Its gradient, a 4x4 convolution of stride 2.
    Down,
}

const TILED: &str =
    concat!(include_str!("../../../shaders/conv2d_tiled.wgsl"), include_str!("../../../shaders/conv2d_operands.wgsl"));
const TAPS: &str =
    concat!(include_str!("../../../shaders/conv2d_taps.wgsl"), include_str!("../../../shaders/conv2d_operands.wgsl"));
const WEIGHTS_TILED: &str = concat!(
    include_str!("../../../shaders/conv2d_weights_tiled.wgsl"),
    include_str!("../../../shaders/conv2d_weights_operands.wgsl")
);
const WEIGHTS_TAPS: &str = concat!(
    include_str!("../../../shaders/conv2d_weights_taps.wgsl"),
    include_str!("../../../shaders/conv2d_weights_operands.wgsl")
);

/// The shaders of the convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shader {
    /// shaders/conv2d_pack.wgsl
    Pack {
        /// Whether the convolution is of an upsampled input.
        upsample: bool,
    },
    /// shaders/conv2d_tiled.wgsl
    Tiled(Tile, Fours),
    /// shaders/conv2d_weights_tiled.wgsl
    WeightsTiled(Tile, Fours),
    /// shaders/conv2d_taps.wgsl
    Taps {
        /// Whether invocations lie along positions, not along channels.
        across: bool,
        /// See there.
        fours: Fours,
    },
    /// shaders/conv2d_weights_taps.wgsl
    WeightsTaps(Fours),
    /// shaders/conv2d_block.wgsl
    Block(Form),
    /// shaders/conv2d_weights_block.wgsl, of a form that isn't [`Form::Up`]
    WeightsBlock(Form),
    /// shaders/conv2d_weights_sum.wgsl
    WeightsSum {
        /// Whether the convolution is of an upsampled input.
        upsample: bool,
    },
    /// shaders/column_sums.wgsl
    ColumnSums {
        /// Columns of a workgroup.
        cols: usize,
    },
}

impl Shader {
    /// Every variant that is launched.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        all.extend([false, true].map(|upsample| Self::Pack { upsample }));
        all.extend([false, true].map(|upsample| Self::WeightsSum { upsample }));
        all.extend([Form::Same, Form::Up, Form::Down].map(Self::Block));
        all.extend([Form::Same, Form::Down].map(Self::WeightsBlock));
        all.extend(Self::COLUMNS.map(|cols| Self::ColumnSums { cols }));
        for (x4, y4) in [(false, false), (false, true), (true, false), (true, true)] {
            let fours = Fours { x4, y4 };
            all.extend(Tile::ALL.into_iter().flat_map(|tile| [Self::Tiled(tile, fours), Self::WeightsTiled(tile, fours)]));
            all.extend([false, true].map(|across| Self::Taps { across, fours }));
            all.push(Self::WeightsTaps(fours));
        }
        all
    }

    /// Rows and columns of pixels of [`Shader::Block`]; the columns of [`Shader::WeightsBlock`] too.
    pub(super) const BLOCK: usize = 4;

    /// Channels of the input in a workgroup of [`Shader::WeightsBlock`].
    pub(super) const BLOCK_CHANNELS: usize = 8;

    /// Positions and output channels of a workgroup of [`Shader::Taps`]. (Where channels are no multiple of four there are
    /// few of them, and short programs compile faster.)
    pub(super) fn taps_block(across: bool, fours: Fours) -> [usize; 2] {
        match (across, fours.x4) {
            (true, _) => [32, 4],
            (false, true) => [16, 32],
            (false, false) => [4, 32],
        }
    }

    /// Channels of the input in a workgroup of [`Shader::WeightsTaps`].
    pub(super) const TAPS_CHANNELS: usize = 16;

    /// Columns of a workgroup of [`Shader::ColumnSums`].
    pub(super) const COLUMNS: [usize; 2] = [8, 64];

    /// The complete WGSL text.
    pub fn wgsl(self) -> String {
        let wg = self.workgroup();
        let tiled = |text: &str, Tile { bm, bn, bk, tm, tn }: Tile, Fours { x4, y4 }: Fours| {
            render(text, context! { bm, bn, bk, tm, tn, x4, y4 })
        };
        match self {
            Self::Pack { upsample } => render(include_str!("../../../shaders/conv2d_pack.wgsl"), context! { wg, upsample }),
            Self::Block(form) => {
                let form = match form {
                    Form::Same => "same",
                    Form::Up => "up",
                    Form::Down => "down",
                };
                let values = context! { rows => Self::BLOCK, cols => Self::BLOCK, form };
                render(include_str!("../../../shaders/conv2d_block.wgsl"), values)
            }
            Self::WeightsBlock(form) => {
                let (kernel, stride) = if form == Form::Same { (3, 1) } else { (4, 2) };
                let values = context! { cols => Self::BLOCK, blocks => Self::BLOCK_CHANNELS / 4, kernel, stride };
                render(include_str!("../../../shaders/conv2d_weights_block.wgsl"), values)
            }
            Self::WeightsSum { upsample } => {
                render(include_str!("../../../shaders/conv2d_weights_sum.wgsl"), context! { wg, upsample })
            }
            Self::ColumnSums { cols } => render(include_str!("../../../shaders/column_sums.wgsl"), context! { wg, cols }),
            Self::Tiled(tile, fours) => tiled(TILED, tile, fours),
            Self::WeightsTiled(tile, fours) => tiled(WEIGHTS_TILED, tile, fours),
            Self::Taps { across, fours } => {
                let [block, _] = Self::taps_block(across, fours);
                let positions = if across { block / 8 } else { block };
                render(TAPS, context! { positions, across, x4 => fours.x4, y4 => fours.y4 })
            }
            Self::WeightsTaps(Fours { x4, y4 }) => {
                render(WEIGHTS_TAPS, context! { blocks => Self::TAPS_CHANNELS / 4, positions => 4, x4, y4 })
            }
        }
    }

    /// Invocations of a workgroup.
    pub(super) fn workgroup(self) -> u32 {
        match self {
            Self::Block(_) | Self::WeightsBlock(_) | Self::Taps { .. } | Self::WeightsTaps(_) => 8,
            Self::Pack { .. } | Self::WeightsSum { .. } | Self::ColumnSums { .. } => 64,
            Self::Tiled(tile, _) | Self::WeightsTiled(tile, _) => tile.workgroup() as u32,
        }
    }
}

kernel_source!(Shader);
