//! Pictures of a run - grids, curves and bars - and the page that holds them.
//! Pictures of a run: grids, curves, bars and heat maps.

pub mod bars;
mod canvas;
pub mod grid;
pub mod heatmap;
pub mod html;
pub mod plot;
