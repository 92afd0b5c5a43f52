//! The recipe of a run: one typed structure, read from TOML. A recipe file states its values; it
//! may omit only those that have a default here.

mod built_in;
mod check;
mod difference;
mod diffusion;
mod encoder;
mod probe;
mod sample;
mod side;

pub use built_in::BUILT_IN;
pub use difference::differences;
pub use diffusion::{Levels, LossWeight, Prediction};
pub use encoder::{EncoderConfig, Stem};
pub use probe::ProbeConfig;
pub use sample::{Guidance, SampleConfig, Sampler};
pub use side::{DEFAULT_SIDE, Sides};

use crate::error::{Error, Hint, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

/// A whole recipe, as in `configs/*.toml`. Unknown keys are rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The single seed of the run: initial weights, image order, views, t, eps, masks, dropout.
    pub seed: u64,
    /// Images and views.
    pub data: DataConfig,
    /// The networks.
    pub model: ModelConfig,
    /// The forward process.
    pub diffusion: DiffusionConfig,
    /// Optimisation, logging and checkpoints.
    pub train: TrainConfig,
    /// Sampling.
    pub sample: SampleConfig,
    /// The linear probe.
    pub probe: ProbeConfig,
}

/// How the source and target views of an image are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Views {
    /// Source and target are sampled independently (SODA).
    Two,
    /// Like `two`, but the denoiser also gets the position of the target within the source, just as
    /// SODA conditions on camera poses. RandAugment omits its geometric operations. Requires
    /// `model.unet.view_conditioning`.
    Conditioned,
    /// Source = target = the same plain image (the autoencoding of the CIFAR-10 reproduction
    /// report, configs/report.toml); the view settings are ignored.
    Same,
}

/// The images and their views.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Height and width of the images in pixels, a multiple of 8 from 16 to 256. Images of a folder
    /// are read at that size; CIFAR's, 32 pixels a side, are resampled to it.
    #[serde(default = "side::default_side")]
    pub side: usize,
    /// One view or two.
    pub views: Views,
    /// Per-channel mean (of pixels in `[0, 1]`) for normalising the encoder's input, together with
    /// `std`. Both belong to the weights and are stored with them.
    pub mean: [f32; 3],
    /// Per-channel standard deviation, see `mean`.
    pub std: [f32; 3],
    /// The encoder's view.
    pub source: ViewConfig,
    /// The denoiser's view.
    pub target: ViewConfig,
    /// Background threads that make the views; 0 = one per core.
    pub threads: usize,
}

/// The augmentations of one view, in the order in which they are applied; a probability of 0
/// disables one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// Height and width of the view in pixels, with the same limits as `data.side`; 0: the same as
    /// `data.side`. See [`DataConfig::sides`].
    #[serde(default)]
    pub side: usize,
    /// Probability of a random resized crop followed by a possible flip (FutureXiang: 0.95).
    pub crop: f32,
    /// Area of the crop as a fraction of the image, [smallest, largest] (torchvision: 0.08, 1).
    pub crop_scale: [f32; 2],
    /// Aspect ratio (width / height) of the crop, [smallest, largest] (torchvision: 3/4, 4/3),
    /// sampled log-uniformly.
    pub crop_ratio: [f32; 2],
    /// Probability of a horizontal flip, given that the crop is applied (0.5).
    pub flip: f32,
    /// Probability of colour jitter (SimCLR: 0.8): brightness, contrast, saturation and hue, in
    /// random order.
    #[serde(default)]
    pub color_jitter: f32,
    /// Strength s of the colour jitter (SimCLR: 0.5 for CIFAR): factors of brightness, contrast and
    /// saturation within 1 +- 0.8 s, hue shifts within +- 0.2 s turns of the colour circle.
    #[serde(default = "default_color_jitter_strength")]
    pub color_jitter_strength: f32,
    /// Probability of converting the view to greyscale (torchvision's RandomGrayscale; SimCLR:
    /// 0.2).
    #[serde(default)]
    pub grayscale: f32,
    /// Probability of RandAugment (FutureXiang: 0.65).
    pub rand_augment: f32,
    /// Number of RandAugment operations applied in sequence (2).
    pub rand_augment_ops: usize,
    /// Magnitude of the RandAugment operations on a scale of 0 to 30 (9).
    pub rand_augment_magnitude: usize,
    /// Standard deviation of Gaussian noise added after normalisation (FutureXiang: 0.1 on the
    /// source, 0 on the target).
    pub noise: f32,
}

/// SimCLR's strength for CIFAR-10.
fn default_color_jitter_strength() -> f32 {
    0.5
}

/// How the scales of AdaGN (arXiv 2311.17901) enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdaGnScale {
    /// z_s * (t_s * GN(h) + t_b) + z_b
    Plain,
    /// (1 + z_s) * ((1 + t_s) * GN(h) + t_b) + z_b
    OnePlus,
}

/// Both networks. Sizes in the paper: encoder base 64, UNet base 128, z 128.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Number of dimensions of z, Z.
    pub z_dim: usize,
    /// The encoder.
    pub encoder: EncoderConfig,
    /// The denoiser.
    pub unet: UNetConfig,
    /// Sides of the images that the networks work on, from [`DataConfig::sides`]: a recipe sets
    /// them there.
    #[serde(skip)]
    pub sides: Sides,
}

/// A DDPM UNet with AdaGN in every residual block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels of the stem.
    pub base: usize,
    /// Factor applied to t / T before the sinusoidal embedding: 1 in the public implementation for
    /// CIFAR-10, 1000 in DDPM.
    pub time_scale: f32,
    /// Channels of each resolution stage as a multiple of `base`, finest first.
    pub multipliers: Vec<usize>,
    /// Residual blocks per down stage (an up stage has one more).
    pub blocks: usize,
    /// Sides of the feature maps that get self-attention, in pixels (the middle always does): the
    /// side in stage s is `data.target.side` >> s.
    pub attention: Vec<usize>,
    /// Groups of every GroupNorm except the last.
    pub groups: usize,
    /// Groups of the last GroupNorm.
    pub final_groups: usize,
    /// Dropout probability before the second convolution of a block.
    pub dropout: f32,
    /// How the AdaGN scales enter: "plain" or "one_plus".
    pub ada_gn: AdaGnScale,
    /// Layer modulation (SODA): each resolution and the middle see a section of z of their own, see
    /// [`ModelConfig::sections`]. Off: every block sees all of z.
    #[serde(default)]
    pub layer_modulation: bool,
    /// Whether the denoiser also gets the positions of its pixels within the source view; requires
    /// `data.views = "conditioned"`.
    #[serde(default)]
    pub view_conditioning: bool,
}

/// The noise schedule alpha_bar(t).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Betas linear from 1e-4 to 0.02 over 1000 steps (DDPM).
    Linear,
    /// cos^2 with offset 0.008 (Nichol and Dhariwal).
    Cosine,
    /// (2 / pi) arccos(sqrt(t)) (SODA).
    InvertedCosine,
}

/// The forward process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffusionConfig {
    /// The noise schedule alpha_bar(t).
    pub schedule: ScheduleKind,
    /// Number of noise levels, T.
    pub steps: usize,
    /// What the denoiser predicts: "eps" or "v".
    #[serde(default)]
    pub prediction: Prediction,
    /// The noise levels that training samples from: "discrete" or "continuous".
    #[serde(default)]
    pub levels: Levels,
    /// Fraction of the samples of t whose alpha_bar is uniform between 0 and
    /// [`HIGH_NOISE`](crate::diffusion::schedule::HIGH_NOISE), where the inverted cosine has almost
    /// none. Needs continuous levels. With v, samplers then start from pure noise as one more
    /// level.
    #[serde(default)]
    pub high_noise: f64,
    /// Shift added to ln(alpha_bar / (1 - alpha_bar)) at every level. Larger images remain more
    /// visible under the same noise, as neighbouring pixels are redundant: 2 ln(32 / side) leaves
    /// as much of them as of images 32 pixels a side (Hoogeboom et al. 2023, "simple diffusion",
    /// section 2.1).
    #[serde(default)]
    pub log_snr_shift: f64,
}

impl DiffusionConfig {
    /// Returns the prediction of eps at `steps` discrete levels of `schedule`.
    pub fn new(schedule: ScheduleKind, steps: usize) -> Self {
        Self {
            schedule,
            steps,
            prediction: Prediction::Eps,
            levels: Levels::Discrete,
            high_noise: 0.0,
            log_snr_shift: 0.0,
        }
    }
}

/// The learning-rate schedule after the warmup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedule {
    /// Constant to the end.
    Constant,
    /// Half a cosine, down to zero at the last step.
    Cosine,
}

/// What training does when its run directory can't be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnSaveError {
    /// Reports the failure and continues; the exit code tells whether the last checkpoint couldn't
    /// be written either.
    #[default]
    Continue,
    /// Ends with that error.
    Stop,
}

/// The numeric precision of training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 everywhere.
    #[default]
    F32,
    /// Feature maps and the factors of products in f16; sums, statistics, losses and weights in f32
    /// (Micikevicius et al. 2018), with dynamic loss scaling. The CPU backend emulates it.
    Mixed,
}

/// How a batch is split into micro-batches, which go through the networks one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of images, or a list of the sizes of all parts")]
pub enum MicroBatch {
    /// Into micro-batches of this many images, the last one possibly smaller; 0: not at all.
    Size(usize),
    /// Into micro-batches of these sizes.
    Sizes(Vec<usize>),
}

impl Default for MicroBatch {
    fn default() -> Self {
        Self::Size(0)
    }
}

impl MicroBatch {
    /// Returns the sizes of the micro-batches of a batch of `images` images. A list applies only to
    /// a batch as large as its sum; any other batch stays whole.
    pub fn parts(&self, images: usize) -> Vec<usize> {
        match self {
            Self::Size(size) if *size == 0 || *size >= images => vec![images],
            Self::Size(size) => {
                (0..images).step_by(*size).map(|start| (*size).min(images - start)).collect()
            }
            Self::Sizes(sizes) if sizes.iter().sum::<usize>() == images => sizes.clone(),
            Self::Sizes(_) => vec![images],
        }
    }
}

/// Optimisation, logging and checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Images per step.
    pub batch_size: usize,
    /// Images that go through the networks at once: a batch is split into micro-batches of that
    /// size and their gradients are added up, for devices with little memory (BatchNorm then sees
    /// one micro-batch at a time); 0: the whole batch. A list gives the size of each micro-batch.
    #[serde(default)]
    pub micro_batch: MicroBatch,
    /// "f32" or "mixed".
    #[serde(default)]
    pub precision: Precision,
    /// Optimizer steps of the whole run.
    pub steps: usize,
    /// Learning rate of the denoiser after the warmup.
    pub lr: f64,
    /// Ratio of the encoder's learning rate to that of the denoiser.
    pub encoder_lr_ratio: f64,
    /// The learning-rate schedule after the warmup: "constant" or "cosine".
    pub lr_schedule: LrSchedule,
    /// Length of the cooldown at the end of the run, as a fraction of the run, in which a constant
    /// rate falls to 0 as 1 - sqrt(x), x being the elapsed fraction of the cooldown (a
    /// warmup-stable-decay or trapezoidal schedule; Haegele et al. 2024, arXiv 2405.18392, who
    /// found 10 to 20 % sufficient); 0: none.
    #[serde(default)]
    pub cooldown: f64,
    /// Steps of linear warmup from 0.
    pub warmup_steps: usize,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Whether weight decay also applies to one-dimensional parameters (gains and shifts of
    /// normalisation layers, and biases).
    #[serde(default = "default_decay_1d")]
    pub decay_1d: bool,
    /// AdamW's decay rates of the first and second moments.
    pub betas: [f64; 2],
    /// Largest global L2 norm of the gradients; 0 disables gradient clipping.
    pub clip_norm: f64,
    /// Largest decay of the EMA of the weights.
    pub ema_decay: f64,
    /// Exponent of the warmup of that decay: at update n it is at most 1 - (1 + n)^-power; 0
    /// disables the warmup.
    pub ema_power: f64,
    /// Probability that an image's whole z is zeroed (classifier-free guidance).
    pub z_drop: f64,
    /// Layer masking (SODA): probability that a section of an image's z is zeroed, sampled
    /// independently for each section; needs layer modulation.
    #[serde(default)]
    pub layer_mask: f64,
    /// How the loss is weighted by noise level: "uniform", "one_minus_alpha_bar", "pdae" or
    /// "min_snr".
    #[serde(default)]
    pub loss_weight: LossWeight,
    /// Samples of t, eps and mask per image: the encoder sees an image once, the denoiser that many
    /// times, and the loss is the mean.
    #[serde(default = "one")]
    pub denoisings: usize,
    /// Whether the t of a step are spread evenly, t_i = (u + i / B) mod 1 with a single u (VDM,
    /// Kingma et al. 2021), instead of sampled independently.
    #[serde(default)]
    pub stratified_t: bool,
    /// Weight of a penalty on correlated dimensions of z, added to the loss: their squared
    /// correlations within a batch (or a micro-batch), summed over pairs of different dimensions
    /// and divided by Z (the redundancy term of Barlow Twins, the covariance term of VICReg on
    /// standardised z); 0: none.
    #[serde(default)]
    pub decorrelation: f64,
    /// Steps between rows of metrics.jsonl.
    pub log_every: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    /// Number of checkpoints to keep, newest first; 0 keeps all.
    pub keep_checkpoints: usize,
    /// What to do when a write fails (on a full disk, for example): "continue" or "stop".
    #[serde(default)]
    pub on_save_error: OnSaveError,
    /// Steps between reconstruction grids; 0 draws none before the end.
    pub sample_every: usize,
    /// Steps between evaluations of z on held-out training images (k-NN and linear probe); 0: none.
    #[serde(default)]
    pub evaluate_every: usize,
    /// Largest number of training images that k-NN and the probe are fitted on; 0: all.
    #[serde(default)]
    pub evaluate_images: usize,
    /// Whether metrics, scores and pictures are also written to TensorBoard event files in the run
    /// directory.
    #[serde(default)]
    pub tensorboard: bool,
}

/// The default of recipes that don't set `denoisings`.
fn one() -> usize {
    1
}

/// As in all public implementations.
fn default_decay_1d() -> bool {
    true
}

impl TrainConfig {
    /// Returns the largest number of images that go through the networks at once.
    pub fn at_once(&self) -> usize {
        self.micro_batch.parts(self.batch_size).into_iter().max().unwrap_or(0)
    }
}

impl Config {
    /// Returns the recipe for one of several processes, which takes `images` images of each batch.
    pub fn for_images(&self, images: usize) -> Self {
        let mut own = self.clone();
        own.train.batch_size = images;
        own
    }

    /// Reads `path`, applies the `--set key=value` overrides in order and checks every value.
    ///
    /// # Errors
    /// For an unreadable file, an unknown key, a wrong type or an impossible value; the message
    /// names the file and the field.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        // Built-in recipes are available from any folder; a file of that name takes precedence.
        let built_in = BUILT_IN.iter().find(|(name, _)| path == Path::new(name) && !path.exists());
        let text = match built_in {
            Some((_, text)) => (*text).to_owned(),
            None => std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?,
        };
        Self::parse(&text, &path.display().to_string(), overrides)
    }

    /// Like [`Config::load`], but from text; error messages call it `origin`.
    pub fn parse(text: &str, origin: &str, overrides: &[String]) -> Result<Self> {
        let mut table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| toml_error(origin, &e))?;
        for item in overrides {
            set(&mut table, item)?;
        }
        // Printed and parsed again, so that messages quote the offending line, overrides included.
        let resolved =
            toml::to_string(&table).map_err(|e| Error::usage(format!("{origin}: {e}")))?;
        let mut config: Config = toml::from_str(&resolved).map_err(|e| toml_error(origin, &e))?;
        config.model.sides = config.data.sides();
        config.check().map_err(|e| Error::usage(format!("{origin}: {e}")))?;
        Ok(config)
    }

    /// Returns the resolved recipe as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a Config is always representable as TOML")
    }
}

impl ModelConfig {
    /// Returns the sections of z, in order, as index ranges. With layer modulation there is one for
    /// each of the m resolutions, finest first, and one for the middle; the m + 1 sections are as
    /// equal as possible, the first ones longer. Without it, all of z is one section.
    pub fn sections(&self) -> Vec<Range<usize>> {
        let count = if self.unet.layer_modulation { self.unet.multipliers.len() + 1 } else { 1 };
        let end = |i: usize| i * (self.z_dim / count) + i.min(self.z_dim % count);
        (0..count).map(|i| end(i)..end(i + 1)).collect()
    }
}

impl ModelConfig {
    /// Returns the index ranges of z by which two images can be mixed: its sections, or, where
    /// every stage of the denoiser has all of z, the range of each stage in the concatenation of
    /// the z of all stages ([`by_stage`](crate::edit::mix::by_stage)).
    pub fn mixable(&self) -> Vec<Range<usize>> {
        match self.unet.layer_modulation {
            true => self.sections(),
            false => (0..=self.unet.multipliers.len())
                .map(|stage| stage * self.z_dim..(stage + 1) * self.z_dim)
                .collect(),
        }
    }
}

impl UNetConfig {
    /// Returns the channels of the feature maps of each stage.
    pub fn widths(&self) -> Vec<usize> {
        self.multipliers.iter().map(|m| m * self.base).collect()
    }

    /// Returns name and channels of every residual level in the order of computation: `down0.0`
    /// (block 0 of stage 0, the finest), `down0.1`, .. , `middle`, then back from the coarsest
    /// stage: `up3.0`, .. , `up0.2`. `downS.B` and `upS.B` work at (side >> S) pixels a side,
    /// `side` being the target view's.
    pub fn levels(&self) -> Vec<(String, usize)> {
        let widths = self.widths();
        let stage = |way: &str, stage: usize, blocks: usize| -> Vec<(String, usize)> {
            (0..blocks).map(|block| (format!("{way}{stage}.{block}"), widths[stage])).collect()
        };
        let down = (0..widths.len()).flat_map(|s| stage("down", s, self.blocks));
        let up = (0..widths.len()).rev().flat_map(|s| stage("up", s, self.blocks + 1));
        let middle = ("middle".to_owned(), widths.last().copied().unwrap_or(self.base));
        down.chain([middle]).chain(up).collect()
    }

    /// Returns the channels of the skip connections in the order in which they are made.
    pub fn skip_widths(&self) -> Vec<usize> {
        let widths = self.widths();
        let mut skips = vec![self.base];
        for (stage, width) in widths.iter().enumerate() {
            skips.extend(std::iter::repeat_n(*width, self.blocks));
            if stage + 1 < widths.len() {
                skips.push(*width);
            }
        }
        skips
    }
}

/// Applies one `key.path=value`; the value is TOML, or else taken as a string.
fn set(table: &mut toml::Table, item: &str) -> Result<()> {
    let Some((key, value)) = item.split_once('=') else {
        return Err(Error::usage(format!(
            "{} {item}: expected key=value, for example train.batch_size=64",
            Hint::Override
        )));
    };
    let value = value.trim();
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut path: Vec<&str> = key.trim().split('.').collect();
    let last = path.pop().expect("split yields at least one part");
    let mut at = table;
    for part in path {
        at = match at.get_mut(part) {
            Some(toml::Value::Table(inner)) => inner,
            _ => {
                return Err(Error::usage(format!(
                    "{} {item}: there is no section {part:?} in the configuration",
                    Hint::Override
                )));
            }
        };
    }
    match (at.get(last), value) {
        // Accept 1 for 1.0.
        (Some(toml::Value::Float(_)), toml::Value::Integer(i)) => {
            at.insert(last.into(), toml::Value::Float(i as f64))
        }
        (_, value) => at.insert(last.into(), value),
    };
    Ok(())
}

/// Condenses toml's multi-line message to one line that gives the place and the reason.
fn toml_error(origin: &str, error: &toml::de::Error) -> Error {
    let message = error.message().trim().replace('\n', " ");
    let full = error.to_string();
    // The line of the file that toml quotes ("3 | unknown = 1"), if any.
    let quoted = full.lines().find_map(|l| {
        l.split_once(" | ").filter(|(n, _)| n.trim().parse::<usize>().is_ok()).map(|(_, t)| t)
    });
    match quoted {
        // A line can be as long as the file.
        Some(line) => {
            let line: String = line.trim().chars().take(100).collect();
            Error::usage(format!(
                "{origin}: {message}, at `{line}`; see configs/ for the known keys"
            ))
        }
        None => Error::usage(format!("{origin}: {message}; see configs/ for the known keys")),
    }
}
