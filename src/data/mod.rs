//! Data sets: CIFAR-10, CIFAR-100, folders of images and the common image-set formats. Opening and
//! verifying them, listing what they hold, and making the batches of views that training reads.

#[doc(hidden)]
pub mod archive;
mod arrange;
#[doc(hidden)]
pub mod cifar;
#[doc(hidden)]
pub mod cifar100;
#[doc(hidden)]
pub mod color_jitter;
#[doc(hidden)]
pub mod crop;
mod dataset;
mod folder;
pub(crate) mod formats;
mod gather;
mod images;
#[doc(hidden)]
pub mod inventory;
#[doc(hidden)]
pub mod listing;
pub mod loader;
#[doc(hidden)]
pub mod names;
mod opening;
mod options;
pub(crate) mod pack;
mod packed;
#[doc(hidden)]
pub mod picture;
mod planes;
#[doc(hidden)]
pub mod rand_augment;
mod reading;
mod sheet;
pub mod source;
pub mod split;
#[doc(hidden)]
pub mod stream;
#[doc(hidden)]
pub mod subset;
pub mod views;
mod walk;

pub use arrange::TEST_SHARE;
pub use cifar::CLASSES;
pub use dataset::{BUNDLED, Dataset};
pub use folder::Layout;
pub use gather::unreadable;
pub use images::Images;
pub use opening::{
    bundled, default_is_bundled, holds_images, open, pack as write_pack, reopen, root, show, verify,
};
pub use options::Options;
pub use planes::{bytes_of, side_of};
pub use reading::Survey;
