//! Feature vectors read row by row from wherever they are stored, so that scoring holds no copy of
//! them.

use super::Features;
use crate::data::{Images, bytes_of};
use crate::error::{Error, Result};
use std::borrow::Cow;

/// N vectors of D values each, and their classes.
pub trait Rows: Sync {
    /// Returns D, the length of a vector.
    fn dim(&self) -> usize;

    /// Returns the labels \[N\], each below the number of classes.
    fn labels(&self) -> &[u16];

    /// Writes the entries `start..start + out.len()` of row `i` to `out`.
    fn read(&self, i: usize, start: usize, out: &mut [f32]);

    /// Returns N, the number of vectors.
    fn rows(&self) -> usize {
        self.labels().len()
    }

    /// Returns row, column and value of the first value that isn't finite.
    fn broken(&self) -> Option<(usize, usize, f32)> {
        let mut row = vec![0.0; self.dim()];
        (0..self.rows()).find_map(|i| {
            self.read(i, 0, &mut row);
            row.iter().position(|v| !v.is_finite()).map(|at| (i, at, row[at]))
        })
    }

    /// Refuses data that would make a score meaningless; `name` is what the message calls these
    /// features.
    ///
    /// # Errors
    /// If a value isn't finite or a label isn't below `classes`.
    ///
    /// # Panics
    /// If the vectors aren't of length `dim`.
    fn check(&self, name: &str, dim: usize, classes: usize) -> Result<()> {
        assert_eq!(
            self.dim(),
            dim,
            "{name} features: length of a vector, compared with that of the probe"
        );
        if let Some((row, at, value)) = self.broken() {
            return Err(Error::failed(format!(
                "the {name} features hold {value} (row {row}, entry {at}); the weights they come \
                from have diverged, or their file is damaged"
            )));
        }
        if let Some((at, label)) =
            self.labels().iter().enumerate().find(|(_, l)| usize::from(**l) >= classes)
        {
            return Err(Error::failed(format!(
                "the {name} features have class {label} at row {at}; there are {classes} classes"
            )));
        }
        Ok(())
    }
}

impl Rows for Features {
    fn dim(&self) -> usize {
        self.dim
    }

    fn labels(&self) -> &[u16] {
        &self.labels
    }

    fn read(&self, i: usize, start: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.row(i)[start..][..out.len()]);
    }

    fn broken(&self) -> Option<(usize, usize, f32)> {
        assert_eq!(
            self.values.len(),
            self.rows() * self.dim,
            "number of feature values, compared with [N = {}, D = {}]",
            self.rows(),
            self.dim
        );
        let at = self.values.iter().position(|v| !v.is_finite())?;
        Some((at / self.dim, at % self.dim, self.values[at]))
    }
}

/// A selection of the rows of another set, in any order.
pub struct Selected<'a> {
    of: &'a dyn Rows,
    rows: Vec<usize>,
    labels: Vec<u16>,
}

impl<'a> Selected<'a> {
    /// Selects the rows `rows` of `of`, in that order.
    pub fn new(of: &'a dyn Rows, rows: Vec<usize>) -> Self {
        let labels = rows.iter().map(|&i| of.labels()[i]).collect();
        Self { of, rows, labels }
    }
}

impl Rows for Selected<'_> {
    fn dim(&self) -> usize {
        self.of.dim()
    }

    fn labels(&self) -> &[u16] {
        &self.labels
    }

    fn read(&self, i: usize, start: usize, out: &mut [f32]) {
        self.of.read(self.rows[i], start, out);
    }
}

/// Raw pixels in `[0, 1]` as features, the baseline without learning; stored as bytes, as in the
/// images.
pub struct Pixels<'a> {
    side: usize,
    images: Vec<Cow<'a, [u8]>>,
    labels: Vec<u16>,
}

impl<'a> Pixels<'a> {
    /// Takes the pixels of the images `indices`, copied if the images aren't in memory; with
    /// `flips`, those of the mirrored images are appended.
    ///
    /// # Errors
    /// If the images are in a file that can't be read.
    pub fn new(images: &'a Images, indices: &[usize], flips: bool) -> Result<Self> {
        let labels: Vec<u16> = indices.iter().map(|&i| images.label(i)).collect();
        let labels = labels.repeat(1 + usize::from(flips));
        let pixels = indices.iter().map(|&i| images.image(i)).collect::<Result<_>>()?;
        Ok(Self { side: images.side(), images: pixels, labels })
    }
}

impl Rows for Pixels<'_> {
    fn dim(&self) -> usize {
        bytes_of(self.side)
    }

    fn labels(&self) -> &[u16] {
        &self.labels
    }

    fn read(&self, i: usize, start: usize, out: &mut [f32]) {
        let image = &self.images[i % self.images.len()];
        let value = |p: u8| f32::from(p) / 255.0;
        if i < self.images.len() {
            return out.iter_mut().zip(&image[start..]).for_each(|(out, &p)| *out = value(p));
        }
        let side = self.side;
        let (mut at, mut rest) = (start, out);
        // Row by row, each from its right end.
        while !rest.is_empty() {
            let line = &image[at / side * side..][..side - at % side];
            let (now, later) = rest.split_at_mut(line.len().min(rest.len()));
            now.iter_mut().zip(line.iter().rev()).for_each(|(out, &p)| *out = value(p));
            (at, rest) = (at + now.len(), later);
        }
    }

    fn broken(&self) -> Option<(usize, usize, f32)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_match_the_images_and_their_mirror_images_for_any_slice() {
        let side = 8;
        let bytes: Vec<u8> = (0..3 * bytes_of(side)).map(|i| (i * 7 % 251) as u8).collect();
        let images = Images::new(side, bytes, vec![4, 5, 6]);
        let pixels = Pixels::new(&images, &[2, 0], true).unwrap();
        assert_eq!(
            (pixels.rows(), pixels.dim(), pixels.labels()),
            (4, bytes_of(side), &[6, 4, 6, 4][..])
        );
        for (row, image, flipped) in [(0, 2, false), (1, 0, false), (2, 2, true), (3, 0, true)] {
            let pixel = |at: usize| {
                let (line, column) = (at / side, at % side);
                images.image(image).unwrap()
                    [line * side + if flipped { side - 1 - column } else { column }]
            };
            for (start, length) in
                [(0, bytes_of(side)), (0, 1), (3, 20), (21, 40), (bytes_of(side) - 5, 5)]
            {
                let mut out = vec![f32::NAN; length];
                pixels.read(row, start, &mut out);
                let want: Vec<f32> =
                    (start..start + length).map(|at| f32::from(pixel(at)) / 255.0).collect();
                assert_eq!(out, want, "row {row} from {start}");
            }
        }
    }

    #[test]
    fn selected_rows_are_the_requested_ones_and_errors_name_the_bad_value() {
        let features = Features {
            dim: 2,
            values: vec![0.0, 1.0, 2.0, f32::NAN, 4.0, 5.0],
            labels: vec![0, 1, 2],
        };
        let some = Selected::new(&features, vec![2, 0, 2]);
        let mut out = [0.0; 2];
        some.read(0, 0, &mut out);
        assert_eq!((out, some.labels(), some.broken()), ([4.0, 5.0], &[2, 0, 2][..], None));
        assert!(some.check("some", 2, 3).is_ok());
        assert_eq!(
            some.check("some", 2, 2).unwrap_err().to_string(),
            "the some features have class 2 at row 0; there are 2 classes"
        );
        // Both implementations of `broken` find the same value.
        let all = Selected::new(&features, vec![0, 1, 2]);
        for rows in [&features as &dyn Rows, &all] {
            let message = rows.check("all", 2, 3).unwrap_err().to_string();
            assert!(message.starts_with("the all features hold NaN (row 1, entry 1)"), "{message}");
        }
    }
}
