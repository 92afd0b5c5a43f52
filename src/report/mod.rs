//! Pictures of a run - grids, curves and bars - and the page that holds them.

pub mod bars;
mod canvas;
pub mod grid;
pub mod html;
pub mod plot;
