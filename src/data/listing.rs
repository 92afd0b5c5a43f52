//! What a place holds, before its pixels are read: numbered images with names, labels and classes.
//! Every format is converted to this.

use crate::error::Result;
use std::path::PathBuf;

/// The images of one place.
pub struct Listing {
    /// What it is, for display: "CIFAR-10", "images of photos".
    pub name: String,
    /// How the place was read, as a sentence fragment: "classes are the sub-folders".
    pub reading: String,
    /// Names of the classes, in label order. Empty if there are none; then all labels are 0.
    pub classes: Vec<String>,
    /// The images, numbered from 0.
    pub entries: Vec<Entry>,
    /// What was found there but is not part of the data set.
    pub left_out: Vec<LeftOut>,
    /// Reads the images.
    pub contents: Contents,
    /// Whether the entries may be reordered so that the classes take turns and the first N images
    /// cover all classes. False where positions are established, as in CIFAR-10.
    pub by_turns: bool,
}

/// One image.
pub struct Entry {
    /// Unique within the place, with forward slashes: "cats/0012.jpg".
    pub name: String,
    /// An index into the classes.
    pub label: u16,
    /// The set it belongs to. `None` if the place doesn't say; then a share of each class goes to
    /// the test set.
    pub set: Option<Set>,
}

/// The two sets.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    /// The set that networks and probes are trained on.
    Train,
    /// The set that they are evaluated on.
    Test,
}

impl Listing {
    /// Checks whether the place doesn't distinguish training and test images, or has only training
    /// images. A share of each class then goes to the test set.
    pub(super) fn is_divided(&self) -> bool {
        self.entries.iter().any(|entry| entry.set.is_none()) || !self.has_test_images()
    }

    /// Checks whether the place marks images as test images.
    pub(super) fn has_test_images(&self) -> bool {
        self.entries.iter().any(|entry| entry.set == Some(Set::Test))
    }
}

impl Set {
    /// Returns the set that a folder, a shard or a column names (`train`, `training`; `test`,
    /// `testing`, `val`, `valid`, `validation`, in any case), and whether it is for validation.
    pub fn named(name: &str) -> Option<(Self, bool)> {
        match name.to_lowercase().as_str() {
            "train" | "training" => Some((Self::Train, false)),
            "test" | "testing" => Some((Self::Test, false)),
            "val" | "valid" | "validation" => Some((Self::Test, true)),
            _ => None,
        }
    }
}

/// Things of one kind that are not part of the data set.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeftOut {
    /// What they are and why they don't count, in the plural: "files that are not images (.txt)".
    pub what: String,
    /// The number of them.
    pub count: usize,
    /// The names of the first few.
    pub first: Vec<String>,
}

impl LeftOut {
    /// The maximum number of names kept.
    pub const NAMED: usize = 20;

    /// Describes all kinds in a line: "files that are not images (.txt): 3, hidden files and
    /// folders: 1".
    pub fn line(all: &[LeftOut]) -> String {
        all.iter()
            .map(|kind| format!("{}: {}", kind.what, kind.count))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Adds `name` to the entry of the same kind in `all`.
    pub fn add(all: &mut Vec<LeftOut>, what: &str, name: impl FnOnce() -> String) {
        let at = all.iter().position(|kind| kind.what == what).unwrap_or_else(|| {
            all.push(LeftOut { what: what.to_owned(), count: 0, first: Vec::new() });
            all.len() - 1
        });
        all[at].count += 1;
        if all[at].first.len() < Self::NAMED {
            all[at].first.push(name());
        }
    }
}

/// One image as it is stored.
pub enum Content {
    /// In a file of its own, still to be read and decoded.
    File(PathBuf),
    /// The encoded bytes of such a file.
    Encoded(Vec<u8>),
    /// Square, `[3, side, side]`: the planes R, G, B, row-major.
    Planes {
        /// Pixels a side.
        side: usize,
        /// The three planes.
        pixels: Vec<u8>,
    },
    /// An image that can't be read, with the reason as a sentence fragment.
    Unreadable(String),
}

/// A visitor, called with the number and content of each image.
pub type Visit<'a> = dyn FnMut(usize, Content) -> Result<()> + 'a;

/// Passes every image to the visitor once, in the order that is cheapest to read. Few of them are
/// in memory at a time. An error of the visitor ends it.
pub type Contents = Box<dyn Fn(&mut Visit) -> Result<()> + Send + Sync>;

/// Returns contents that are separate files, in the order of their numbers.
pub fn files(paths: Vec<PathBuf>) -> Contents {
    Box::new(move |visit| {
        paths.iter().enumerate().try_for_each(|(i, path)| visit(i, Content::File(path.clone())))
    })
}
