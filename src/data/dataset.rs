//! A training and a test set with what is known of them.

use super::images::Images;
use super::inventory::Inventory;
use super::listing::{Content, Entry, Listing, Set};
use super::options::Options;
use crate::error::{Error, Result};
use crate::units::{counted, grouped};
use std::sync::Arc;

/// The name that selects the bundled subset where a folder of data is expected.
pub const BUNDLED: &str = "bundled";
/// The display name of that subset.
pub(super) const SUBSET: &str = "CIFAR-10 subset";

/// A verified training and test set.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// "CIFAR-10", "CIFAR-10 subset", "CIFAR-100", or "images of" followed by the folder's name.
    pub name: String,
    /// The folder it was read from, or [`BUNDLED`].
    pub origin: String,
    /// The training images. Probes that choose settings hold some of them out, see
    /// [`split`](super::split).
    pub train: Arc<Images>,
    /// The test images, with the same side.
    pub test: Arc<Images>,
    /// The side of the images in their files, if they were resampled to another one.
    pub resampled_from: Option<usize>,
    /// Names of the classes, in label order. Empty for images without classes, whose labels are all
    /// 0.
    pub classes: Vec<String>,
    /// A single SHA-256, in hex, over all parts. It doesn't depend on where the data lies.
    pub sha256: String,
    /// How the place was read, and what was found there but is not part of the data set.
    pub inventory: Inventory,
    /// The options that had an effect when it was opened, for opening it again. The layout of a
    /// place that is not a folder of images, and the share of a test set that the place defines,
    /// have none.
    pub options: Options,
}

impl Dataset {
    /// Returns a one-line description: name, sizes, classes, origin, whether the images were
    /// resampled, and what was left out.
    pub fn describe(&self) -> String {
        let (train, side) = (grouped(self.train.len() as u64), self.train.side());
        let test = counted(self.test.len(), "test image");
        // A folder in the working directory is in the name already.
        let origin = match self.name.strip_prefix("images of ") == Some(self.origin.as_str()) {
            true => String::new(),
            false => format!("; {}", self.origin),
        };
        let resampled = self.resampled_from.map_or(String::new(), |own| {
            format!("; resampled from {own} x {own} to {side} x {side} pixels")
        });
        // Well-known data sets don't need their classes listed.
        let classes =
            if self.inventory.reading.is_empty() { String::new() } else { self.describe_classes() };
        let rest = self.inventory.line();
        format!("{} ({train} training, {test}{classes}{origin}{resampled}{rest})", self.name)
    }

    /// Returns " of 2 classes: cat 90 + 10, dog 81 + 9", or the smallest and largest class sizes if
    /// there are more than 6 classes.
    fn describe_classes(&self) -> String {
        let counts = self.class_counts();
        match counts.len() {
            0 => String::new(),
            n @ 1..=6 => {
                let each = self
                    .classes
                    .iter()
                    .zip(&counts)
                    .map(|(class, [train, test])| format!("{class} {train} + {test}"));
                format!(
                    " of {n} class{}: {}",
                    if n == 1 { "" } else { "es" },
                    each.collect::<Vec<_>>().join(", ")
                )
            }
            n => {
                let all = || counts.iter().map(|[train, test]| train + test);
                let count = |n: usize| grouped(n as u64);
                let (least, most) = (all().min().unwrap_or(0), all().max().unwrap_or(0));
                let each = if least == most {
                    count(least)
                } else {
                    format!("{} to {}", count(least), count(most))
                };
                format!(" of {n} classes with {each} images each")
            }
        }
    }

    /// Counts the training and test images of each class.
    pub fn class_counts(&self) -> Vec<[usize; 2]> {
        let mut counts = vec![[0; 2]; self.classes.len()];
        for (set, images) in [&self.train, &self.test].into_iter().enumerate() {
            for &label in images.labels() {
                if let Some(count) = counts.get_mut(usize::from(label)) {
                    count[set] += 1;
                }
            }
        }
        counts
    }

    /// Returns where it can be opened again with [`reopen`](super::reopen): the absolute path of
    /// its folder, or [`BUNDLED`].
    pub fn location(&self) -> String {
        // A folder may also be called "bundled", but its absolute path is longer.
        if self.origin == BUNDLED && self.name == SUBSET {
            return BUNDLED.into();
        }
        std::path::absolute(&self.origin)
            .map_or_else(|_| self.origin.clone(), |path| path.display().to_string())
    }

    /// Returns its contents as a listing, for writing them in another format.
    pub(super) fn listing(&self) -> Listing {
        let sets = [(&self.train, Set::Train), (&self.test, Set::Test)];
        let entries = sets.iter().flat_map(|&(images, set)| {
            (0..images.len()).map(move |i| Entry {
                name: images.name(i).into_owned(),
                label: images.label(i),
                set: Some(set),
            })
        });
        let all = [self.train.clone(), self.test.clone()];
        Listing {
            name: self.name.clone(),
            reading: self.inventory.reading.clone(),
            classes: self.classes.clone(),
            entries: entries.collect(),
            left_out: self.inventory.left_out.clone(),
            contents: Box::new(move |visit| {
                let mut number = 0;
                for images in &all {
                    for i in 0..images.len() {
                        visit(
                            number,
                            Content::Planes {
                                side: images.side(),
                                pixels: images.image(i)?.into_owned(),
                            },
                        )?;
                        number += 1;
                    }
                }
                Ok(())
            }),
            by_turns: false,
        }
    }

    /// Returns the same data with images of `side` pixels a side, resampled if necessary.
    ///
    /// # Errors
    /// If they don't fit into memory.
    pub fn at(self, side: usize) -> Result<Self> {
        let own = self.train.side();
        if own == side {
            return Ok(self);
        }
        let [train, test] = [self.train.at(side)?, self.test.at(side)?];
        // Images that are read from a file by position keep the side that they have there.
        let resampled_from = Some(self.resampled_from.unwrap_or(own)).filter(|&from| from != side);
        Ok(Self { train: Arc::new(train), test: Arc::new(test), resampled_from, ..self })
    }

    /// Checks that there are at least two classes. `what` names the operation that needs them.
    ///
    /// # Errors
    /// Fewer than two classes.
    pub fn require_classes(&self, what: &str) -> Result<()> {
        if self.classes.len() >= 2 {
            return Ok(());
        }
        Err(Error::failed(format!(
            "{what} needs images of at least two classes, and {} has {}; sort its images into one \
             sub-folder per class",
            self.origin,
            self.classes.len()
        )))
    }
}
