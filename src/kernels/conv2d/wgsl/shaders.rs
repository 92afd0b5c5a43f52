//! The convolution's shaders with their template values and info blocks.

use super::fours::Fours;
use super::info::{
    BlockInfo, ColumnSumsInfo, PackInfo, PassInfo, WeightsBlockInfo, WeightsInfo, WeightsSumInfo,
};
use super::matrix::{Matrices, Unit, WeightsMatrices};
use super::taps::{FEW_TAPS, MOST_TAPS};
use crate::kernels::conv2d::tile::Tile;
use crate::kernels::shader::{Filled, Shader, Types};
use minijinja::{Value, context};
use std::collections::BTreeSet;

/// Returns the template values of the tiled shaders.
fn tiled(
    Tile { bm, bn, bk, tm, tn }: Tile,
    round: usize,
    Fours { x4, y4 }: Fours,
    taps: usize,
) -> Value {
    context! { bm, bn, bk, tm, tn, round, x4, y4, taps }
}

/// Invocations per workgroup of the shaders for software adapters.
const SOFTWARE: u32 = 8;

/// The shader shaders/conv2d_pack.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pack {
    /// Whether the input of the convolution is upsampled.
    pub upsample: bool,
    pub types: Types,
}

impl Shader for Pack {
    type Info = PackInfo;
    const FILE: &'static str = "conv2d_pack";
    const TEXT: &'static str = include_str!("../../../../shaders/conv2d_pack.wgsl");
    const BUFFERS: usize = 2;

    fn workgroup(&self) -> u32 {
        64
    }

    fn values(&self) -> Value {
        context! { upsample => self.upsample }
    }

    fn types(&self) -> Types {
        self.types
    }
}

/// The shader shaders/conv2d_tiled.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tiled<const TAPS: usize> {
    pub tile: Tile,
    pub fours: Fours,
    pub types: Types,
}

impl<const TAPS: usize> Shader for Tiled<TAPS> {
    type Info = PassInfo<TAPS>;
    const FILE: &'static str = "conv2d_tiled";
    const TEXT: &'static str = include_str!("../../../../shaders/conv2d_tiled.wgsl");
    const BUFFERS: usize = 5;

    fn workgroup(&self) -> u32 {
        self.tile.workgroup()
    }

    fn values(&self) -> Value {
        tiled(self.tile, self.tile.round(), self.fours, TAPS)
    }

    fn multiply_adds(&self) -> Vec<u32> {
        self.tile.multiply_adds()
    }

    fn types(&self) -> Types {
        self.types
    }
}

/// The shader shaders/conv2d_taps.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Taps<const TAPS: usize> {
    /// Whether invocations run along positions rather than channels.
    pub across: bool,
    pub fours: Fours,
    pub types: Types,
}

impl<const TAPS: usize> Taps<TAPS> {
    /// Returns the positions and the output channels of a workgroup. (Input channels that are not a
    /// multiple of four are few, and short programs compile faster.)
    pub fn block(&self) -> [usize; 2] {
        match (self.across, self.fours.x4) {
            (true, _) => [32, 4],
            (false, true) => [16, 32],
            (false, false) => [4, 32],
        }
    }
}

impl<const TAPS: usize> Shader for Taps<TAPS> {
    type Info = PassInfo<TAPS>;
    const FILE: &'static str = "conv2d_taps";
    const TEXT: &'static str = include_str!("../../../../shaders/conv2d_taps.wgsl");
    const BUFFERS: usize = 5;

    fn workgroup(&self) -> u32 {
        SOFTWARE
    }

    fn values(&self) -> Value {
        let [block, _] = self.block();
        let positions = if self.across { block / SOFTWARE as usize } else { block };
        context! { positions, across => self.across, x4 => self.fours.x4, y4 => self.fours.y4, taps => TAPS }
    }

    fn types(&self) -> Types {
        self.types
    }
}

/// The form of convolution of the block shaders; see conv2d_block.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// 3x3, stride 1.
    Same,
    /// 3x3 on the upsampled input.
    Up,
    /// The gradient of [`Form::Up`], a 4x4 convolution of stride 2.
    Down,
}

/// The shader shaders/conv2d_block.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Block {
    pub form: Form,
    pub types: Types,
}

impl Block {
    /// Rows and columns of pixels in a block, and the columns of [`WeightsBlock`].
    pub const SIDE: usize = 4;
}

impl Shader for Block {
    type Info = BlockInfo;
    const FILE: &'static str = "conv2d_block";
    const TEXT: &'static str = include_str!("../../../../shaders/conv2d_block.wgsl");
    const BUFFERS: usize = 5;

    fn workgroup(&self) -> u32 {
        SOFTWARE
    }

    fn values(&self) -> Value {
        let form = match self.form {
            Form::Same => "same",
            Form::Up => "up",
            Form::Down => "down",
        };
        context! { rows => Self::SIDE, cols => Self::SIDE, form }
    }

    fn types(&self) -> Types {
        self.types
    }
}

/// The shader shaders/conv2d_weights_tiled.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WeightsTiled<const TAPS: usize> {
    pub tile: Tile,
    pub fours: Fours,
    pub types: Types,
}

impl<const TAPS: usize> Shader for WeightsTiled<TAPS> {
    type Info = WeightsInfo<TAPS>;
    const FILE: &'static str = "conv2d_weights_tiled";
    const TEXT: &'static str = include_str!("../../../../shaders/conv2d_weights_tiled.wgsl");
    const BUFFERS: usize = 3;

    fn workgroup(&self) -> u32 {
        self.tile.workgroup()
    }

    fn values(&self) -> Value {
        tiled(self.tile, self.tile.weights_round(), self.fours, TAPS)
    }

    fn multiply_adds(&self) -> Vec<u32> {
        self.tile.multiply_adds()
    }

    fn types(&self) -> Types {
        self.types
    }
}

/// The shader shaders/conv2d_weights_taps.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WeightsTaps<const TAPS: usize> {
    pub fours: Fours,
    pub types: Types,
}

impl<const TAPS: usize> WeightsTaps<TAPS> {
    /// Input channels per workgroup.
    pub const CHANNELS: usize = 16;
}

impl<const TAPS: usize> Shader for WeightsTaps<TAPS> {
    type Info = WeightsInfo<TAPS>;
    const FILE: &'static str = "conv2d_weights_taps";
    const TEXT: &'static str = include_str!("../../../../shaders/conv2d_weights_taps.wgsl");
    const BUFFERS: usize = 3;

    fn workgroup(&self) -> u32 {
        SOFTWARE
    }

    fn values(&self) -> Value {
        let Fours { x4, y4 } = self.fours;
        context! { blocks => Self::CHANNELS / 4, positions => 4, x4, y4, taps => TAPS }
    }

    fn types(&self) -> Types {
        self.types
    }
}

/// The shader shaders/conv2d_weights_block.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WeightsBlock {
    /// Whether the convolution is 4x4 with stride 2; otherwise it is 3x3 with stride 1.
    pub down: bool,
    pub types: Types,
}

impl WeightsBlock {
    /// Input channels per workgroup.
    pub const CHANNELS: usize = 8;
}

impl Shader for WeightsBlock {
    type Info = WeightsBlockInfo;
    const FILE: &'static str = "conv2d_weights_block";
    const TEXT: &'static str = include_str!("../../../../shaders/conv2d_weights_block.wgsl");
    const BUFFERS: usize = 3;

    fn workgroup(&self) -> u32 {
        SOFTWARE
    }

    fn values(&self) -> Value {
        let (kernel, stride) = if self.down { (4, 2) } else { (3, 1) };
        context! { cols => Block::SIDE, blocks => Self::CHANNELS / 4, kernel, stride }
    }

    fn types(&self) -> Types {
        self.types
    }
}

/// The shader shaders/conv2d_weights_sum.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WeightsSum {
    /// Whether the input of the convolution is upsampled.
    pub upsample: bool,
}

impl Shader for WeightsSum {
    type Info = WeightsSumInfo;
    const FILE: &'static str = "conv2d_weights_sum";
    const TEXT: &'static str = include_str!("../../../../shaders/conv2d_weights_sum.wgsl");
    const BUFFERS: usize = 2;

    fn workgroup(&self) -> u32 {
        64
    }

    fn values(&self) -> Value {
        context! { upsample => self.upsample }
    }
}

/// The shader shaders/column_sums.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ColumnSums {
    /// Columns per workgroup.
    pub cols: usize,
    pub types: Types,
}

impl ColumnSums {
    const COLS: [usize; 2] = [8, 64];

    /// Returns the shader for `cols` columns.
    pub fn new(cols: usize, types: Types) -> Self {
        Self { cols: Self::COLS[usize::from(cols > Self::COLS[0])], types }
    }
}

impl Shader for ColumnSums {
    type Info = ColumnSumsInfo;
    const FILE: &'static str = "column_sums";
    const TEXT: &'static str = include_str!("../../../../shaders/column_sums.wgsl");
    const BUFFERS: usize = 2;

    fn workgroup(&self) -> u32 {
        64
    }

    fn values(&self) -> Value {
        context! { cols => self.cols }
    }

    fn types(&self) -> Types {
        self.types
    }
}

/// Returns every variant that is launched, also for f16 feature maps and f16 factors.
pub(in crate::kernels::conv2d) fn shaders() -> Vec<Filled> {
    let mut all: Vec<Filled> =
        [false, true].map(|upsample| Filled::new(WeightsSum { upsample })).into();
    all.extend(
        Types::ALL.iter().flat_map(|&types| {
            ColumnSums::COLS.map(|cols| Filled::new(ColumnSums { cols, types }))
        }),
    );
    for fours in Fours::ALL {
        all.extend(matrices::<FEW_TAPS>(fours));
        all.extend(matrices::<MOST_TAPS>(fours));
    }
    for types in Types::PRODUCTS {
        all.extend([false, true].map(|upsample| Filled::new(Pack { upsample, types })));
        all.extend(
            [Form::Same, Form::Up, Form::Down].map(|form| Filled::new(Block { form, types })),
        );
        all.extend([false, true].map(|down| Filled::new(WeightsBlock { down, types })));
        for fours in Fours::ALL {
            all.extend(general::<FEW_TAPS>(fours, types));
            all.extend(general::<MOST_TAPS>(fours, types));
        }
    }
    all
}

fn general<const TAPS: usize>(fours: Fours, types: Types) -> Vec<Filled> {
    let mut all = vec![Filled::new(WeightsTaps::<TAPS> { fours, types })];
    all.extend([false, true].map(|across| Filled::new(Taps::<TAPS> { across, fours, types })));
    all.extend(Tile::ALL.map(|tile| Filled::new(Tiled::<TAPS> { tile, fours, types })));
    all.extend(Tile::ALL.map(|tile| Filled::new(WeightsTiled::<TAPS> { tile, fours, types })));
    all
}

/// Returns the variants with cooperative matrices, each tile once.
fn matrices<const TAPS: usize>(fours: Fours) -> Vec<Filled> {
    let mut all = Vec::new();
    for unit in Unit::ALL {
        let tiles: BTreeSet<_> = Tile::ALL.map(|tile| unit.tile(tile)).into();
        all.extend(tiles.iter().map(|&tile| Filled::new(Matrices::<TAPS> { tile, unit, fours })));
        let tiles: BTreeSet<_> = Tile::ALL.map(|tile| unit.weights_tile(tile)).into();
        all.extend(
            tiles.iter().map(|&tile| Filled::new(WeightsMatrices::<TAPS> { tile, unit, fours })),
        );
    }
    all
}
