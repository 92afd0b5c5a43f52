//! Images made from z: reconstructions, edits and samples.

pub mod directions;
pub mod generator;
pub mod interpolate;
pub mod linear_decoder;
pub mod mix;
#[doc(hidden)]
pub mod mixture;
pub mod prior;
pub mod reconstruct;
