//! Pictures of a run: grids and curves.

pub mod bars;
mod canvas;
pub mod grid;
pub mod plot;
