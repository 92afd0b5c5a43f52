//! The 2x2 tiles of the output of a convolution.

/// Positions of a transformed tile.
pub(in crate::kernels::conv2d::cpu) const POSITIONS: usize = 16;

/// Returns the number of elements from one position to the next, for positions of `len` elements:
/// one cache line more, or the 16 stores of a tile would compete for the same few lines of the
/// first-level cache.
pub(in crate::kernels::conv2d::cpu) fn position_step(len: usize) -> usize {
    len.next_multiple_of(16) + 16
}

/// A convolution with 3x3 kernels, stride 1 and padding 1.
pub(in crate::kernels::conv2d::cpu) struct Winograd {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    /// Channels of what is read (x, or dy for the gradient of the input).
    pub source_channels: usize,
    /// Channels of what is written.
    pub out_channels: usize,
}

/// A 2x2 tile of the output: its image and first pixel.
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
            && self.tiles() >= 32
    }

    /// Checks the same for the gradient of the weights, where each task transforms its part of dy
    /// again.
    pub fn pays_for_weights(&self) -> bool {
        self.pays() && self.tiles() >= 64 && (self.out_channels >= 48 || self.source_channels <= 64)
    }

    pub fn tiles(&self) -> usize {
        self.batch * self.height.div_ceil(2) * self.width.div_ceil(2)
    }

    pub fn tile(&self, index: usize) -> Tile {
        let (rows, cols) = (self.height.div_ceil(2), self.width.div_ceil(2));
        Tile { image: index / (rows * cols), row: index / cols % rows * 2, col: index % cols * 2 }
    }

    /// Returns the number of tiles in a group, whose transform of `channels` channels takes part of
    /// the second-level cache.
    pub fn group(channels: usize) -> usize {
        (4096 / channels).next_multiple_of(8).clamp(16, 64)
    }
}
