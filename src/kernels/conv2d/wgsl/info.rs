//! Info blocks of the convolution's shaders. The shaders explain the fields.

use crate::kernels::shader::info;

info! {
    /// The info block of the general shaders of the forward pass and of the input's gradient.
    struct PassInfo<const TAPS: usize> {
        height: u32,
        width: u32,
        channels: u32,
        stride: u32,
        rows: u32,
        cols: u32,
        out_channels: u32,
        taps: u32,
        out_height: u32,
        out_width: u32,
        first_row: u32,
        first_col: u32,
        out_stride: u32,
        flags: u32,
        positions: u32,
        last_w: u32,
        channels4: u32,
        out4: u32,
        pixel: u32,
        rounds: u32,
        tap: [[i32; 4]; TAPS],
    }
}

info! {
    /// The info block of the general shaders of the weights' gradient.
    struct WeightsInfo<const TAPS: usize> {
        height: u32,
        width: u32,
        channels: u32,
        stride: u32,
        rows: u32,
        cols: u32,
        out_channels: u32,
        taps: u32,
        positions: u32,
        share: u32,
        shares: u32,
        channels4: u32,
        out4: u32,
        pixel: u32,
        on_cols: u32,
        on_rows: u32,
        on: u32,
        span_cols: u32,
        span_rows: u32,
        next_row: u32,
        next_image: u32,
        last: u32,
        rounds: u32,
        unused: u32,
        tap: [[i32; 4]; TAPS],
    }
}

info! {
    /// The info block of [`Pack`](super::shaders::Pack).
    struct PackInfo { total: u32, rows: u32, cols: u32, taps: u32, transpose: u32, reverse: u32 }

    /// The info block of [`Block`](super::shaders::Block).
    struct BlockInfo { height: u32, width: u32, channels4: u32, out4: u32, groups: u32, total: u32, flags: u32 }

    /// The info block of [`WeightsBlock`](super::shaders::WeightsBlock).
    struct WeightsBlockInfo { height: u32, width: u32, channels4: u32, out4: u32, rows: u32, share: u32, shares: u32 }

    /// The info block of [`WeightsSum`](super::shaders::WeightsSum).
    struct WeightsSumInfo { total: u32, channels: u32, out_channels: u32, taps: u32, shares: u32, transposed: u32 }

    /// The info block of [`ColumnSums`](super::shaders::ColumnSums).
    struct ColumnSumsInfo { rows: u32, channels: u32, block: u32, blocks: u32 }
}
