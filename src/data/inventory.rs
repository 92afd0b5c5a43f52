//! What a data set holds, and what was found at its place but left out, so that nothing is included
//! or dropped silently.

use super::listing::LeftOut;
use serde::{Deserialize, Serialize};

/// What was found while a place was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// How the place was read, as a sentence fragment: "classes are the sub-folders".
    pub reading: String,
    /// A histogram of images by the shorter side of their files, smallest first. Empty where all
    /// images have the same size by definition.
    pub sizes: Vec<Size>,
    /// What was found there but is not part of the data set.
    pub left_out: Vec<LeftOut>,
    /// The number of test images whose pixels equal those of a training image.
    pub in_both: usize,
    /// The names of the first of them, each with that of the training image.
    pub in_both_first: Vec<[String; 2]>,
    /// Oddities of images that were taken anyway, in whole sentences.
    pub warnings: Vec<String>,
}

/// A bin of the histogram of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lower bound of the shorter side in pixels, a power of two.
    pub from: u32,
    /// The number of images with at least that and less than twice as many pixels on the shorter
    /// side.
    pub count: usize,
}

impl Inventory {
    /// Adds an image of `width` times `height` pixels to the histogram.
    pub(super) fn count_size(&mut self, width: u32, height: u32) {
        let from = 1 << width.min(height).max(1).ilog2();
        match self.sizes.binary_search_by_key(&from, |size| size.from) {
            Ok(at) => self.sizes[at].count += 1,
            Err(at) => self.sizes.insert(at, Size { from, count: 1 }),
        }
    }

    /// Returns how many things were left out.
    pub fn left_out_count(&self) -> usize {
        self.left_out.iter().map(|kind| kind.count).sum()
    }

    /// Returns how many unreadable images were left out on request.
    pub fn unreadable(&self) -> usize {
        self.left_out.iter().filter(|kind| kind.what == UNREADABLE).map(|kind| kind.count).sum()
    }

    /// Returns the parts for a one-line description, each preceded by "; ": the reading, what was
    /// left out, and how many images are in both sets.
    pub(super) fn line(&self) -> String {
        let mut line = String::new();
        if !self.reading.is_empty() {
            line += &format!("; {}", self.reading);
        }
        if !self.left_out.is_empty() {
            line += &format!("; left out: {}", LeftOut::line(&self.left_out));
        }
        match self.in_both {
            0 => {}
            1 => line += "; 1 test image is also a training image",
            n => line += &format!("; {n} test images are also training images"),
        }
        line
    }
}

/// The kind under which unreadable images are listed among what was left out.
pub const UNREADABLE: &str = "images that can't be read";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fall_into_bins_that_double() {
        let mut inventory = Inventory::default();
        for (w, h) in [(31, 40), (32, 32), (640, 480), (63, 64), (1, 9)] {
            inventory.count_size(w, h);
        }
        let bars: Vec<_> = inventory.sizes.iter().map(|s| (s.from, s.count)).collect();
        assert_eq!(bars, [(1, 1), (16, 1), (32, 2), (256, 1)]);
    }

    #[test]
    fn the_line_lists_what_was_left_out_and_is_empty_if_nothing_was() {
        let mut inventory = Inventory::default();
        assert_eq!(inventory.line(), "");
        LeftOut::add(&mut inventory.left_out, "files that are not images", || "a.txt".into());
        LeftOut::add(&mut inventory.left_out, UNREADABLE, || "b.png".into());
        (inventory.reading, inventory.in_both) = ("no classes".into(), 1);
        assert_eq!(
            inventory.line(),
            "; no classes; left out: files that are not images: 1, images that can't be read: 1; \
             1 test image is also a training image"
        );
        assert_eq!((inventory.left_out_count(), inventory.unreadable()), (2, 1));
    }
}
