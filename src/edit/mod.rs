//! Pictures made from z.

pub mod decoder;
pub mod directions;
pub mod interpolate;
pub mod mix;
pub mod mixture;
pub mod prior;
pub mod reconstruct;
