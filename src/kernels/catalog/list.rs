//! The operations of the catalogue, each a line here. Operations use the rest of the catalogue, but
//! not this list.

use super::Operation;
use crate::kernels::ada_gn::AdaGnOperation;
use crate::kernels::adamw::AdamWOperation;
use crate::kernels::attention::AttentionOperation;
use crate::kernels::batch_norm::BatchNormOperation;
use crate::kernels::concat::ConcatOperation;
use crate::kernels::conv2d::Conv2dOperation;
use crate::kernels::max_pool::MaxPoolOperation;
use crate::kernels::peak::PeakOperation;
use crate::kernels::pixel_mean::PixelMeanOperation;
use crate::kernels::silu::SiluOperation;

/// Returns all operations, cheapest to measure first.
pub fn operations() -> &'static [&'static dyn Operation] {
    &[
        &AdaGnOperation,
        &BatchNormOperation,
        &AttentionOperation,
        &ConcatOperation,
        &MaxPoolOperation,
        &PixelMeanOperation,
        &SiluOperation,
        &AdamWOperation,
        &Conv2dOperation,
        &PeakOperation,
    ]
}
