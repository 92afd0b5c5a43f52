//! Launches of the convolution shaders on cubecl's wgpu runtime.

use super::cpu::ConvShape;
use super::taps::{self, Grid, MOST_TAPS};
use super::wgsl::{Form, Fours, Shader, Tile};
use super::{Conv2dGradients, Conv2dOp, Conv2dOptions, shape};
use crate::kernels::launch::{Class, class, grid, launch_words};
use crate::kernels::layout;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::{DType, Shape};

/// Name, dtype and kernel size of the operands.
fn check(tensors: &[(&str, &CubeTensor)], shape: &ConvShape) {
    for (name, tensor) in tensors {
        assert!(tensor.dtype == DType::F32, "conv2d: {name} is {:?}, the WGSL kernel takes f32", tensor.dtype);
    }
    let taps = shape.kernel * shape.kernel;
    assert!(taps <= MOST_TAPS, "conv2d: kernels on wgpu devices have at most {MOST_TAPS} taps, got {shape:?}");
}

/// Weights in the order of the shaders, `rows` channels to `cols`; `gradient`: for the gradient of the input.
fn pack(weight: CubeTensor, [rows, cols]: [usize; 2], taps: usize, gradient: bool, upsample: bool) -> CubeTensor {
    let weight = into_contiguous(weight);
    let packed = layout::empty_acc(&weight, Shape::new([taps, rows, cols.next_multiple_of(4)]));
    let total = taps * rows * cols.div_ceil(4);
    let info = [total, rows, cols, taps, usize::from(gradient)].map(|v| v as u32);
    flat("conv2d pack", Shader::Pack { upsample }, total, &[&weight, &packed], &info);
    packed
}

/// Launches `shader`, an invocation for each of `total`.
fn flat(name: &'static str, shader: Shader, total: usize, buffers: &[&CubeTensor], info: &[u32]) {
    let wg = shader.workgroup();
    launch_words(name, shader, wg, grid(total.div_ceil(wg as usize)), buffers, info);
}

fn taps(grid: &Grid) -> impl Iterator<Item = u32> {
    let taps = grid.taps.iter().flat_map(|t| [t.row as u32, t.col as u32, t.weight as u32, 0]);
    taps.chain(std::iter::repeat(0)).take(4 * MOST_TAPS)
}

/// The form of the shaders of blocks that does this convolution on the adapter of `x`, if there is one.
fn block_form(x: &CubeTensor, shape: &ConvShape, transposed: bool) -> Option<Form> {
    let (height, width) = (shape.out_height(), shape.out_width());
    let whole = height.is_multiple_of(Shader::BLOCK) && width.is_multiple_of(Shader::BLOCK);
    let halves = (shape.height, shape.width) == (2 * height, 2 * width);
    let fours = shape.c_in.is_multiple_of(4) && shape.c_out.is_multiple_of(4);
    let form = match (shape.kernel, shape.stride, shape.padding) {
        (3, 1, 1) => Form::Same,
        (4, 2, 1) if halves && transposed => Form::Up,
        (4, 2, 1) if halves => Form::Down,
        _ => return None,
    };
    (class(x) == Class::Software && whole && fours).then_some(form)
}

/// All outputs of a convolution that has a [`block_form`].
fn convolve_block(
    name: &'static str,
    form: Form,
    x: &CubeTensor,
    packed: &CubeTensor,
    bias: Option<&CubeTensor>,
    residual: Option<&CubeTensor>,
    y: &CubeTensor,
) {
    let ([batch, c, ..], [_, o, ..]) = (layout::dims(x), layout::dims(y));
    // The smaller of both maps, and how often it is walked over.
    let [_, _, height, width] = layout::dims(if form == Form::Up { x } else { y });
    let parities = if form == Form::Up { 4 } else { 1 };
    let groups = (o / 4).div_ceil(8);
    let total = parities * batch * (height / Shader::BLOCK) * (width / Shader::BLOCK) * groups;
    let flags = usize::from(bias.is_some()) | usize::from(residual.is_some()) << 1;
    let info = [height, width, c / 4, o / 4, groups, total, flags].map(|v| v as u32);
    let buffers = [x, packed, bias.unwrap_or(packed), residual.unwrap_or(y), y];
    let shader = Shader::Block(form);
    launch_words(name, shader, shader.workgroup(), grid(total), &buffers, &info);
}

/// Outputs of one grid: source `x` `[B, C, H, W]`, packed weights; `y` `[B, O, H', W']` is written where the grid says.
fn convolve(
    name: &'static str,
    grid_: &Grid,
    x: &CubeTensor,
    packed: &CubeTensor,
    bias: Option<&CubeTensor>,
    residual: Option<&CubeTensor>,
    y: &CubeTensor,
) {
    let ([batch, c, height, width], [_, o, out_height, out_width]) = (layout::dims(x), layout::dims(y));
    let positions = batch * grid_.rows * grid_.cols;
    let (shader, count) = match class(x) {
        Class::Gpu => {
            let tile = Tile::choose(positions, o, 1);
            (Shader::Tiled(tile, Fours::new(c, o)), tile.count(positions, o))
        }
        Class::Software => {
            // A few channels would leave most invocations idle.
            let (across, fours) = (o < 16, Fours::new(c, o));
            let [block, channels] = Shader::taps_block(across, fours);
            (Shader::Taps { across, fours }, positions.div_ceil(block) * o.div_ceil(channels))
        }
    };
    let flags = usize::from(bias.is_some()) | usize::from(residual.is_some()) << 1;
    let Grid { rows, cols, first, out_stride, source_stride, .. } = *grid_;
    let info = [height, width, c, source_stride, rows, cols, o, grid_.taps.len(), out_height, out_width, first[0], first[1]];
    let info: Vec<u32> = info.into_iter().chain([out_stride, flags, positions, 0]).map(|v| v as u32).collect();
    let info: Vec<u32> = info.into_iter().chain(taps(grid_)).collect();
    let buffers = [x, packed, bias.unwrap_or(packed), residual.unwrap_or(y), y];
    launch_words(name, shader, shader.workgroup(), grid(count), &buffers, &info);
}

fn forward(
    x: CubeTensor,
    weight: CubeTensor,
    bias: CubeTensor,
    residual: Option<CubeTensor>,
    options: Conv2dOptions,
) -> CubeTensor {
    let x = layout::into_nhwc(x);
    let shape = shape(layout::dims(&x), weight.meta.shape(), options);
    check(&[("x", &x), ("weight", &weight), ("bias", &bias)], &shape);
    let residual = residual.map(layout::into_nhwc);
    let bias = (bias.meta.shape()[0] > 0).then(|| into_contiguous(bias));
    pass("conv2d forward", false, &shape, &x, weight, bias.as_ref(), residual.as_ref(), options)
}

/// The forward pass of a call, or the gradient of its input, from `source`. (With upsampling `shape` is the convolution that the
/// forward pass is the transpose of.)
#[allow(clippy::too_many_arguments)] // each is another thing, and both callers name them
fn pass(
    name: &'static str,
    gradient: bool,
    shape: &ConvShape,
    source: &CubeTensor,
    weight: CubeTensor,
    bias: Option<&CubeTensor>,
    residual: Option<&CubeTensor>,
    options: Conv2dOptions,
) -> CubeTensor {
    let transposed = gradient != options.upsample;
    let inputs = [shape.batch, shape.c_in, shape.height, shape.width];
    let outputs = [shape.batch, shape.c_out, shape.out_height(), shape.out_width()];
    let (from, to) = if transposed { (outputs, inputs) } else { (inputs, outputs) };
    let packed = pack(weight, [from[1], to[1]], shape.kernel * shape.kernel, gradient, options.upsample);
    let y = layout::empty_nhwc(source, to);
    if let Some(form) = block_form(source, shape, transposed) {
        convolve_block(name, form, source, &packed, bias, residual, &y);
        return y;
    }
    let grids = if transposed { taps::transposed(shape) } else { vec![taps::forward(shape)] };
    for grid in grids {
        convolve(name, &grid, source, &packed, bias, residual, &y);
    }
    y
}

impl Conv2dOp for CubeBackend {
    fn tiled_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        forward(x, weight, bias, None, options)
    }

    fn tiled_conv2d_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        forward(x, weight, bias, Some(residual), options)
    }
}

/// As [`weights`], of a convolution that has a [`block_form`].
fn weights_block(form: Form, x: &CubeTensor, dy: &CubeTensor, shape: &ConvShape) -> (CubeTensor, usize) {
    let ConvShape { c_in, c_out, kernel, .. } = *shape;
    let [batch, _, height, width] = layout::dims(dy);
    let products = kernel * c_in.div_ceil(Shader::BLOCK_CHANNELS) * (c_out / 4).div_ceil(8);
    let rows = batch * height;
    // Work for every thread of the processor.
    let share = rows.div_ceil(SOFTWARE_WORKGROUPS.div_ceil(products));
    let shares = rows.div_ceil(share);
    let partial = layout::empty_acc(x, Shape::new([shares, kernel * kernel, c_in, c_out]));
    let info = [height, width, c_in / 4, c_out / 4, rows, share, shares].map(|v| v as u32);
    let shader = Shader::WeightsBlock(form);
    launch_words("conv2d grad_weight", shader, shader.workgroup(), grid(products * shares), &[x, dy, &partial], &info);
    (partial, shares)
}

/// The gradient of the weights, of the shape `weight`, from the sums over shares of the pixels.
fn sum_shares(partial: &CubeTensor, shares: usize, shape: &ConvShape, weight: Shape, upsample: bool) -> CubeTensor {
    let ConvShape { c_in, c_out, kernel, .. } = *shape;
    let total = weight[2] * weight[3] * c_in * c_out.div_ceil(4);
    let dw = layout::empty_acc(partial, weight);
    let info = [total, c_in, c_out, kernel * kernel, shares].map(|v| v as u32);
    flat("conv2d grad_weight sum", Shader::WeightsSum { upsample }, total, &[partial, &dw], &info);
    dw
}

/// Workgroups that the gradient of weights is shared among.
const SOFTWARE_WORKGROUPS: usize = 64;
/// See [`SOFTWARE_WORKGROUPS`]: two for each place of a large GPU.
const GPU_WORKGROUPS: usize = 512;

/// Positions of a share, at least: fewer would leave the partial sums as large as the work that makes them.
const SHARE: usize = 1024;

/// The largest buffer of partial sums.
const PARTIAL_BYTES: usize = 64 << 20;

impl Conv2dGradients for CubeBackend {
    fn grad_input(dy: FloatTensor<Self>, weight: FloatTensor<Self>, input: Shape, options: Conv2dOptions) -> FloatTensor<Self> {
        let dy = layout::into_nhwc(dy);
        let dims = [input[0], input[1], input[2], input[3]];
        let shape = shape(dims, weight.meta.shape(), options);
        check(&[("dy", &dy), ("weight", &weight)], &shape);
        pass("conv2d grad_input", true, &shape, &dy, weight, None, None, options)
    }

    fn grad_weight(x: FloatTensor<Self>, dy: FloatTensor<Self>, weight: Shape, options: Conv2dOptions) -> FloatTensor<Self> {
        let (x, dy) = (layout::into_nhwc(x), layout::into_nhwc(dy));
        let shape = shape(layout::dims(&x), &weight, options);
        check(&[("x", &x), ("dy", &dy)], &shape);
        // With upsampling x is the result of the convolution that `shape` is of.
        let (source, gradient) = if options.upsample { (&dy, &x) } else { (&x, &dy) };
        let (partial, shares) = match block_form(source, &shape, false) {
            Some(form) => weights_block(form, source, gradient, &shape),
            None => weights(source, gradient, &shape),
        };
        sum_shares(&partial, shares, &shape, weight, options.upsample)
    }

    fn grad_bias(dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let dy = layout::into_nhwc(dy);
        let [b, c, height, width] = layout::dims(&dy);
        column_sums(dy, b * height * width, c)
    }
}

/// The gradient of the weights of any convolution: sums over shares of the pixels, and how many shares.
fn weights(x: &CubeTensor, dy: &CubeTensor, shape: &ConvShape) -> (CubeTensor, usize) {
    let ConvShape { c_in, c_out, height, width, stride, .. } = *shape;
    let grid_ = taps::forward(shape);
    let (taps_count, positions) = (grid_.taps.len(), shape.batch * grid_.rows * grid_.cols);

    let fours = Fours::new(c_in, c_out);
    let most = (positions / SHARE).max(1);
    let (shader, products, wanted, unit) = match class(x) {
        Class::Gpu => {
            let tile = Tile::choose(c_in, c_out, taps_count * most);
            (Shader::WeightsTiled(tile, fours), tile.count(c_in, c_out) * taps_count, GPU_WORKGROUPS, tile.bk)
        }
        Class::Software => {
            let products = c_in.div_ceil(Shader::TAPS_CHANNELS) * c_out.div_ceil(32) * taps_count;
            // Shares of whole rows.
            (Shader::WeightsTaps(fours), products, SOFTWARE_WORKGROUPS, grid_.cols)
        }
    };
    let bytes = taps_count * c_in * c_out.next_multiple_of(4) * size_of::<f32>();
    let shares = (wanted / products.min(wanted)).min(most).min((PARTIAL_BYTES / bytes).max(1)).max(1);
    let share = positions.div_ceil(shares).next_multiple_of(unit);
    let shares = positions.div_ceil(share);

    let partial = layout::empty_acc(x, Shape::new([shares, taps_count, c_in, c_out.next_multiple_of(4)]));
    let info = [height, width, c_in, stride, grid_.rows, grid_.cols, c_out, taps_count, positions, share, shares, 0];
    let info: Vec<u32> = info.into_iter().map(|v| v as u32).chain(taps(&grid_)).collect();
    launch_words("conv2d grad_weight", shader, shader.workgroup(), grid(products * shares), &[x, dy, &partial], &info);
    (partial, shares)
}

/// Sums over the `rows` rows of `x`, `[cols]`: of blocks of rows, until one is left.
fn column_sums(mut x: CubeTensor, mut rows: usize, cols: usize) -> CubeTensor {
    let tile = Shader::COLUMNS[usize::from(cols > Shader::COLUMNS[0])];
    loop {
        // Enough blocks to keep a GPU busy in the first pass, few enough to end in the second.
        let block = if rows > 256 { rows.div_ceil(64).max(128) } else { rows };
        let blocks = rows.div_ceil(block);
        let sums = layout::empty_acc(&x, Shape::new([blocks * cols]));
        let shader = Shader::ColumnSums { cols: tile };
        let info = [rows, cols, block, blocks].map(|v| v as u32);
        launch_words("column sums", shader, shader.workgroup(), grid(blocks * cols.div_ceil(tile)), &[&x, &sums], &info);
        if blocks == 1 {
            return sums;
        }
        (x, rows) = (sums, blocks);
    }
}
