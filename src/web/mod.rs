//! A page that runs trained networks in a browser: their launches as a plan, their weights, and
//! what the page shows them with, in one HTML file. docs/web.md describes it.

mod bench;
mod blob;
mod page;
mod passes;

pub use bench::record as record_bench;
pub use blob::{Blob, Store};
pub use page::{Contents, Gallery, html, operands};
pub use passes::{BATCHES, record};
