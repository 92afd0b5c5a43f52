//! What commands fit once to the training images of a data set and cache: features, the linear
//! decoder, the latent prior, whitening.

use soda::data::Dataset;
use soda::device::Selected;
use soda::edit::linear_decoder::{LinearDecoder, MOST_IMAGES, fit_to};
use soda::edit::prior::{IMAGES_EACH, Prior, chosen};
use soda::error::Result;
use soda::eval::features::{FeatureKind, Features, Frozen};
use soda::eval::whitening::Whitening;
use soda::kernels::precision::Precision;
use soda::model::Soda;
use soda::model::weights::WeightsFile;
use soda::progress::say;
use soda::units::grouped;
use std::sync::Arc;

/// Returns the frozen networks of `weights` over the images of `data`; extracted features are
/// cached for later commands.
pub fn frozen<'a>(
    weights: &'a WeightsFile,
    model: &'a Soda,
    data: &'a Dataset,
    device: &'a Selected,
) -> Frozen<'a> {
    let driver = device.adapter.as_ref().map_or("", |a| &a.driver);
    let precision = if model.precision() == Precision::F32 { "" } else { " f16" };
    let place = format!("{} {} {driver}{precision}", device.backend, device.name);
    Frozen::new(model, &weights.config, data, &device.device).kept(
        Frozen::folder(),
        &weights.sha256,
        &place,
    )
}

/// Returns the linear decoder stored with `weights`, or one fitted to the training images of `data`
/// and kept in the user's cache folder; `None` if there is neither.
///
/// # Errors
/// If the stored decoder is damaged, `data` can't be opened or the fit fails.
pub fn linear_decoder<'a>(
    weights: &WeightsFile,
    model: &Soda,
    data: impl FnOnce() -> Result<Option<&'a Dataset>>,
    device: &Selected,
) -> Result<Option<Arc<LinearDecoder>>> {
    let config = &weights.config;
    if let Some(stored) = LinearDecoder::stored(weights)? {
        return Ok(Some(Arc::new(stored)));
    }
    let Some(data) = data()? else { return Ok(None) };
    let folder = dirs::cache_dir().map(|dir| dir.join("soda/linear"));
    let key = (weights.sha256.as_str(), data.sha256.as_str(), config.data.side);
    let found = LinearDecoder::cached(folder.as_deref(), key, config.model.z_dim, || {
        let n = MOST_IMAGES.min(data.train.len());
        say(&format!(
            "fitting the linear decoder, whose output sampling starts from, to {} training \
             images (once)",
            grouped(n as u64)
        ));
        fit_to(model, &data.train, n, config, &device.device)
    })?;
    Ok(Some(Arc::new(found)))
}

/// Returns the latent prior: a mixture of `components` Gaussians (fewer if there are too few
/// images), fitted to the z of the training images once for these weights and this data, then kept
/// in the user's cache folder.
///
/// # Errors
/// If the images can't be encoded or the fit fails.
pub fn prior(
    weights: &WeightsFile,
    dataset: &Dataset,
    frozen: &Frozen,
    components: usize,
) -> Result<Prior> {
    let cache = dirs::cache_dir().map(|dir| dir.join("soda/priors"));
    let key = (weights.sha256.as_str(), dataset.sha256.as_str(), weights.config.data.side);
    let prior =
        Prior::cached(cache.as_deref(), key, weights.config.model.z_dim, components, || {
            let indices = chosen(dataset.train.len());
            let n = grouped(indices.len() as u64);
            say(&format!("fitting the distribution of z to {n} training images"));
            Ok(frozen.train(&FeatureKind::Z, false)?.select(&indices).values)
        })?;
    let (fitted, n) = (prior.quality.components, grouped(dataset.train.len() as u64));
    if fitted < components {
        let gaussians = if fitted == 1 { "one Gaussian" } else { &format!("{fitted} Gaussians") };
        say(&format!(
            "z is sampled from {gaussians} instead of {components}: the training set holds {n} \
             images, and each Gaussian needs {IMAGES_EACH}"
        ));
    }
    Ok(prior)
}

/// Returns the whitening of the features `kind`: for z the one stored with `weights`, if there is
/// one, otherwise one fitted to the features of the training images.
///
/// # Errors
/// If the stored whitening is damaged, or the features can't be extracted.
pub fn whitening(
    weights: &WeightsFile,
    kind: &FeatureKind,
    frozen: impl FnOnce() -> Result<Features>,
) -> Result<Whitening> {
    let z_dim = weights.config.model.z_dim;
    match (kind, Whitening::of_tensors(&weights.more, z_dim, &weights.path)?) {
        (FeatureKind::Z, Some(stored)) => Ok(stored),
        _ => Whitening::fit(&frozen()?),
    }
}

/// Checks that `weights` have features of this kind.
///
/// # Errors
/// An unknown block of the denoiser, a noise level out of range, or no denoiser.
pub fn check_features(kind: &FeatureKind, weights: &WeightsFile) -> Result<()> {
    if matches!(kind, FeatureKind::Denoiser { .. }) {
        weights.require_denoiser()?;
    }
    kind.check(&weights.config)
}
