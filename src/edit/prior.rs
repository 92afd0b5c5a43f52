//! The latent prior: a Gaussian mixture fitted to the z of the training images, kept in the user's
//! cache folder.

use super::mixture::{Mixture, fit};
use crate::error::{Error, Result};
use crate::files::{self, kept};
use crate::model::weights;
use crate::rng::{self, Purpose};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The largest number of training images that a prior is fitted to: it takes seconds instead of
/// minutes, and leaves 1,800 images for each of 10 Gaussians.
pub const MOST_IMAGES: usize = 20_000;
/// The default number of Gaussians.
pub const COMPONENTS: usize = 10;
/// The seed of the fit, fixed so that it doesn't depend on what is sampled from it later.
const FIT_SEED: u64 = 0;
/// The revision of the fit. Raise it whenever the fit changes, so that cached priors are fitted
/// again.
const REVISION: u32 = 2;
/// The smallest average number of images per Gaussian: one fitted to a single image reproduces that
/// image.
pub const IMAGES_EACH: usize = 10;

/// How a prior was fitted and how well. Likelihoods are in nats per dimension.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Number of Gaussians.
    pub components: usize,
    /// Number of images that they were fitted to.
    pub fitted_images: usize,
    /// Rounds of EM.
    pub rounds: usize,
    /// Number of held-out training images, a tenth, on which the fit is measured.
    pub held_out_images: usize,
    /// Mean log-likelihood of the held-out z. `None` if there are too few images to hold any out,
    /// or no more fitted images than z has dimensions: the density then has no width along most
    /// directions.
    pub held_out: Option<f64>,
    /// The same for a single Gaussian.
    pub held_out_gaussian: Option<f64>,
}

/// The fitted distribution of z.
#[derive(Clone, Debug, PartialEq)]
pub struct Prior {
    /// The mixture that z is sampled from.
    pub mixture: Mixture,
    /// How well it fits.
    pub quality: Quality,
}

/// Chooses the training images, out of `n`, whose z a prior is fitted to, in random order: all of
/// them, or [`MOST_IMAGES`].
pub fn chosen(n: usize) -> Vec<usize> {
    let mut order = rng::permutation(&mut rng::stream(FIT_SEED, Purpose::Latent, u64::MAX - 1), n);
    order.truncate(MOST_IMAGES);
    order.into_iter().map(|i| i as usize).collect()
}

impl Prior {
    /// Fits `components` Gaussians (fewer if they would have fewer than [`IMAGES_EACH`] images
    /// each) to the first nine tenths of `z` `[N, dim]` and measures them on the rest. `z` must
    /// therefore be in random order, as [`chosen`] gives it. The pooled covariance counts as `dim`
    /// images in each component.
    ///
    /// # Errors
    /// If there are no rows, or values are not finite.
    pub fn fit(z: &[f32], dim: usize, components: usize) -> Result<Self> {
        let n = z.len() / dim;
        let held_out_images = n / 10;
        let (z, rest) = z.split_at((n - held_out_images) * dim);
        let components = components.min(((n - held_out_images) / IMAGES_EACH).max(1));
        let found = fit(z, dim, components, dim as f64, FIT_SEED)?;
        let gaussian = fit(z, dim, 1, dim as f64, FIT_SEED)?.mixture;
        let measured = |mixture: &Mixture| {
            (held_out_images > 0 && n - held_out_images > dim).then(|| mixture.log_likelihood(rest))
        };
        let quality = Quality {
            components: found.mixture.components(),
            fitted_images: n - held_out_images,
            rounds: found.objective.len(),
            held_out_images,
            held_out: measured(&found.mixture),
            held_out_gaussian: measured(&gaussian),
        };
        Ok(Self { mixture: found.mixture, quality })
    }

    /// Returns the prior of these weights (`weights_sha256`) on these training images
    /// (`data_sha256`) at this `side`: from the cache `folder`, or fitted to the z that `encode`
    /// gives and then stored there (`None`: no cache). A damaged file is replaced.
    ///
    /// # Errors
    /// If the images can't be encoded or the fit fails. A folder that can't be written is only
    /// logged.
    pub fn cached(
        folder: Option<&Path>,
        (weights_sha256, data_sha256, side): (&str, &str, usize),
        dim: usize,
        components: usize,
        encode: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let key = format!(
            "{REVISION} {weights_sha256} {data_sha256} {side} {dim} {components} {MOST_IMAGES} \
             {FIT_SEED}"
        );
        let digest = &files::sha256(key.as_bytes())[..24];
        let path = folder.map(|folder| folder.join(format!("{digest}.safetensors")));
        let make = || Self::fit(&encode()?, dim, components);
        kept("the latent prior", path.as_deref(), |path| Self::read(path, dim), make, Self::write)
    }

    fn write(&self, path: &Path) -> Result<()> {
        let Mixture { dim, weights, means, factors } = &self.mixture;
        let k = weights.len();
        let tensor = |name: &str, shape: Vec<usize>, values: &Vec<f32>| {
            (name.to_owned(), shape, values.clone())
        };
        let tensors = vec![
            tensor("weights", vec![k], weights),
            tensor("means", vec![k, *dim], means),
            tensor("factors", vec![k, *dim, *dim], factors),
        ];
        let quality = serde_json::to_string(&self.quality)
            .map_err(|e| Error::failed(format!("cannot encode the prior: {e}")))?;
        weights::write(path, &tensors, [("quality".to_owned(), quality)].into())
    }

    /// Reads what [`Prior::write`] wrote; `None` if the file is anything else.
    fn read(path: &Path, dim: usize) -> Option<Self> {
        let (mut tensors, metadata) = weights::read(path).ok()?;
        let mut take = |name: &str| {
            let at = tensors.iter().position(|(n, ..)| n == name)?;
            Some(tensors.swap_remove(at).2)
        };
        let mixture = Mixture {
            dim,
            weights: take("weights")?,
            means: take("means")?,
            factors: take("factors")?,
        };
        let quality = serde_json::from_str(metadata.get("quality")?).ok()?;
        mixture.is_sound().then_some(Self { mixture, quality })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn z(n: usize) -> Vec<f32> {
        let mut z = rng::normal(&mut rng::stream(3, Purpose::Test, 0), n * 4);
        // Two clusters.
        z.chunks_exact_mut(4)
            .enumerate()
            .for_each(|(i, z)| z[0] += if i % 3 == 0 { 6.0 } else { -6.0 });
        z
    }

    fn not_again() -> Result<Vec<f32>> {
        Err(Error::failed("encoded again"))
    }

    #[test]
    fn a_mixture_fits_held_out_images_of_clusters_better_than_a_gaussian() {
        let q = Prior::fit(&z(1000), 4, 2).unwrap().quality;
        assert_eq!((q.components, q.fitted_images, q.held_out_images), (2, 900, 100));
        assert!(q.held_out.unwrap() > q.held_out_gaussian.unwrap() + 0.1, "{q:?}");
        let few = Prior::fit(&z(5), 4, 10).unwrap().quality;
        assert_eq!((few.components, few.held_out_images, few.held_out), (1, 0, None));
        assert_eq!(Prior::fit(&z(22), 4, 10).unwrap().quality.components, 2);
        // 20 images don't determine a density in 32 dimensions: the likelihood would measure how
        // narrow the density is, and nothing about z.
        let thin = Prior::fit(&z(22 * 8), 32, 10).unwrap().quality;
        assert_eq!((thin.held_out_images, thin.held_out, thin.held_out_gaussian), (2, None, None));
    }

    #[test]
    fn a_cached_prior_is_the_same_and_other_weights_data_or_settings_have_their_own() {
        let folder = tempfile::tempdir().unwrap();
        // A folder that doesn't exist yet.
        let at = folder.path().join("priors");
        let open = |key, components, encode: fn() -> Result<Vec<f32>>| {
            Prior::cached(Some(&at), key, 4, components, encode)
        };
        let made = open(("w", "d", 32), 2, || Ok(z(200))).unwrap();
        let again = open(("w", "d", 32), 2, not_again).unwrap();
        assert_eq!(again.mixture, made.mixture);
        assert!((again.quality.held_out.unwrap() - made.quality.held_out.unwrap()).abs() < 1e-12);
        for (key, components) in
            [(("v", "d", 32), 2), (("w", "e", 32), 2), (("w", "d", 48), 2), (("w", "d", 32), 3)]
        {
            assert!(open(key, components, not_again).is_err());
        }
        assert!(Prior::cached(None, ("w", "d", 32), 4, 2, not_again).is_err());
    }

    #[test]
    fn a_damaged_cache_is_replaced_and_one_that_cannot_be_written_only_costs_time() {
        let folder = tempfile::tempdir().unwrap();
        let open = |at: &Path, encode: fn() -> Result<Vec<f32>>| {
            Prior::cached(Some(at), ("w", "d", 32), 4, 2, encode)
        };
        let made = open(folder.path(), || Ok(z(200))).unwrap();
        let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let whole = std::fs::read(&file).unwrap();
        let mut altered = whole.clone();
        // The last value of a tensor becomes NaN.
        let end = altered.len();
        altered[end - 4..].fill(0xff);
        for damaged in
            [b"nonsense".to_vec(), whole[..whole.len() / 2].to_vec(), Vec::new(), altered]
        {
            std::fs::write(&file, damaged).unwrap();
            assert!(open(folder.path(), not_again).is_err());
            assert_eq!(open(folder.path(), || Ok(z(200))).unwrap().mixture, made.mixture);
            assert_eq!(open(folder.path(), not_again).unwrap().mixture, made.mixture);
        }
        let in_the_way = folder.path().join("file");
        std::fs::write(&in_the_way, "").unwrap();
        assert_eq!(open(&in_the_way, || Ok(z(200))).unwrap().mixture, made.mixture);
    }

    #[test]
    fn every_image_is_chosen_once() {
        let mut all = chosen(1000);
        assert_ne!(all, (0..1000).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_eq!(chosen(MOST_IMAGES + 7).len(), MOST_IMAGES);
    }
}
