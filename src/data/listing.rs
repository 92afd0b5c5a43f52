//! What a place holds before its pixels are read: images by number, with names, labels and classes.
//! Every format becomes this.

use crate::error::Result;
use std::path::PathBuf;

/// The images of one place.
pub struct Listing {
    /// What it is, for people: "CIFAR-10", "images of photos".
    pub name: String,
    /// How the place was read, as the rest of a sentence: "classes are the sub-folders".
    pub reading: String,
    /// Names of the classes in the order of their labels; empty if there are none, and all labels
    /// 0.
    pub classes: Vec<String>,
    /// The images, numbered from 0.
    pub entries: Vec<Entry>,
    /// What lies there and is no part of the data set.
    pub left_out: Vec<LeftOut>,
    /// How to come by the images.
    pub contents: Contents,
    /// Whether the entries may be put into an order in which the classes take turns, so that the
    /// first N are of all classes; not where positions are known to others, as in CIFAR-10.
    pub by_turns: bool,
}

/// One image.
pub struct Entry {
    /// Within the place, unique, with forward slashes: "cats/0012.jpg".
    pub name: String,
    /// An index into the classes.
    pub label: u16,
    /// The set it belongs to; `None` where the place doesn't say, and a share of each class is for
    /// the test.
    pub set: Option<Set>,
}

/// The two sets.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    /// What networks and probes learn from.
    Train,
    /// What judges them.
    Test,
}

impl Listing {
    /// Whether the place makes no difference between training and test, or names images for
    /// training alone; a share of each class is for the test then.
    pub(super) fn is_divided(&self) -> bool {
        self.entries.iter().any(|entry| entry.set.is_none())
            || !self.entries.iter().any(|entry| entry.set == Some(Set::Test))
    }
}

impl Set {
    /// The set that a folder, a shard or a column names (`train`, `training`; `test`, `testing`,
    /// `val`, `valid`, `validation`, in any case), and whether it is for validation.
    pub fn named(name: &str) -> Option<(Self, bool)> {
        match name.to_lowercase().as_str() {
            "train" | "training" => Some((Self::Train, false)),
            "test" | "testing" => Some((Self::Test, false)),
            "val" | "valid" | "validation" => Some((Self::Test, true)),
            _ => None,
        }
    }
}

/// Things of one kind that are no part of the data set.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeftOut {
    /// What they are and why they don't count, in the plural: "files that are no images (.txt)".
    pub what: String,
    /// How many.
    pub count: usize,
    /// The first few by name.
    pub first: Vec<String>,
}

impl LeftOut {
    /// Names that are kept.
    pub const NAMED: usize = 20;

    /// All kinds in a line: "files that are no images (.txt): 3, hidden files and folders: 1".
    pub fn line(all: &[LeftOut]) -> String {
        all.iter()
            .map(|kind| format!("{}: {}", kind.what, kind.count))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Adds `name` to those of the same kind among `all`.
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
    /// In a file of its own, which is read and decoded.
    File(PathBuf),
    /// The bytes of such a file, which are decoded.
    Encoded(Vec<u8>),
    /// Square, `[3, side, side]`: the planes R, G, B, row-major.
    Planes {
        /// Pixels a side.
        side: usize,
        /// The three planes.
        pixels: Vec<u8>,
    },
    /// It can't be had; why, as the rest of a sentence.
    Unreadable(String),
}

/// What takes images: number and content of each.
pub type Visit<'a> = dyn FnMut(usize, Content) -> Result<()> + 'a;

/// Hands every image to the visitor once, in the order that is cheapest to read; few of them are in
/// memory at a time. An error of the visitor ends it.
pub type Contents = Box<dyn Fn(&mut Visit) -> Result<()> + Send + Sync>;

/// Contents that are files of their own, by number.
pub fn files(paths: Vec<PathBuf>) -> Contents {
    Box::new(move |visit| {
        paths.iter().enumerate().try_for_each(|(i, path)| visit(i, Content::File(path.clone())))
    })
}
