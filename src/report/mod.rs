//! Visual output of a run: pictures (image grids, line charts, bar charts, heat maps, scatter
//! maps), the HTML page that contains them, and TensorBoard event files.

#[doc(hidden)]
pub mod bars;
mod canvas;
pub mod grid;
#[doc(hidden)]
pub mod heatmap;
#[doc(hidden)]
pub mod html;
#[doc(hidden)]
pub mod picture;
#[doc(hidden)]
pub mod plot;
#[doc(hidden)]
pub mod scatter;
#[doc(hidden)]
pub mod tensorboard;
