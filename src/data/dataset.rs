//! A training and a test set with what is known of them.

use super::gather::{PixelDigest, digest};
use super::images::Images;
use super::inventory::Inventory;
use super::listing::{Content, Entry, Listing, Set};
use super::options::Options;
use crate::error::{Error, Result};
use crate::units::{counted, grouped};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The number of images that a thread digests at a time.
const AT_ONCE: usize = 64;

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
    /// Creates a data set called `name` from images in memory. `classes` names the classes in label
    /// order; it is empty for images without classes.
    ///
    /// # Errors
    /// If the sets differ in their side, or a label has no class (without classes: isn't 0).
    ///
    /// ```
    /// use soda::prelude::*;
    ///
    /// let [train, test] = [20, 4].map(|n| {
    ///     let pixels = (0..n * 3 * 32 * 32).map(|i| (i % 251) as u8).collect();
    ///     Images::new(32, pixels, (0..n as u16).map(|i| i % 2).collect())
    /// });
    /// let data = Dataset::new("stripes", train, test, vec!["even".into(), "odd".into()])?;
    /// assert_eq!(data.class_counts(), [[10, 2], [10, 2]]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(name: &str, train: Images, test: Images, classes: Vec<String>) -> Result<Self> {
        let [side, of_test] = [train.side(), test.side()];
        if side != of_test {
            return Err(Error::usage(format!(
                "{name}: the training images have {side} pixels a side and the test images \
                 {of_test}; resize one of the sets"
            )));
        }
        let most = classes.len().max(1);
        if let Some(label) = [&train, &test].iter().flat_map(|set| set.labels()).max()
            && usize::from(*label) >= most
        {
            let classes = match classes.len() {
                1 => "is 1 class".into(),
                n => format!("are {n} classes"),
            };
            return Err(Error::usage(format!(
                "{name}: an image has the label {label}, and there {classes}; number the \
                 classes from 0, without classes all labels are 0"
            )));
        }
        let inventory = Inventory { reading: "images in memory".into(), ..Inventory::default() };
        let mut data = Self {
            name: name.into(),
            origin: "memory".into(),
            train: Arc::new(train),
            test: Arc::new(test),
            resampled_from: None,
            classes,
            sha256: String::new(),
            inventory,
            options: Options::default(),
        };
        data.sha256 = data.digest()?;
        Ok(data)
    }

    /// Computes the SHA-256 of classes, labels and pixels, in hex, from the images.
    ///
    /// # Errors
    /// If they lie in a file that can't be read.
    pub(super) fn digest(&self) -> Result<String> {
        let digests = |images: &Images| -> Result<Vec<PixelDigest>> {
            let one = |i| images.image(i).map(|pixels| Sha256::digest(&pixels).into());
            (0..images.len()).into_par_iter().with_min_len(AT_ONCE).map(one).collect()
        };
        let sets = [&self.train, &self.test];
        let [train, test] = [digests(sets[0])?, digests(sets[1])?];
        Ok(digest(&self.classes, [(sets[0].labels(), &train), (sets[1].labels(), &test)]))
    }

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
