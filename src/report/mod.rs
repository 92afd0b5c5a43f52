//! Pictures of a run: grids and curves.

pub mod grid;
pub mod plot;
