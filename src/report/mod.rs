//! Pictures of a run: grids, curves and bars.

pub mod bars;
mod canvas;
pub mod grid;
pub mod plot;
