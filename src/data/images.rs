//! The images of a data set: square, three colour planes, one byte per value. They are in memory or
//! in a file that is read by position.

use super::names::Names;
use super::packed::Pack;
use super::picture::read_picture;
use super::picture::resample::{resample, resample_one};
use super::planes::bytes_of;
use crate::error::Result;
use rayon::prelude::*;
use std::borrow::Cow;
use std::path::Path;
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
    /// Creates images of `side` pixels a side from `pixels` `[N, 3, side, side]` (planes of R, of G
    /// and of B, each row by row) and `labels` `[N]`, named `image:0`, `image:1` and so on. For
    /// pixels that each hold R, G and B, see [`Images::from_rgb`].
    ///
    /// # Panics
    /// When the two disagree on N.
    pub fn new(side: usize, pixels: Vec<u8>, labels: Vec<u16>) -> Self {
        let image = bytes_of(side);
        assert_eq!(pixels.len(), labels.len() * image, "one label for each image of {image} bytes");
        Self { side, store: Store::Memory(pixels), labels, names: Names::Numbered("image") }
    }

    /// Creates images as [`Images::new`] does, from interleaved `pixels` `[N, side, side, 3]`, such
    /// as the bytes of an `image::RgbImage`.
    ///
    /// # Panics
    /// When `pixels` and `labels` disagree on N.
    pub fn from_rgb(side: usize, pixels: &[u8], labels: Vec<u16>) -> Self {
        let (image, plane) = (bytes_of(side), side * side);
        let mut planes = vec![0; pixels.len()];
        for (planes, pixels) in planes.chunks_exact_mut(image).zip(pixels.chunks_exact(image)) {
            for (at, pixel) in pixels.chunks_exact(3).enumerate() {
                (0..3).for_each(|channel| planes[channel * plane + at] = pixel[channel]);
            }
        }
        Self::new(side, planes, labels)
    }

    /// Reads the image files `paths` at `side` pixels a side, as data sets are read: oriented as
    /// their EXIF tag says, the central square resized. Their labels are 0, and their names the
    /// paths.
    ///
    /// # Errors
    /// For the first file that can't be read, isn't an image or is damaged.
    pub fn from_files(paths: &[impl AsRef<Path> + Sync], side: usize) -> Result<Self> {
        let pixels: Vec<Vec<u8>> = paths
            .par_iter()
            .map(|path| read_picture(path.as_ref(), side))
            .collect::<Result<_>>()?;
        let mut names = Names::own();
        paths.iter().for_each(|path| names.push(&path.as_ref().to_string_lossy()));
        Ok(Self::new(side, pixels.concat(), vec![0; paths.len()]).named(names))
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

    /// Returns the indices of `n` images (or of all if there are fewer) at equal distances. Data sets
    /// may begin with as many images of each class, and end with those of the largest.
    pub fn spread(&self, n: usize) -> Vec<usize> {
        let n = n.min(self.len());
        (0..n).map(|i| (i as u128 * self.len() as u128 / n as u128) as usize).collect()
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

    #[test]
    fn spread_takes_from_everywhere_and_all_in_order() {
        let images = Images::new(1, vec![0; 30], vec![0; 10]);
        assert_eq!(images.spread(4), [0, 2, 5, 7]);
        assert_eq!(images.spread(10), (0..10).collect::<Vec<_>>());
        assert_eq!(images.spread(99).len(), 10);
        assert!(images.spread(0).is_empty());
    }

    #[test]
    fn interleaved_pixels_and_files_give_the_same_planes() {
        let folder = tempfile::tempdir().unwrap();
        let picture = image::RgbImage::from_fn(9, 9, |x, y| {
            image::Rgb([10 * x as u8, 20 * y as u8, (x * y) as u8])
        });
        let path = folder.path().join("a.png");
        picture.save(&path).unwrap();
        let given = Images::from_rgb(9, &picture.clone().into_raw(), vec![3]);
        let read = Images::from_files(&[&path], 9).unwrap();
        assert_eq!(given.image(0).unwrap(), read.image(0).unwrap());
        assert_eq!(given.image(0).unwrap()[..3], [0, 10, 20], "the plane of red comes first");
        assert_eq!((given.label(0), read.label(0)), (3, 0));
        assert_eq!(read.name(0), path.to_string_lossy());
        let missing = [path, folder.path().join("b.png")];
        assert!(matches!(
            Images::from_files(&missing, 9),
            Err(crate::error::Error::Io { path, .. }) if path.ends_with("b.png")
        ));
    }
}
