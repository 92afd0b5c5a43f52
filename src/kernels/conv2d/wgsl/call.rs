//! One call of a convolution: its packed weights, and the launches of a pass.

use super::fours::{Fours, pixel};
use super::info::{BlockInfo, PackInfo, PassInfo};
use super::matrix::{Matrices, Unit};
use super::shaders::{Block, Form, Pack, Taps, Tiled};
use super::taps::{self, FEW_TAPS, Grid, MOST_TAPS};
use crate::device::Class;
use crate::kernels::adapter::class;
use crate::kernels::conv2d::shape::ConvShape;
use crate::kernels::conv2d::tile::Tile;
use crate::kernels::conv2d::{Conv2dOptions, conv_shape, pass_work};
use crate::kernels::launch::launch;
use crate::kernels::layout;
use crate::kernels::shader::{Elem, Shader, Types};
use crate::kernels::work::Work;
use burn::backend::wgpu::{CubeTensor, into_contiguous};
use burn::tensor::Shape;

/// The number of pixels along a side that exceeds the shaders' counters.
const MOST_PIXELS: usize = 1 << 14;

/// One call.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub shape: ConvShape,
    pub options: Conv2dOptions,
    pub types: Types,
    /// The cooperative matrices that compute it, if any.
    pub unit: Option<Unit>,
    /// The work of one pass.
    pub work: Work,
}

impl Call {
    /// Returns the call with `x` of `dims`, not by matrices.
    pub fn new(
        dims: [usize; 4],
        weight: &CubeTensor,
        types: Types,
        options: Conv2dOptions,
    ) -> Self {
        layout::check("conv2d", "the weight", weight, Elem::F32);
        let shape = conv_shape(dims, weight.meta.shape(), options);
        assert!(
            shape.height.max(shape.width) < MOST_PIXELS,
            "conv2d: images on wgpu devices must have sides below {MOST_PIXELS}, got {shape:?}"
        );
        assert!(
            shape.taps() <= MOST_TAPS,
            "conv2d: kernels on wgpu devices have at most {MOST_TAPS} taps, got {shape:?}"
        );
        Self {
            shape,
            options,
            types,
            unit: None,
            work: pass_work(dims, layout::dims(weight), options),
        }
    }

    /// Returns the class by which shaders on the device of `x` are chosen.
    pub fn class(&self, x: &CubeTensor) -> Class {
        if self.options.tile.is_some() { Class::Gpu } else { class(x) }
    }

    /// Returns the form of the block shaders that computes this convolution on the adapter of `x`,
    /// if there is one.
    pub fn block_form(&self, x: &CubeTensor, transposed: bool) -> Option<Form> {
        let shape = &self.shape;
        let (height, width) = (shape.out_height(), shape.out_width());
        let whole = height.is_multiple_of(Block::SIDE) && width.is_multiple_of(Block::SIDE);
        let halves = (shape.height, shape.width) == (2 * height, 2 * width);
        let fours = shape.c_in.is_multiple_of(4) && shape.c_out.is_multiple_of(4);
        let form = match (shape.kernel, shape.stride, shape.padding) {
            (3, 1, 1) => Form::Same,
            (4, 2, 1) if halves && transposed => Form::Up,
            (4, 2, 1) if halves => Form::Down,
            _ => return None,
        };
        (self.class(x) == Class::Software && whole && fours).then_some(form)
    }

    /// Packs the weights, `from` channels to `to`, in the order that the shaders read; if
    /// `gradient`, for the gradient of the input.
    fn pack(&self, weight: CubeTensor, [from, to]: [usize; 2], gradient: bool) -> CubeTensor {
        let [rows, cols] = if self.unit.is_some() { [to, from] } else { [from, to] };
        let transposed = layout::is_transposed(&weight);
        let weight = if transposed { weight } else { into_contiguous(weight) };
        let taps = self.shape.taps();
        let shape = Shape::new([taps, rows, cols.next_multiple_of(4)]);
        let packed = layout::empty(&weight, shape, self.types.elem.dtype());
        let fours = taps * rows * cols.div_ceil(4);
        let [total, rows, cols, taps] = [fours, rows, cols, taps].map(|v| v as u32);
        let transpose = u32::from((gradient != transposed) != self.unit.is_some());
        let info = PackInfo { total, rows, cols, taps, transpose, reverse: u32::from(gradient) };
        let shader = Pack { upsample: self.options.upsample, types: self.types };
        let work = Work::floats(&[weight.meta.shape().num_elements(), 4 * fours]);
        let workgroups = fours.div_ceil(shader.workgroup() as usize);
        launch("conv2d pack", shader, workgroups, &[&weight, &packed], &info, work);
        packed
    }

    /// Computes the forward pass, or the gradient of the input, from `source`, with `extra`: bias
    /// and residual. (With upsampling, `shape` is the convolution whose transpose the forward pass
    /// is.)
    pub fn pass(
        &self,
        gradient: bool,
        source: &CubeTensor,
        weight: CubeTensor,
        extra: [Option<&CubeTensor>; 2],
    ) -> CubeTensor {
        let shape = &self.shape;
        let transposed = gradient != self.options.upsample;
        let inputs = [shape.batch, shape.c_in, shape.height, shape.width];
        let outputs = [shape.batch, shape.c_out, shape.out_height(), shape.out_width()];
        let (from, to) = if transposed { (outputs, inputs) } else { (inputs, outputs) };
        let packed = self.pack(weight, [from[1], to[1]], gradient);
        let y = layout::empty_nhwc(source, to);
        let name = if gradient { "conv2d grad_input" } else { "conv2d forward" };
        let pass = Pass { call: self, name, x: source, packed: &packed, extra, y: &y };
        if let Some(form) = self.block_form(source, transposed) {
            pass.block(form);
            return y;
        }
        let grids = if transposed { taps::transposed(shape) } else { vec![taps::forward(shape)] };
        let parts = grids.len() as f64;
        let work =
            Work { bytes: self.work.bytes / parts, operations: self.work.operations / parts };
        for grid in grids {
            if grid.taps.len() <= FEW_TAPS {
                pass.grid::<FEW_TAPS>(&grid, work)
            } else {
                pass.grid::<MOST_TAPS>(&grid, work)
            }
        }
        y
    }
}

/// One pass: source `x` `[B, C, H, W]`, packed weights, bias and residual, and `y`
/// `[B, O, H', W']`, which is written.
struct Pass<'a> {
    call: &'a Call,
    name: &'static str,
    x: &'a CubeTensor,
    packed: &'a CubeTensor,
    extra: [Option<&'a CubeTensor>; 2],
    y: &'a CubeTensor,
}

impl Pass<'_> {
    /// Returns all buffers. Others stand in for an absent bias or residual, as every binding needs
    /// a buffer.
    fn buffers(&self) -> [&CubeTensor; 5] {
        let [bias, residual] = self.extra;
        [self.x, self.packed, bias.unwrap_or(self.packed), residual.unwrap_or(self.y), self.y]
    }

    /// Returns the flags that tell which of bias and residual there are.
    fn flags(&self) -> u32 {
        let [bias, residual] = self.extra;
        u32::from(bias.is_some()) | u32::from(residual.is_some()) << 1
    }

    /// Computes all outputs of a convolution that has a [`Call::block_form`].
    fn block(&self, form: Form) {
        let ([batch, c, ..], [_, o, ..]) = (layout::dims(self.x), layout::dims(self.y));
        // The sides of the smaller of both maps, and the number of passes over it.
        let [_, _, height, width] = layout::dims(if form == Form::Up { self.x } else { self.y });
        let parities = if form == Form::Up { 4 } else { 1 };
        let groups = (o / 4).div_ceil(8);
        let workgroups = parities * batch * (height / Block::SIDE) * (width / Block::SIDE) * groups;
        let [height, width, channels4, out4, groups, total] =
            [height, width, c / 4, o / 4, groups, workgroups].map(|v| v as u32);
        let info = BlockInfo { height, width, channels4, out4, groups, total, flags: self.flags() };
        let shader = Block { form, types: self.call.types };
        launch(self.name, shader, workgroups, &self.buffers(), &info, self.call.work);
    }

    /// Computes the outputs of one grid.
    fn grid<const TAPS: usize>(&self, grid: &Grid, work: Work) {
        let ([batch, c, height, width], [_, o, out_height, out_width]) =
            (layout::dims(self.x), layout::dims(self.y));
        let positions = batch * grid.rows * grid.cols;
        let Call { options, types, .. } = *self.call;
        let tile = options.tile.unwrap_or_else(|| Tile::choose(positions, o, 1));
        let info = PassInfo::<TAPS> {
            height: height as u32,
            width: width as u32,
            channels: c as u32,
            stride: grid.source_stride as u32,
            rows: grid.rows as u32,
            cols: grid.cols as u32,
            out_channels: o as u32,
            taps: grid.taps.len() as u32,
            out_height: out_height as u32,
            out_width: out_width as u32,
            first_row: grid.first[0] as u32,
            first_col: grid.first[1] as u32,
            out_stride: grid.out_stride as u32,
            flags: self.flags(),
            positions: positions as u32,
            last_w: (self.packed.meta.shape().num_elements() / 4 - 1) as u32,
            channels4: c.div_ceil(4) as u32,
            out4: o.div_ceil(4) as u32,
            pixel: pixel(c) as u32,
            rounds: (tile.bk / tile.round()) as u32,
            tap: grid.info(),
        };
        let (name, fours, buffers) = (self.name, Fours::new(c, o), self.buffers());
        if let Some(unit) = self.call.unit {
            let tile = unit.tile(tile);
            let workgroups = tile.count(positions, o);
            return launch(
                name,
                Matrices::<TAPS> { tile, unit, fours },
                workgroups,
                &buffers,
                &info,
                work,
            );
        }
        match self.call.class(self.x) {
            Class::Gpu => {
                let workgroups = tile.count(positions, o);
                launch(
                    name,
                    Tiled::<TAPS> { tile, fours, types },
                    workgroups,
                    &buffers,
                    &info,
                    work,
                );
            }
            Class::Software => {
                // Along channels, fewer than 16 would leave most invocations idle.
                let shader = Taps::<TAPS> { across: o < 16, fours, types };
                let [block, channels] = shader.block();
                let workgroups = positions.div_ceil(block) * o.div_ceil(channels);
                launch(name, shader, workgroups, &buffers, &info, work);
            }
        }
    }
}
