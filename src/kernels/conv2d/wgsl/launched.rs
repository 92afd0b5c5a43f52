//! The shaders that GPUs run for an f32 convolution and its gradients, given its sizes alone.

use super::fours::Fours;
use super::gradients;
use super::shaders::{ColumnSums, Pack, Tiled, WeightsSum, WeightsTiled};
use super::taps::{self, FEW_TAPS, Grid, MOST_TAPS};
use crate::kernels::conv2d::{Conv2dOptions, ConvShape, Tile, conv_shape};
use crate::kernels::shader::{Filled, Types};
use burn::tensor::Shape;

const TYPES: Types = Types::F32;

/// Returns the shaders of both passes of a call with x of `dims` and a weight of shape `weight`.
pub fn launched(
    dims: [usize; 4],
    weight: [usize; 4],
    options: Conv2dOptions,
    bias: bool,
) -> Vec<Filled> {
    let (shape, upsample) = (conv_shape(dims, &Shape::new(weight), options), options.upsample);
    let mut all =
        vec![Filled::new(Pack { upsample, types: TYPES }), Filled::new(WeightsSum { upsample })];
    if bias {
        all.extend([TYPES, Types::F32].map(|types| Filled::new(ColumnSums::new(weight[0], types))));
    }
    all.push(pass(&shape, &taps::forward(&shape), [shape.c_in, shape.c_out]));
    all.extend(
        taps::transposed(&shape).iter().map(|grid| pass(&shape, grid, [shape.c_out, shape.c_in])),
    );
    all.push(of_weight(&shape));
    all
}

/// Returns the shader for the outputs of one grid, from `from` channels to `to`.
fn pass(shape: &ConvShape, grid: &Grid, [from, to]: [usize; 2]) -> Filled {
    let (tile, fours) =
        (Tile::choose(shape.batch * grid.rows * grid.cols, to, 1), Fours::new(from, to));
    match grid.taps.len() <= FEW_TAPS {
        true => Filled::new(Tiled::<FEW_TAPS> { tile, fours, types: TYPES }),
        false => Filled::new(Tiled::<MOST_TAPS> { tile, fours, types: TYPES }),
    }
}

/// Returns the shader of the gradient of the weight.
fn of_weight(shape: &ConvShape) -> Filled {
    let tile = gradients::tile(shape, &taps::forward(shape));
    let fours = Fours::new(shape.c_in, shape.c_out);
    match shape.taps() <= FEW_TAPS {
        true => Filled::new(WeightsTiled::<FEW_TAPS> { tile, fours, types: TYPES }),
        false => Filled::new(WeightsTiled::<MOST_TAPS> { tile, fours, types: TYPES }),
    }
}
