//! The linear decoder: p(x_0 | z) as far as a linear map knows it, and what sampling begins with.
//!
//! ```text
//! x_0 = A z + b + sum over k of component_k n_k + rest          n_k ~ N(0, 1)
//! x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps       t = sample.start T
//! ```
//!
//! Under the inverted cosine schedule a network hardly ever sees pure noise: alpha_bar is .02 one
//! level below it, where an image's low frequencies still stand above the noise. From x_T, where
//! they don't, it reads grey against what z says. So sampling begins lower down, with a picture
//! that has the right low frequencies. For a reconstruction that is the mean of the images that z
//! may stand for; for a sample, one of them.

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

/// Side in pixels of the largest pictures it makes; larger images begin with enlarged ones, as low
/// frequencies are what counts.
pub const LARGEST_SIDE: usize = 32;
/// To be raised whenever the fit changes: cached ones are then computed anew.
const REVISION: u32 = 1;
/// The file beside a checkpoint's weights that holds theirs.
pub const BESIDE: &str = "linear.safetensors";

/// A, b, the covariance of what they leave, and the detail that the views of training lack. In
/// numbers that 16-bit floats hold: one that was read again is the same.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearDecoder {
    /// Side in pixels of its pictures.
    side: usize,
    /// A and, last, b: `[Z + 1, 3, side, side]`; pictures are in [-1, 1].
    map: Vec<f32>,
    /// Principal components of the residual, each as long as its deviation: `[K, 3, side, side]`.
    components: Vec<f32>,
    /// What drawn coefficients are multiplied by, by band of [`Cosines::power`]: the plain images'
    /// amplitude over that of the target views, which are softer where they are enlarged crops. 1
    /// throughout where they aren't.
    detail: Vec<f32>,
}

impl LinearDecoder {
    /// The length of z.
    pub fn z_dim(&self) -> usize {
        self.map.len() / bytes_of(self.side) - 1
    }

    /// Side in pixels of its pictures.
    pub fn side(&self) -> usize {
        self.side
    }

    /// A z + b for each z `[N, Z]`: `[N, 3, side, side]`, not clipped.
    ///
    /// # Panics
    /// If z is of another length.
    pub fn mean(&self, z: &[f32]) -> Vec<f32> {
        let (z_dim, image) = (self.z_dim(), bytes_of(self.side));
        assert_eq!(z.len() % z_dim, 0, "linear decoder: {} values are no rows of {z_dim}", z.len());
        let bias = &self.map[z_dim * image..];
        let of_one = |z: &[f32]| add_scaled(bias.to_vec(), &self.map, z);
        z.par_chunks_exact(z_dim).flat_map_iter(of_one).collect()
    }

    /// What the mean lacks, drawn for the images of these numbers, each from that and `seed` alone:
    /// `[N, 3, side, side]`.
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

    /// `pictures` `[N, 3, own side, own side]` in [-1, 1] at `side` pixels. With `view` `[N, 4]`,
    /// see [`Geometry::within`], the part of each that it names.
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
            let bytes: Vec<u8> = picture
                .iter()
                .map(|v| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8)
                .collect();
            views::to_signed(&resized_crop(&bytes, window, flip, side), out);
        });
        out
    }

    /// Drawn `images` `[N, 3, side, side]` with the detail that views lack, within [-1, 1].
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

    /// As tensors of a weights file.
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

    /// Out of `tensors`, for networks with z of `z_dim` numbers; none where there is none among
    /// them.
    ///
    /// # Errors
    /// If what is there can't be one: `origin` is what the message calls the file.
    pub fn of_tensors(tensors: &Tensors, z_dim: usize, origin: &Path) -> Result<Option<Self>> {
        let find =
            |name: &str| tensors.iter().find(|(own, ..)| own.strip_prefix(MORE) == Some(name));
        let Some((_, shape, map)) = find("map") else { return Ok(None) };
        let wrong = |what: &str| {
            Error::failed(format!(
                "{}: {MORE}{what}; these aren't tensors that this program wrote",
                origin.display()
            ))
        };
        let side = match shape[..] {
            [rows, 3, side, same]
                if rows == z_dim + 1 && side == same && (1..=LARGEST_SIDE).contains(&side) =>
            {
                side
            }
            _ => return Err(wrong(&format!("map has shape {shape:?} for z of {z_dim} numbers"))),
        };
        let components = match find("components") {
            Some((_, shape, values)) if shape[1..] == [3, side, side] => values.clone(),
            Some((_, shape, _)) => {
                return Err(wrong(&format!(
                    "components has shape {shape:?} beside pictures of {side} pixels"
                )));
            }
            None => Vec::new(),
        };
        let detail = match find("detail") {
            Some((_, shape, values)) if shape.len() == 1 && !values.is_empty() => values.clone(),
            _ => return Err(wrong("detail is missing, or no vector")),
        };
        let found = Self { side, map: map.clone(), components, detail };
        if [&found.map, &found.components, &found.detail]
            .iter()
            .any(|values| values.iter().any(|v| !v.is_finite()))
        {
            return Err(wrong("map, components or detail holds a number that isn't finite"));
        }
        Ok(Some(found))
    }

    /// That of `weights`, where it was fitted before: it is in their file, or in one beside it.
    ///
    /// # Errors
    /// If what is there is damaged.
    pub fn stored(weights: &WeightsFile) -> Result<Option<Self>> {
        let z_dim = weights.config.model.z_dim;
        if let Some(found) = Self::of_tensors(&weights.more, z_dim, &weights.path)? {
            return Ok(Some(found));
        }
        let beside = weights.path.with_file_name(BESIDE);
        if !beside.is_file() {
            return Ok(None);
        }
        // What lies there may belong to other weights.
        let (tensors, metadata) = weights::read(&beside)?;
        if metadata.get("weights_sha256") != Some(&weights.sha256) {
            return Ok(None);
        }
        Self::of_tensors(&tensors, z_dim, &beside)
    }

    /// Writes it to `path`, as that of the weights of this SHA-256.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, path: &Path, weights_sha256: &str) -> Result<()> {
        let metadata = [("weights_sha256".to_owned(), weights_sha256.to_owned())].into();
        weights::write(path, &self.to_tensors(), metadata)
    }

    /// That of the weights with this SHA-256 on these training images, from `folder` (none: nothing
    /// is kept), or as `fit` gives it, which is then kept there. A damaged file is replaced.
    ///
    /// # Errors
    /// If the fit fails; a folder that can't be written is only logged.
    pub fn cached(
        folder: Option<&Path>,
        (weights_sha256, data_sha256): (&str, &str),
        z_dim: usize,
        fit: impl FnOnce() -> Result<Self>,
    ) -> Result<Self> {
        let key = format!("{REVISION} {weights_sha256} {data_sha256} {MOST_IMAGES}");
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

/// `sum` `[len]` and the rows `rows` `[N, len]` times `weights` `[N]`; rows beyond the weights are
/// left out.
fn add_scaled(mut sum: Vec<f32>, rows: &[f32], weights: &[f32]) -> Vec<f32> {
    for (row, weight) in rows.chunks_exact(sum.len()).zip(weights) {
        sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += weight * v);
    }
    sum
}

#[cfg(test)]
mod tests;
