//! The shaders that GPUs run for a convolution of f32 and its gradients, by its sizes alone.

use super::gradients;
use super::shaders::{ColumnSums, Fours, Pack, Tiled, WeightsSum, WeightsTiled};
use super::taps::{self, FEW_TAPS, Grid, MOST_TAPS};
use crate::kernels::conv2d::{Conv2dOptions, ConvShape, Tile, conv_shape};
use crate::kernels::shader::{Filled, Types};
use burn::tensor::Shape;

const TYPES: Types = Types::F32;

/// Of a call with x of `dims` and a weight of `weight`, both passes.
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

/// Outputs of one grid, `from` channels to `to`.
fn pass(shape: &ConvShape, grid: &Grid, [from, to]: [usize; 2]) -> Filled {
    let (tile, fours) =
        (Tile::choose(shape.batch * grid.rows * grid.cols, to, 1), Fours::new(from, to));
    match grid.taps.len() <= FEW_TAPS {
        true => Filled::new(Tiled::<FEW_TAPS> { tile, fours, types: TYPES }),
        false => Filled::new(Tiled::<MOST_TAPS> { tile, fours, types: TYPES }),
    }
}

/// The gradient of the weight.
fn of_weight(shape: &ConvShape) -> Filled {
    let tile = gradients::tile(shape, &taps::forward(shape));
    let fours = Fours::new(shape.c_in, shape.c_out);
    match shape.taps() <= FEW_TAPS {
        true => Filled::new(WeightsTiled::<FEW_TAPS> { tile, fours, types: TYPES }),
        false => Filled::new(WeightsTiled::<MOST_TAPS> { tile, fours, types: TYPES }),
    }
}
