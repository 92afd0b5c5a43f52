//! Pictures of a run: grids and curves.

mod canvas;
pub mod grid;
pub mod plot;
