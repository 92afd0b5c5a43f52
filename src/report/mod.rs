//! Pictures of a run - grids, curves, bars, heat maps, maps - the page that holds them, and event
//! files of TensorBoard.

pub mod bars;
mod canvas;
pub mod grid;
pub mod heatmap;
pub mod html;
pub mod picture;
pub mod plot;
pub mod scatter;
pub mod tensorboard;
