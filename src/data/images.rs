//! The images of a data set: square, three colour planes, one byte per value. They are in memory or
//! in a file that is read by position.

use super::names::Names;
use super::packed::Pack;
use super::picture::resample::{resample, resample_one};
use super::planes::bytes_of;
use crate::error::Result;
use std::borrow::Cow;
use std::sync::Arc;

/// Images `[N, 3, side, side]` (R, G, B planes, row-major) with labels and names `[N]`.
#[derive(Clone, Debug)]
pub struct Images {
    side: usize,
    store: Store,
    labels: Vec<u16>,
    names: Names,
}

/// Where the pixels are stored.
#[derive(Clone, Debug)]
enum Store {
    Memory(Vec<u8>),
    /// Rows of a file.
    Pack(Arc<Pack>, Vec<u32>),
}

impl Images {
    /// Creates images of `side` pixels a side from `pixels` `[N, 3, side, side]` and `labels`
    /// `[N]`, named `image:0`, `image:1` and so on.
    ///
    /// # Panics
    /// When the two disagree on N.
    pub fn new(side: usize, pixels: Vec<u8>, labels: Vec<u16>) -> Self {
        let image = bytes_of(side);
        assert_eq!(pixels.len(), labels.len() * image, "one label for each image of {image} bytes");
        Self { side, store: Store::Memory(pixels), labels, names: Names::Numbered("image") }
    }

    /// Creates images from the rows `rows` of `pack`, with `labels` and `names`.
    pub(super) fn packed(pack: Arc<Pack>, rows: Vec<u32>, labels: Vec<u16>, names: Names) -> Self {
        assert_eq!(rows.len(), labels.len(), "one label for each row");
        Self { side: pack.side(), store: Store::Pack(pack, rows), labels, names }
    }

    /// Replaces the names.
    pub fn named(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// Returns the height and width of each image in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Returns the number of images, N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Checks whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Returns the bytes of memory that the pixels take. For images that are read from a file by
    /// position, these are only their row numbers.
    pub fn held_bytes(&self) -> usize {
        match &self.store {
            Store::Memory(pixels) => pixels.len(),
            Store::Pack(_, rows) => size_of_val(&rows[..]),
        }
    }

    /// Returns image `i`, `[3, side, side]`: planes R, G, B, row-major.
    ///
    /// # Errors
    /// If it lies in a file that can't be read.
    pub fn image(&self, i: usize) -> Result<Cow<'_, [u8]>> {
        match &self.store {
            Store::Memory(pixels) => {
                let bytes = bytes_of(self.side);
                Ok(pixels[i * bytes..][..bytes].into())
            }
            Store::Pack(pack, rows) => {
                let image = pack.row(rows[i])?;
                Ok(if pack.side() == self.side {
                    image
                } else {
                    resample_one(&image, pack.side(), self.side)
                }
                .into())
            }
        }
    }

    /// Returns the label of image `i`, an index into the data set's classes.
    pub fn label(&self, i: usize) -> u16 {
        self.labels[i]
    }

    /// Returns all labels, `[N]`.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Returns the name of image `i`: that of its file, relative to the place that it came from, or
    /// `train:17` if it has none.
    pub fn name(&self, i: usize) -> Cow<'_, str> {
        self.names.get(i)
    }

    /// Returns the name of image `i` if it has one of its own.
    pub fn own_name(&self, i: usize) -> Option<&str> {
        self.names.own_of(i)
    }

    /// Returns all names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Selects the images `indices`, in that order. They keep their names.
    pub fn select(&self, indices: &[usize]) -> Images {
        let store = match &self.store {
            Store::Memory(all) => {
                let bytes = bytes_of(self.side);
                let mut pixels = Vec::with_capacity(indices.len() * bytes);
                indices.iter().for_each(|&i| pixels.extend_from_slice(&all[i * bytes..][..bytes]));
                Store::Memory(pixels)
            }
            Store::Pack(pack, rows) => {
                Store::Pack(pack.clone(), indices.iter().map(|&i| rows[i]).collect())
            }
        };
        let labels = indices.iter().map(|&i| self.labels[i]).collect();
        Images { side: self.side, store, labels, names: self.names.select(indices.iter().copied()) }
    }

    /// Selects the first `n` images, or all if there are fewer.
    pub fn first(&self, n: usize) -> Images {
        self.select(&(0..n.min(self.len())).collect::<Vec<_>>())
    }

    /// Returns the same images at `side` pixels a side, resampled in the same way as image files.
    /// Images in memory are resampled now, images in a file when they are read.
    ///
    /// # Errors
    /// If they don't fit into memory.
    pub(super) fn at(&self, side: usize) -> Result<Images> {
        let store = match &self.store {
            Store::Memory(pixels) => Store::Memory(resample(pixels, self.side, side)?),
            packed => packed.clone(),
        };
        Ok(Images { side, store, labels: self.labels.clone(), names: self.names.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn select_keeps_the_requested_order() {
        for side in [16, 40] {
            let pixels = (0..3).flat_map(|i| vec![i; bytes_of(side)]).collect();
            let chosen = Images::new(side, pixels, vec![7, 8, 999]).select(&[2, 0]);
            let values = [0, 1].map(|i| chosen.image(i).unwrap()[5]);
            assert_eq!((chosen.labels(), values, chosen.side()), (&[999, 7][..], [2, 0], side));
            assert_eq!([chosen.name(0), chosen.name(1)], ["image:2", "image:0"]);
        }
    }
}
