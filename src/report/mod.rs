//! Visual output of a run: pictures (image grids, line charts, bar charts, heat maps, scatter
//! maps), the HTML page that contains them, and TensorBoard event files.

pub mod bars;
mod canvas;
pub mod grid;
pub mod heatmap;
pub mod html;
pub mod picture;
pub mod plot;
pub mod scatter;
pub mod tensorboard;
