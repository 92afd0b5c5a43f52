//! A page that runs trained networks in a browser: a single HTML file with their launches as a
//! plan, their weights and the user interface. docs/web.md describes it.

mod bench;
mod blob;
mod page;
mod passes;

pub use bench::record as record_bench;
pub use blob::{Blob, Store};
pub use page::{Contents, Gallery, html, operands};
pub use passes::{BATCHES, LARGEST_BINDING, record};
