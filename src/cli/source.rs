//! Where a command's weights come from.

use crate::data::Dataset;
use crate::device::Selected;
use crate::edit::linear_decoder::{LinearDecoder, MOST_IMAGES, fit_to};
use crate::edit::prior::{IMAGES_EACH, Prior, chosen};
use crate::error::{Error, Result};
use crate::eval::features::{FeatureKind, Features, Frozen};
use crate::eval::whitening::Whitening;
use crate::kernels::precision::Precision;
use crate::model::Soda;
use crate::model::shipped;
use crate::model::weights::WeightsFile;
use crate::progress::say;
use crate::run_dir::{RunDir, Start};
use crate::train::checkpoint;
use crate::train::run::Called;
use indicatif::HumanCount;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which trained networks to use.
#[derive(clap::Args, Clone, Debug)]
pub struct WeightsArgs {
    /// A run directory; its newest EMA weights are used.
    #[arg(long, value_name = "DIR", conflicts_with = "weights")]
    pub run: Option<PathBuf>,
    /// A weights file, `latest` for the newest checkpoint below runs/, or `shipped` (the default)
    /// for the trained weights that the program carries.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
}

impl WeightsArgs {
    /// Opens the weights.
    ///
    /// # Errors
    /// If there are none, or they can't be read.
    pub fn open(&self) -> Result<WeightsFile> {
        let path = match (&self.run, &self.weights) {
            (Some(run), _) => RunDir::new(run).weights()?,
            (None, Some(weights)) if weights == Path::new("latest") => latest()?,
            (None, Some(weights)) => weights.clone(),
            (None, None) => {
                let weights = shipped::open()?;
                say(&format!("using the {}; --run and --weights take others", describe(&weights)));
                return Ok(weights);
            }
        };
        named(&path)
    }
}

/// The networks of `weights` before the images of `data`: features that were taken once are kept
/// for the next command.
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

/// The linear decoder that is stored with `weights`, or one that is fitted to the training images
/// of `data` and kept in the user's cache folder; none without either.
///
/// # Errors
/// If what is stored is damaged, `data` can't be opened or the fit fails.
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
    let key = (weights.sha256.as_str(), data.sha256.as_str());
    let found = LinearDecoder::cached(folder.as_deref(), key, config.model.z_dim, || {
        let n = MOST_IMAGES.min(data.train.len());
        say(&format!(
            "fitting the linear decoder, which pictures begin with, to {n} training images (once)"
        ));
        fit_to(model, &data.train, n, config, &device.device)
    })?;
    Ok(Some(Arc::new(found)))
}

/// What z is drawn from: a mixture of `components` Gaussians (fewer where there are too few
/// images), fitted to the z of training images once for these weights and this data, then kept in
/// the user's cache folder.
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
    let key = (weights.sha256.as_str(), dataset.sha256.as_str());
    let prior =
        Prior::cached(cache.as_deref(), key, weights.config.model.z_dim, components, || {
            let indices = chosen(dataset.train.len());
            say(&format!("fitting the distribution of z to {} training images", indices.len()));
            Ok(frozen.train(&FeatureKind::Z, false)?.select(&indices).values)
        })?;
    let (fitted, n) = (prior.quality.components, dataset.train.len());
    if fitted < components {
        let gaussians = if fitted == 1 { "one Gaussian" } else { &format!("{fitted} Gaussians") };
        say(&format!(
            "z is drawn from {gaussians} instead of {components}: the training set holds {n} images, and each takes {IMAGES_EACH}"
        ));
    }
    Ok(prior)
}

/// What whitens the features `kind` of these networks: that stored with `weights` for their z, else
/// that of the training images.
///
/// # Errors
/// If what is stored is damaged, or the features can't be taken.
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

/// That `weights` have features of this kind.
///
/// # Errors
/// An unknown block of the denoiser, a noise level out of range, or no denoiser.
pub fn check_features(kind: &FeatureKind, weights: &WeightsFile) -> Result<()> {
    if matches!(kind, FeatureKind::Denoiser { .. }) {
        weights.require_denoiser()?;
    }
    kind.check(&weights.config)
}

/// The weights that a file is named for: `shipped` is those that the program carries.
///
/// # Errors
/// If they can't be read.
pub fn named(file: &Path) -> Result<WeightsFile> {
    if file == Path::new("shipped") {
        return shipped::open();
    }
    checkpoint::verify_weights(file)?;
    WeightsFile::open(file)
}

/// What a run notes of this call; `from` names the weights that it begins with.
pub fn called(from: Option<&Path>) -> Called {
    let from = from.map(|file| match file == Path::new("shipped") {
        true => "shipped".into(),
        false => std::path::absolute(file)
            .unwrap_or_else(|_| file.to_owned())
            .to_string_lossy()
            .into_owned(),
    });
    Called {
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        from,
    }
}

/// What the weights are called that a run of this first `start` began with; none where they were
/// random, or older versions only noted their checksum.
pub fn began_with(start: &Start) -> Option<String> {
    let is_shipped =
        || shipped::open().is_ok_and(|weights| start.from.as_ref() == Some(&weights.sha256));
    start.from.as_ref()?;
    start.from_name.clone().or_else(|| is_shipped().then(|| "shipped".into()))
}

/// The shipped weights in half a sentence: `shipped weights assets/weights/tiny.safetensors (6,000
/// steps, 384,000 images)`.
pub fn describe(weights: &WeightsFile) -> String {
    let seen = weights.trained().map_or(String::new(), |t| {
        format!(" ({} steps, {} images seen)", HumanCount(t.step), HumanCount(t.images))
    });
    format!("shipped weights {}{seen}", weights.path.display())
}

/// Where `soda quickstart` works by default.
pub const QUICKSTART: &str = "runs/quickstart";

/// The run below runs/ whose newest checkpoint is the youngest.
fn latest() -> Result<PathBuf> {
    let runs = std::fs::read_dir("runs")
        .map(|entries| entries.flatten().map(|e| RunDir::new(e.path())).collect::<Vec<_>>());
    let weights = runs.unwrap_or_default().into_iter().filter_map(|run| run.weights().ok());
    let newest =
        weights.filter_map(|w| Some((std::fs::metadata(&w).ok()?.modified().ok()?, w))).max();
    newest.map(|(_, path)| path).ok_or_else(|| {
        Error::usage(
            "--weights latest: there is no checkpoint below runs/; train one first (`soda train`)",
        )
    })
}
