//! What a data set holds, and what of its place is no part of it: nothing joins or leaves unseen.

use super::listing::LeftOut;
use serde::{Deserialize, Serialize};

/// What was found while a place was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// How the place was read, as the rest of a sentence: "classes are the sub-folders".
    pub reading: String,
    /// Images by the shorter side of their files, from the smallest; empty where all have the same
    /// by definition.
    pub sizes: Vec<Size>,
    /// What lies there and is no part of the data set.
    pub left_out: Vec<LeftOut>,
    /// Test images whose pixels are those of a training image, too.
    pub in_both: usize,
    /// The first of them by name, each with its training image.
    pub in_both_first: Vec<[String; 2]>,
    /// What is odd but was taken, in whole sentences.
    pub warnings: Vec<String>,
}

/// A bar of the histogram of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Least shorter side in pixels, a power of two.
    pub from: u32,
    /// Images of at least that and less than twice as many pixels.
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

    /// How many things were left out.
    pub fn left_out_count(&self) -> usize {
        self.left_out.iter().map(|kind| kind.count).sum()
    }

    /// How many images can't be read and were left out on request.
    pub fn unreadable(&self) -> usize {
        self.left_out.iter().filter(|kind| kind.what == UNREADABLE).map(|kind| kind.count).sum()
    }

    /// What a line has room for, each part begun by "; ": the reading, what was left out, what is
    /// in both sets.
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
            1 => line += "; 1 test image is a training image, too",
            n => line += &format!("; {n} test images are training images, too"),
        }
        line
    }
}

/// What images that can't be read are called among what was left out.
pub const UNREADABLE: &str = "images that can't be read";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fall_into_bars_that_double() {
        let mut inventory = Inventory::default();
        for (w, h) in [(31, 40), (32, 32), (640, 480), (63, 64), (1, 9)] {
            inventory.count_size(w, h);
        }
        let bars: Vec<_> = inventory.sizes.iter().map(|s| (s.from, s.count)).collect();
        assert_eq!(bars, [(1, 1), (16, 1), (32, 2), (256, 1)]);
    }

    #[test]
    fn the_line_says_what_is_missing_and_nothing_where_nothing_is() {
        let mut inventory = Inventory::default();
        assert_eq!(inventory.line(), "");
        LeftOut::add(&mut inventory.left_out, "files that are no images", || "a.txt".into());
        LeftOut::add(&mut inventory.left_out, UNREADABLE, || "b.png".into());
        (inventory.reading, inventory.in_both) = ("no classes".into(), 1);
        assert_eq!(
            inventory.line(),
            "; no classes; left out: files that are no images: 1, images that can't be read: 1; 1 test image is a training image, too"
        );
        assert_eq!((inventory.left_out_count(), inventory.unreadable()), (2, 1));
    }
}
