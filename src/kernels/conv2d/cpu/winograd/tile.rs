//! The tiles of the output of a convolution.

/// Returns the number of elements from one position to the next, for positions of `len` elements:
/// one cache line more, or the stores of a tile would compete for the same few lines of the
/// first-level cache.
pub(in crate::kernels::conv2d::cpu) fn position_step(len: usize) -> usize {
    len.next_multiple_of(16) + 16
}

/// A convolution with 3x3 kernels, stride 1 and padding 1.
#[derive(Clone, Copy)]
pub(in crate::kernels::conv2d::cpu) struct Winograd {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    /// Channels of what is read (x, or dy for the gradient of the input).
    pub source_channels: usize,
    /// Channels of what is written.
    pub out_channels: usize,
}

/// A tile of the output: its image and first pixel.
#[derive(Clone, Copy)]
pub(in crate::kernels::conv2d::cpu) struct Tile {
    pub image: usize,
    pub row: usize,
    pub col: usize,
}

impl Winograd {
    /// Checks whether it pays: enough tiles to make up for transforming the weights, and enough
    /// channels for transforming the tiles.
    pub fn pays(&self) -> bool {
        self.height >= 4
            && self.width >= 4
            && self.source_channels >= 12
            && self.out_channels >= 12
            && self.tiles(2) >= 32
    }

    /// Checks the same for the gradient of the weights, where each task transforms its part of dy
    /// again.
    pub fn pays_for_weights(&self) -> bool {
        self.pays()
            && self.tiles(2) >= 64
            && (self.out_channels >= 48 || self.source_channels <= 64)
    }

    /// Checks whether tiles of 4x4 are faster than tiles of 2x2: they need fewer multiplications,
    /// unless much of them lies outside the image, but more transformed weights.
    pub fn prefers_4(&self) -> bool {
        self.tiles(4) >= 96 && self.tiles(4) * 36 * 4 <= self.tiles(2) * 16 * 3
    }

    /// Returns the number of tiles with `side` pixels a side.
    pub fn tiles(&self, side: usize) -> usize {
        self.batch * self.height.div_ceil(side) * self.width.div_ceil(side)
    }

    /// Returns the tile `index` of those with `side` pixels a side.
    pub fn tile(&self, index: usize, side: usize) -> Tile {
        let (rows, cols) = (self.height.div_ceil(side), self.width.div_ceil(side));
        Tile {
            image: index / (rows * cols),
            row: index / cols % rows * side,
            col: index % cols * side,
        }
    }

    /// Returns the number of tiles in a group, whose transform of `channels` channels to
    /// `positions` positions takes part of the second-level cache.
    pub fn group(channels: usize, positions: usize) -> usize {
        (65536 / (positions * channels)).next_multiple_of(8).clamp(16, 64)
    }
}
