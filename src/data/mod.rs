//! Data sets: CIFAR-10, CIFAR-100, folders of images and the common image-set formats. Opening and
//! verifying them, listing what they hold, and making the batches of views that training reads.

pub mod archive;
mod arrange;
pub mod cifar;
pub mod cifar100;
pub mod color_jitter;
pub mod crop;
mod dataset;
mod folder;
pub(crate) mod formats;
mod gather;
mod images;
pub mod inventory;
pub mod listing;
pub mod loader;
pub mod names;
mod opening;
mod options;
mod pack;
mod packed;
pub mod picture;
mod planes;
pub mod rand_augment;
mod reading;
mod sheet;
pub mod source;
pub mod split;
pub mod stream;
pub mod subset;
pub mod views;
mod walk;

pub use arrange::TEST_SHARE;
pub use cifar::CLASSES;
pub use dataset::{BUNDLED, Dataset};
pub use folder::Layout;
pub use gather::unreadable;
pub use images::Images;
pub use opening::{bundled, open, pack as write_pack, reopen, root, show, verify};
pub use options::Options;
pub use planes::{bytes_of, side_of};
pub use reading::Survey;
