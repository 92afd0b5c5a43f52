//! Tiles of the matrix products that compute convolutions on GPUs.

/// The tile sizes of a matrix product, which conv2d_tiled.wgsl and conv2d_weights_tiled.wgsl
/// explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of a workgroup's block.
    pub bm: usize,
    /// Columns of a workgroup's block.
    pub bn: usize,
    /// Terms of the sums that are in workgroup memory at a time.
    pub bk: usize,
    /// Rows of an invocation's block.
    pub tm: usize,
    /// Columns of an invocation's block.
    pub tn: usize,
}

impl Tile {
    /// The tile for many rows and columns: 256 invocations and 16 KiB, WebGPU's default limits.
    pub const LARGE: Self = Self { bm: 128, bn: 128, bk: 16, tm: 8, tn: 8 };
    /// The tile for many rows and up to 64 columns.
    pub const TALL: Self = Self { bm: 128, bn: 64, bk: 16, tm: 8, tn: 4 };
    /// The tile for sizes where larger tiles would leave a GPU idle.
    pub const MEDIUM: Self = Self { bm: 64, bn: 64, bk: 16, tm: 4, tn: 4 };
    /// Every tile in use.
    pub const ALL: [Self; 3] = [Self::LARGE, Self::TALL, Self::MEDIUM];

    /// The number of workgroups that keeps a large GPU busy (an H100 has 132 multiprocessors, an
    /// A40 84, each with room for two).
    const BUSY: usize = 256;

    /// Returns the tile for `products` products of `rows` times `cols` results each.
    pub(super) fn choose(rows: usize, cols: usize, products: usize) -> Self {
        let enough = |tile: Self| tile.count(rows, cols) * products >= Self::BUSY;
        if cols > 64 && rows > 64 && enough(Self::LARGE) {
            Self::LARGE
        } else if cols <= 64 && rows > 64 && enough(Self::TALL) {
            Self::TALL
        } else {
            Self::MEDIUM
        }
    }

    /// Returns the number of workgroups that cover `rows` times `cols`.
    pub(super) fn count(self, rows: usize, cols: usize) -> usize {
        rows.div_ceil(self.bm) * cols.div_ceil(self.bn)
    }

    /// Returns the number of terms by which the passes over the input's channels are unrolled: as
    /// many as there are registers for with two workgroups per multiprocessor. (Loops that
    /// compilers could unroll further have their bounds in the info block.)
    pub(super) fn round(self) -> usize {
        128 / (self.tm * self.tn)
    }

    /// Returns the same for the weights' gradient.
    pub(super) fn weights_round(self) -> usize {
        if self.tm * self.tn > 32 { 1 } else { 8 }
    }

    /// Returns the multiply-adds of an invocation while one pair of tiles is in workgroup memory.
    pub(super) fn multiply_adds(self) -> Vec<u32> {
        vec![(self.tm * self.tn * self.bk) as u32]
    }

    /// Returns the number of invocations of a workgroup.
    pub(super) fn workgroup(self) -> u32 {
        (self.bm / self.tm * (self.bn / self.tn)) as u32
    }
}
