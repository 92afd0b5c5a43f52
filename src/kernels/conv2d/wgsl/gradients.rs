//! Launches for the gradients of the weights and of the bias. That of the weights is split over the
//! pixels (split-K): each slice, called a share in the code, yields partial sums, which are then
//! added up.

use super::call::Call;
use super::fours::{Fours, pixel};
use super::info::{ColumnSumsInfo, WeightsBlockInfo, WeightsInfo, WeightsSumInfo};
use super::matrix::WeightsMatrices;
use super::shaders::{ColumnSums, Form, WeightsBlock, WeightsSum, WeightsTaps, WeightsTiled};
use super::taps::{self, FEW_TAPS, Grid, MOST_TAPS};
use crate::device::Class;
use crate::kernels::conv2d::shape::ConvShape;
use crate::kernels::conv2d::tile::Tile;
use crate::kernels::launch::launch;
use crate::kernels::layout;
use crate::kernels::shader::{Shader, Types};
use crate::kernels::work::Work;
use burn::backend::wgpu::CubeTensor;
use burn::tensor::Shape;

/// The number of workgroups that the gradient of the weights is split among on software adapters.
const SOFTWARE_WORKGROUPS: usize = 64;
/// The same on GPUs: two for each workgroup that a large GPU has room for.
const GPU_WORKGROUPS: usize = 512;

/// The fewest positions of a split-K slice: with fewer, the partial sums would be as large as the
/// work that computes them.
const SHARE: usize = 1024;

/// The size of the largest buffer of partial sums.
const PARTIAL_BYTES: usize = 64 << 20;

const NAME: &str = "conv2d grad_weight";

/// Computes the gradient of `weight`, of its shape and layout, from `x` and `dy` over NHWC memory.
pub(super) fn of_weight(
    call: &Call,
    x: CubeTensor,
    dy: &CubeTensor,
    weight: &CubeTensor,
) -> CubeTensor {
    // With upsampling, x is the result of the convolution that the call's shape describes.
    let (source, gradient) = if call.options.upsample { (dy, &x) } else { (&x, dy) };
    let few = call.shape.taps() <= FEW_TAPS;
    let (partial, shares) = match call.block_form(source, false) {
        Some(form) => block(call, form, source, gradient),
        None if few => general::<FEW_TAPS>(call, source, gradient),
        None => general::<MOST_TAPS>(call, source, gradient),
    };
    sum_shares(call, &partial, shares, weight)
}

/// Computes the partial sums of a convolution that has a [`Call::block_form`]. Returns them and the
/// number of split-K slices.
fn block(call: &Call, form: Form, x: &CubeTensor, dy: &CubeTensor) -> (CubeTensor, usize) {
    let ConvShape { c_in, c_out, kernel, .. } = call.shape;
    let [batch, _, height, width] = layout::dims(dy);
    let products = kernel * c_in.div_ceil(WeightsBlock::CHANNELS) * (c_out / 4).div_ceil(8);
    let rows = batch * height;
    // Work for every thread of the processor.
    let share = rows.div_ceil(SOFTWARE_WORKGROUPS.div_ceil(products));
    let shares = rows.div_ceil(share);
    let partial = layout::empty_acc(x, Shape::new([shares, kernel * kernel, c_in, c_out]));
    let workgroups = products * shares;
    let [height, width, channels4, out4, rows, share, all] =
        [height, width, c_in / 4, c_out / 4, rows, share, shares].map(|v| v as u32);
    let info = WeightsBlockInfo { height, width, channels4, out4, rows, share, shares: all };
    let shader = WeightsBlock { down: form != Form::Same, types: call.types };
    launch(NAME, shader, workgroups, &[x, dy, &partial], &info, call.work);
    (partial, shares)
}

/// Returns the most split-K slices that so many positions are worth.
fn most_shares(positions: usize) -> usize {
    (positions / SHARE).max(1)
}

/// Returns the tile that GPUs use for the products over the positions of `grid`.
pub(super) fn tile(shape: &ConvShape, grid: &Grid) -> Tile {
    let positions = shape.batch * grid.rows * grid.cols;
    Tile::choose(shape.c_in, shape.c_out, grid.taps.len() * most_shares(positions))
}

/// Does the same as [`block`] for any convolution.
fn general<const TAPS: usize>(call: &Call, x: &CubeTensor, dy: &CubeTensor) -> (CubeTensor, usize) {
    let ConvShape { batch, c_in, c_out, height, width, stride, .. } = call.shape;
    let grid: Grid = taps::forward(&call.shape);
    let (count, positions) = (grid.taps.len(), batch * grid.rows * grid.cols);
    let (types, fours) = (call.types, Fours::new(c_in, c_out));
    let most = most_shares(positions);
    let tile = call.options.tile.unwrap_or_else(|| tile(&call.shape, &grid));
    let class = call.class(x);
    let matrices = call.unit.map(|unit| (unit, unit.weights_tile(tile)));
    // Positions in workgroup memory at a time.
    let step = matrices.map_or(tile.bk, |(_, tile)| tile.bk);
    let (products, wanted, whole) = match class {
        Class::Gpu => {
            let blocks =
                matrices.map_or(tile.count(c_in, c_out), |(_, tile)| tile.count(c_in, c_out));
            (blocks * count, GPU_WORKGROUPS, step)
        }
        Class::Software => {
            let products =
                c_in.div_ceil(WeightsTaps::<TAPS>::CHANNELS) * c_out.div_ceil(32) * count;
            // Slices of whole rows.
            (products, SOFTWARE_WORKGROUPS, grid.cols)
        }
    };
    let bytes = count * c_in * c_out.next_multiple_of(4) * size_of::<f32>();
    let shares =
        (wanted / products.min(wanted)).min(most).min((PARTIAL_BYTES / bytes).max(1)).max(1);
    let share = positions.div_ceil(shares).next_multiple_of(whole);
    let shares = positions.div_ceil(share);

    let partial =
        layout::empty_acc(x, Shape::new([shares, count, c_in, c_out.next_multiple_of(4)]));
    // The step to the next tile of positions: columns, rows and images.
    let pixel = pixel(c_in);
    let line = width * pixel;
    let on_cols = step % grid.cols * stride;
    let on_rows = step / grid.cols % grid.rows * stride;
    let (span_cols, span_rows) = (grid.cols * stride, grid.rows * stride);
    // Spans can exceed the image, so differences are modulo 2^32, like the shader's additions.
    let less = |a: usize, b: usize| (a as u32).wrapping_sub(b as u32);
    let info = WeightsInfo::<TAPS> {
        height: height as u32,
        width: width as u32,
        channels: c_in as u32,
        stride: stride as u32,
        rows: grid.rows as u32,
        cols: grid.cols as u32,
        out_channels: c_out as u32,
        taps: count as u32,
        positions: positions as u32,
        share: share as u32,
        shares: shares as u32,
        channels4: c_in.div_ceil(4) as u32,
        out4: c_out.div_ceil(4) as u32,
        pixel: pixel as u32,
        on_cols: on_cols as u32,
        on_rows: on_rows as u32,
        on: (step / (grid.cols * grid.rows) * height * line + on_rows * line + on_cols * pixel)
            as u32,
        span_cols: span_cols as u32,
        span_rows: span_rows as u32,
        next_row: less(stride * line, span_cols * pixel),
        next_image: less(height * line, span_rows * line),
        last: (positions - 1) as u32,
        rounds: (tile.bk / tile.weights_round()) as u32,
        unused: 0,
        tap: grid.info(),
    };
    let (workgroups, buffers) = (products * shares, [x, dy, &partial]);
    if let Some((unit, tile)) = matrices {
        launch(
            NAME,
            WeightsMatrices::<TAPS> { tile, unit, fours },
            workgroups,
            &buffers,
            &info,
            call.work,
        );
        return (partial, shares);
    }
    match class {
        Class::Gpu => launch(
            NAME,
            WeightsTiled::<TAPS> { tile, fours, types },
            workgroups,
            &buffers,
            &info,
            call.work,
        ),
        Class::Software => launch(
            NAME,
            WeightsTaps::<TAPS> { fours, types },
            workgroups,
            &buffers,
            &info,
            call.work,
        ),
    }
    (partial, shares)
}

/// Computes the gradient of `weight`, of its shape and layout, from the partial sums of the split-K
/// slices.
fn sum_shares(call: &Call, partial: &CubeTensor, shares: usize, weight: &CubeTensor) -> CubeTensor {
    let ConvShape { c_in, c_out, .. } = call.shape;
    let (mut shape, transposed) = (weight.meta.shape().clone(), layout::is_transposed(weight));
    let total = shape[2] * shape[3] * c_in * c_out.div_ceil(4);
    let work = Work::floats(&[partial.meta.shape().num_elements(), shape.num_elements()]);
    if transposed {
        shape = Shape::new([c_in, c_out, 1, 1]);
    }
    let mut dw = layout::empty_acc(partial, shape);
    let shader = WeightsSum { upsample: call.options.upsample };
    let workgroups = total.div_ceil(shader.workgroup() as usize);
    let [total, channels, out_channels, taps, shares] =
        [total, c_in, c_out, call.shape.taps(), shares].map(|v| v as u32);
    let info = WeightsSumInfo {
        total,
        channels,
        out_channels,
        taps,
        shares,
        transposed: u32::from(transposed),
    };
    launch("conv2d grad_weight sum", shader, workgroups, &[partial, &dw], &info, work);
    if transposed {
        dw.meta.permute(&[1, 0, 2, 3]).expect("four axes");
    }
    dw
}

/// Computes the sums over the pixels of `dy`, `[O]`: sums over blocks of pixels, repeated until one
/// block is left.
pub(super) fn of_bias(dy: CubeTensor, types: Types) -> CubeTensor {
    let [batch, cols, height, width] = layout::dims(&dy);
    let (mut x, mut rows, mut shader) = (dy, batch * height * width, ColumnSums::new(cols, types));
    loop {
        // Enough blocks to keep a GPU busy in the first pass, few enough to end in the second.
        let block = if rows > 256 { rows.div_ceil(64).max(128) } else { rows };
        let blocks = rows.div_ceil(block);
        let sums = layout::empty_acc(&x, Shape::new([blocks * cols]));
        let workgroups = blocks * cols.div_ceil(shader.cols);
        let info = ColumnSumsInfo {
            rows: rows as u32,
            channels: cols as u32,
            block: block as u32,
            blocks: blocks as u32,
        };
        launch(
            "column sums",
            shader,
            workgroups,
            &[&x, &sums],
            &info,
            Work::floats(&[(rows + blocks) * cols]),
        );
        if blocks == 1 {
            return sums;
        }
        (x, rows, shader) = (sums, blocks, ColumnSums::new(cols, Types::F32));
    }
}
