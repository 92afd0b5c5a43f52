//! Pictures of a run - grids, curves, bars, heat maps, maps - and the page that holds them.

pub mod bars;
mod canvas;
pub mod grid;
pub mod heatmap;
pub mod html;
pub mod picture;
pub mod plot;
pub mod scatter;
