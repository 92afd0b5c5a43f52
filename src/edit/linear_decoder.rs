//! The linear decoder: a linear Gaussian model of p(x_0 | z), from whose images sampling starts.
//!
//! ```text
//! x_0 = A z + b + sum over k of component_k n_k + rest          n_k ~ N(0, 1)
//! x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps       t = sample.start T
//! ```
//!
//! Under the inverted cosine schedule a network hardly ever sees pure noise: one level below it
//! alpha_bar is .02, and an image's low frequencies still stand out from the noise. In x_T they
//! don't, and the network takes that for a grey image, contrary to what z says. So sampling starts
//! at a lower noise level, from an image that has the right low frequencies. For a reconstruction
//! this is the mean of the images that z may stand for; for a sample, one of them.

mod fit;

use crate::data::crop::{Geometry, resized_crop};
use crate::data::{bytes_of, views};
use crate::error::{Error, Result};
use crate::eval::spectrum::Cosines;
use crate::files::{self, kept};
use crate::model::weights::{self, MORE, Tensors, WeightsFile};
use crate::rng::{self, Purpose};
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;

pub use fit::{MOST_IMAGES, fit, fit_to};

/// The largest side in pixels of the images it predicts. Larger images start from enlarged ones,
/// because only low frequencies matter.
pub const LARGEST_SIDE: usize = 32;
/// The revision of the fit. Raise it whenever the fit changes, so that cached decoders are fitted
/// again.
const REVISION: u32 = 1;
/// The name of the file next to a checkpoint's weights that holds their linear decoder.
pub const BESIDE: &str = "linear.safetensors";

/// A, b, the covariance of the residual, and the detail that training views lack.
///
/// All values are representable in f16, so a decoder that is written and read back is unchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearDecoder {
    /// Side in pixels of its images.
    side: usize,
    /// A and, last, b: `[Z + 1, 3, side, side]`; images are in [-1, 1].
    map: Vec<f32>,
    /// Principal components of the residual, each scaled by its standard deviation:
    /// `[K, 3, side, side]`.
    components: Vec<f32>,
    /// Gains for the cosine coefficients of generated images, per band of [`Cosines::power`]: the
    /// amplitude of plain images over that of target views, which are softer if they are enlarged
    /// crops. All 1 if they aren't.
    detail: Vec<f32>,
}

impl LinearDecoder {
    /// Returns the length of z.
    pub fn z_dim(&self) -> usize {
        self.map.len() / bytes_of(self.side) - 1
    }

    /// Returns the side in pixels of its images.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Returns A z + b for each z `[N, Z]`: `[N, 3, side, side]`, not clipped.
    ///
    /// # Panics
    /// If `z` doesn't consist of rows of length Z.
    pub fn mean(&self, z: &[f32]) -> Vec<f32> {
        let (z_dim, image) = (self.z_dim(), bytes_of(self.side));
        assert_eq!(
            z.len() % z_dim,
            0,
            "linear decoder: {} values are not rows of {z_dim}",
            z.len()
        );
        let bias = &self.map[z_dim * image..];
        let of_one = |z: &[f32]| add_scaled(bias.to_vec(), &self.map, z);
        z.par_chunks_exact(z_dim).flat_map_iter(of_one).collect()
    }

    /// Samples residuals of the mean for the images of these indices; each depends only on its
    /// index and `seed`: `[N, 3, side, side]`.
    pub fn residuals(&self, numbers: Range<usize>, seed: u64) -> Vec<f32> {
        let image = bytes_of(self.side);
        let count = self.components.len() / image;
        let of_one = |i| {
            let weights = rng::normal(
                &mut rng::stream(rng::pair(seed, i as u64), Purpose::Sampling, u64::MAX),
                count,
            );
            add_scaled(vec![0.0; image], &self.components, &weights)
        };
        numbers.into_par_iter().flat_map_iter(of_one).collect()
    }

    /// Resizes its images `pictures` `[N, 3, own side, own side]` in [-1, 1] to `side` pixels. With
    /// `view` `[N, 4]` (see [`Geometry::within`]), only the part of each that it names.
    pub fn at(&self, pictures: &[f32], side: usize, view: Option<&[f32]>) -> Vec<f32> {
        if side == self.side && view.is_none() {
            return pictures.iter().map(|v| v.clamp(-1.0, 1.0)).collect();
        }
        let mut out = vec![0.0; pictures.len() / bytes_of(self.side) * bytes_of(side)];
        let each = out
            .par_chunks_exact_mut(bytes_of(side))
            .zip(pictures.par_chunks_exact(bytes_of(self.side)));
        each.enumerate().for_each(|(i, (out, picture))| {
            let view = view.map_or([1.0, 0.0, 1.0, 0.0], |view| view.as_chunks().0[i]);
            let Geometry { window, flip } = Geometry::of_plain(view, self.side);
            let bytes: Vec<u8> = picture.iter().map(|&v| views::to_byte(v)).collect();
            views::to_signed(&resized_crop(&bytes, window, flip, side), out);
        });
        out
    }

    /// Adds the detail that training views lack to generated `images` `[N, 3, side, side]`; the
    /// result is clipped to [-1, 1].
    pub fn detailed(&self, images: Vec<f32>, side: usize) -> Vec<f32> {
        if self.detail.iter().all(|&gain| gain == 1.0) {
            return images;
        }
        let (cosines, area, last) = (Cosines::new(side), side * side, self.detail.len() - 1);
        let gains: Vec<f32> = (0..area).map(|at| self.detail[cosines.band(at).min(last)]).collect();
        let mut coefficients = cosines.forward(&images);
        coefficients
            .chunks_exact_mut(area)
            .for_each(|plane| plane.iter_mut().zip(&gains).for_each(|(v, gain)| *v *= gain));
        cosines.back(&coefficients).into_iter().map(|v| v.clamp(-1.0, 1.0)).collect()
    }

    /// Returns it as tensors of a weights file.
    pub fn to_tensors(&self) -> Tensors {
        let (side, image) = (self.side, bytes_of(self.side));
        let named = |name: &str, shape: Vec<usize>, values: &[f32]| {
            (format!("{MORE}{name}"), shape, values.to_vec())
        };
        let pictures = |values: &[f32]| vec![values.len() / image, 3, side, side];
        let mut tensors = vec![
            named("map", pictures(&self.map), &self.map),
            named("detail", vec![self.detail.len()], &self.detail),
        ];
        if !self.components.is_empty() {
            tensors.push(named("components", pictures(&self.components), &self.components));
        }
        tensors
    }

    /// Reads a linear decoder from `tensors`, for networks whose z has `z_dim` dimensions; `None`
    /// if they don't hold one.
    ///
    /// # Errors
    /// If its tensors are invalid; `origin` is the name of the file in the message.
    pub fn of_tensors(tensors: &Tensors, z_dim: usize, origin: &Path) -> Result<Option<Self>> {
        let find =
            |name: &str| tensors.iter().find(|(own, ..)| own.strip_prefix(MORE) == Some(name));
        let Some((_, shape, map)) = find("map") else { return Ok(None) };
        let wrong = |what: &str| {
            Error::failed(format!(
                "{}: {MORE}{what}; this program didn't write these tensors",
                origin.display()
            ))
        };
        let side = match shape[..] {
            [rows, 3, side, same]
                if rows == z_dim + 1 && side == same && (1..=LARGEST_SIDE).contains(&side) =>
            {
                side
            }
            _ => {
                return Err(wrong(&format!(
                    "map has shape {shape:?}, which doesn't fit a z of {z_dim} dimensions"
                )));
            }
        };
        let components = match find("components") {
            Some((_, shape, values)) if matches!(shape[..], [_, 3, a, b] if [a, b] == [side, side]) => {
                values.clone()
            }
            Some((_, shape, _)) => {
                return Err(wrong(&format!(
                    "components has shape {shape:?}, but map has images of {side} x {side} pixels"
                )));
            }
            None => Vec::new(),
        };
        let detail = match find("detail") {
            Some((_, shape, values)) if shape.len() == 1 && !values.is_empty() => values.clone(),
            _ => return Err(wrong("detail is missing or is not a vector")),
        };
        let found = Self { side, map: map.clone(), components, detail };
        if [&found.map, &found.components, &found.detail]
            .iter()
            .any(|values| values.iter().any(|v| !v.is_finite()))
        {
            return Err(wrong("map, components or detail holds a value that isn't finite"));
        }
        Ok(Some(found))
    }

    /// Returns the linear decoder of `weights` if one was fitted before: from their file, or from
    /// [`BESIDE`] next to it.
    ///
    /// # Errors
    /// If a stored decoder is damaged.
    pub fn stored(weights: &WeightsFile) -> Result<Option<Self>> {
        let z_dim = weights.config.model.z_dim;
        if let Some(found) = Self::of_tensors(&weights.more, z_dim, &weights.path)? {
            return Ok(Some(found));
        }
        let beside = weights.path.with_file_name(BESIDE);
        if !beside.is_file() {
            return Ok(None);
        }
        // The file may belong to other weights.
        let (tensors, metadata) = weights::read(&beside)?;
        if metadata.get("weights_sha256") != Some(&weights.sha256) {
            return Ok(None);
        }
        Self::of_tensors(&tensors, z_dim, &beside)
    }

    /// Writes it to `path` as the linear decoder of the weights with this SHA-256.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, path: &Path, weights_sha256: &str) -> Result<()> {
        let metadata = [("weights_sha256".to_owned(), weights_sha256.to_owned())].into();
        weights::write(path, &self.to_tensors(), metadata)
    }

    /// Returns the linear decoder of the weights with this SHA-256 on these training images, at this
    /// side (the data may have the same SHA-256 at every side): from the cache `folder`, or fitted by
    /// `fit` and then stored there (`None`: no cache). A damaged file is replaced.
    ///
    /// # Errors
    /// If the fit fails. A folder that can't be written is only logged.
    pub fn cached(
        folder: Option<&Path>,
        (weights_sha256, data_sha256, side): (&str, &str, usize),
        z_dim: usize,
        fit: impl FnOnce() -> Result<Self>,
    ) -> Result<Self> {
        let key = format!("{REVISION} {weights_sha256} {data_sha256} {side} {MOST_IMAGES}");
        let path = folder.map(|folder| {
            folder.join(format!("{}.safetensors", &files::sha256(key.as_bytes())[..24]))
        });
        let read = |path: &Path| {
            let (tensors, _) = weights::read(path).ok()?;
            Self::of_tensors(&tensors, z_dim, path).ok()?
        };
        kept("the linear decoder", path.as_deref(), read, fit, |found, path| {
            found.write(path, weights_sha256)
        })
    }
}

/// Returns `sum` `[len]` plus the rows `rows` `[N, len]` times `weights` `[N]`; rows without a
/// weight are ignored.
fn add_scaled(mut sum: Vec<f32>, rows: &[f32], weights: &[f32]) -> Vec<f32> {
    for (row, weight) in rows.chunks_exact(sum.len()).zip(weights) {
        sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += weight * v);
    }
    sum
}

#[cfg(test)]
mod tests;
