//! The recipe of a run: one typed structure, read from TOML; every number of a recipe stands in its file.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A whole recipe, as in `configs/*.toml`. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The one seed of the run: weights, order, views, t, eps, masks, dropout.
    pub seed: u64,
    /// Images and views.
    pub data: DataConfig,
    /// The networks.
    pub model: ModelConfig,
    /// The forward process.
    pub diffusion: DiffusionConfig,
    /// Optimisation and what is written when.
    pub train: TrainConfig,
    /// Sampling.
    pub sample: SampleConfig,
    /// The linear probe.
    pub probe: ProbeConfig,
}

/// Where the source and target views of an image come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Views {
    /// Source and target are drawn independently (SODA).
    Two,
    /// Source = target = the same plain image (the report's autoencoding); the view settings are ignored.
    Same,
}

/// The images and how views are made of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// One view or two.
    pub views: Views,
    /// Per-channel mean and standard deviation (of pixels in [0, 1]) that the encoder's input is normalised by.
    /// Belongs to the weights and is stored with them.
    pub mean: [f32; 3],
    /// See `mean`.
    pub std: [f32; 3],
    /// The encoder's view.
    pub source: ViewConfig,
    /// The denoiser's view.
    pub target: ViewConfig,
    /// Background threads that make views; 0 = one per core.
    pub threads: usize,
}

/// Augmentations of one view, in the order they are applied; a probability of 0 switches one off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// Probability of a random resized crop followed by a possible flip (FutureXiang: 0.95).
    pub crop: f32,
    /// Area of the crop as a share of the image, [smallest, largest] (torchvision: 0.08, 1).
    pub crop_scale: [f32; 2],
    /// Width over height of the crop, [smallest, largest] (torchvision: 3/4, 4/3), drawn log-uniformly.
    pub crop_ratio: [f32; 2],
    /// Probability of a horizontal flip, given that the crop is applied (0.5).
    pub flip: f32,
    /// Probability of RandAugment (FutureXiang: 0.65).
    pub rand_augment: f32,
    /// RandAugment: operations in a row (2) and their magnitude on a scale of 0 to 30 (9).
    pub rand_augment_ops: usize,
    /// See `rand_augment_ops`.
    pub rand_augment_magnitude: usize,
    /// Standard deviation of Gaussian noise added after normalisation (FutureXiang: 0.1 on the source, 0 on the target).
    pub noise: f32,
}

/// How the scales of AdaGN enter (soda.md, "convention").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdaGnScale {
    /// z_s * (t_s * GN(h) + t_b) + z_b
    Plain,
    /// (1 + z_s) * ((1 + t_s) * GN(h) + t_b) + z_b
    OnePlus,
}

/// Both networks. The paper's sizes: encoder base 64, UNet base 128, z 128.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Length of z, Z.
    pub z_dim: usize,
    /// The encoder.
    pub encoder: EncoderConfig,
    /// The denoiser.
    pub unet: UNetConfig,
}

/// ResNet-18 with a 3x3 stem and no max-pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// Channels of the first stage; the four stages have 1, 2, 4 and 8 times as many.
    pub base: usize,
}

/// DDPM UNet with AdaGN in every residual block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels of the stem.
    pub base: usize,
    /// What t / T is multiplied by before the sinusoids: 1 in the public implementation for CIFAR-10, 1000 in DDPM.
    pub time_scale: f32,
    /// Channels of each resolution stage as a multiple of `base`, finest first.
    pub multipliers: Vec<usize>,
    /// Residual blocks of a down stage (an up stage has one more).
    pub blocks: usize,
    /// Side lengths of the feature maps that get self-attention (the middle always does).
    pub attention: Vec<usize>,
    /// Groups of every GroupNorm but the last one.
    pub groups: usize,
    /// Groups of the last GroupNorm.
    pub final_groups: usize,
    /// Dropout probability before the second convolution of a block.
    pub dropout: f32,
    /// The convention of the scales.
    pub ada_gn: AdaGnScale,
}

/// Which alpha_bar(t).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// betas linear from 1e-4 to 0.02 over 1000 steps (DDPM).
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
    /// alpha_bar(t).
    pub schedule: ScheduleKind,
    /// Number of noise levels, T.
    pub steps: usize,
}

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedule {
    /// The same to the end.
    Constant,
    /// Half a cosine down to zero at the last step.
    Cosine,
}

/// Optimisation, and what is written when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Images a step.
    pub batch_size: usize,
    /// Optimizer steps of the whole run.
    pub steps: usize,
    /// Learning rate of the denoiser, after the warm-up.
    pub lr: f64,
    /// Learning rate of the encoder over that of the denoiser.
    pub encoder_lr_ratio: f64,
    /// What follows the warm-up.
    pub lr_schedule: LrSchedule,
    /// Steps of linear warm-up from 0.
    pub warmup_steps: usize,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// AdamW's decays of the first and second moments.
    pub betas: [f64; 2],
    /// Largest global L2 norm of the gradients; 0 switches clipping off.
    pub clip_norm: f64,
    /// Largest decay of the EMA of the weights.
    pub ema_decay: f64,
    /// Warm-up of that decay: at update n it is at most 1 - (1 + n)^-power; 0 switches the warm-up off.
    pub ema_power: f64,
    /// Probability that an image's whole z is zeroed (classifier-free guidance).
    pub z_drop: f64,
    /// Steps between two rows of metrics.jsonl.
    pub log_every: usize,
    /// Steps between two checkpoints.
    pub checkpoint_every: usize,
    /// Checkpoints kept, newest first; 0 keeps all.
    pub keep_checkpoints: usize,
    /// Steps between two reconstruction grids; 0 draws none before the end.
    pub sample_every: usize,
}

/// Sampling by DDIM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleConfig {
    /// DDIM steps.
    pub steps: usize,
    /// 0 is deterministic DDIM, 1 has DDPM's variance.
    pub eta: f64,
    /// Guidance weight w in (1 + w) eps_c - w eps_u.
    pub guidance: f64,
    /// Clip the predicted x_0 to [-1, 1] at each step.
    pub clip_x0: bool,
}

/// Training of the linear probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// Passes over the features.
    pub epochs: usize,
    /// Features a step.
    pub batch_size: usize,
    /// Adam's learning rate, falling to 0 along half a cosine.
    pub lr: f64,
}

impl Config {
    /// Reads `path`, applies `--set key=value` overrides in order and checks every value.
    ///
    /// # Errors
    /// A sentence naming the file and the field: unreadable file, unknown key, wrong type, impossible value.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
        Self::parse(&text, &path.display().to_string(), overrides)
    }

    /// As [`Config::load`], from text; `origin` is what error messages call it.
    pub fn parse(text: &str, origin: &str, overrides: &[String]) -> Result<Self> {
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| toml_error(origin, &e))?;
        for item in overrides {
            set(&mut table, item)?;
        }
        // Printed and read again, so that messages carry the offending line, overrides included.
        let resolved = toml::to_string(&table).map_err(|e| Error::usage(format!("{origin}: {e}")))?;
        let config: Config = toml::from_str(&resolved).map_err(|e| toml_error(origin, &e))?;
        config.check().map_err(|e| Error::usage(format!("{origin}: {e}")))?;
        Ok(config)
    }

    /// The resolved recipe as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a Config is always representable as TOML")
    }

    /// The first impossible value, by its key.
    fn check(&self) -> std::result::Result<(), String> {
        let need = |ok: bool, message: String| if ok { Ok(()) } else { Err(message) };
        let positive = |key: &str, value: usize| need(value > 0, format!("{key} = {value}: must be at least 1"));
        let probability = |key: &str, value: f64| {
            need((0.0..=1.0).contains(&value), format!("{key} = {value}: a probability lies between 0 and 1"))
        };
        let (m, u, t) = (&self.model, &self.model.unet, &self.train);
        for (key, value) in [
            ("model.z_dim", m.z_dim),
            ("model.encoder.base", m.encoder.base),
            ("model.unet.base", u.base),
            ("model.unet.blocks", u.blocks),
            ("model.unet.groups", u.groups),
            ("model.unet.final_groups", u.final_groups),
            ("diffusion.steps", self.diffusion.steps),
            ("train.batch_size", t.batch_size),
            ("train.steps", t.steps),
            ("train.log_every", t.log_every),
            ("train.checkpoint_every", t.checkpoint_every),
            ("sample.steps", self.sample.steps),
            ("probe.epochs", self.probe.epochs),
            ("probe.batch_size", self.probe.batch_size),
        ] {
            positive(key, value)?;
        }
        need(
            (1..=6).contains(&u.multipliers.len()) && u.multipliers.iter().all(|&m| m > 0),
            format!("model.unet.multipliers = {:?}: name 1 to 6 stages, each at least 1", u.multipliers),
        )?;
        for channels in u.group_norm_channels() {
            need(
                channels % u.groups == 0,
                format!("model.unet.groups = {} does not divide the {channels} channels of a block; choose a divisor", u.groups),
            )?;
        }
        let last = u.base * u.multipliers[0];
        need(
            last % u.final_groups == 0,
            format!("model.unet.final_groups = {} does not divide {last} channels; choose a divisor", u.final_groups),
        )?;
        for (name, view) in [("source", &self.data.source), ("target", &self.data.target)] {
            probability(&format!("data.{name}.crop"), view.crop.into())?;
            probability(&format!("data.{name}.flip"), view.flip.into())?;
            probability(&format!("data.{name}.rand_augment"), view.rand_augment.into())?;
            let [low, high] = view.crop_scale;
            need(
                0.0 < low && low <= high && high <= 1.0,
                format!("data.{name}.crop_scale = {:?}: need 0 < smallest <= largest <= 1", view.crop_scale),
            )?;
            let [low, high] = view.crop_ratio;
            need(
                0.0 < low && low <= high && high.is_finite(),
                format!("data.{name}.crop_ratio = {:?}: need 0 < smallest <= largest", view.crop_ratio),
            )?;
            need(
                view.rand_augment_magnitude <= 30,
                format!("data.{name}.rand_augment_magnitude = {}: the scale ends at 30", view.rand_augment_magnitude),
            )?;
            need(view.noise >= 0.0 && view.noise.is_finite(), format!("data.{name}.noise = {}: must be 0 or more", view.noise))?;
        }
        need(
            self.data.std.iter().all(|s| *s > 0.0 && s.is_finite()) && self.data.mean.iter().all(|m| m.is_finite()),
            format!("data.mean = {:?}, data.std = {:?}: deviations must be above 0", self.data.mean, self.data.std),
        )?;
        probability("model.unet.dropout", u.dropout.into())?;
        need(
            u.time_scale > 0.0 && u.time_scale.is_finite(),
            format!("model.unet.time_scale = {}: must be above 0", u.time_scale),
        )?;
        need(u.dropout < 1.0, "model.unet.dropout = 1: nothing would be left; choose less than 1".into())?;
        probability("train.z_drop", t.z_drop)?;
        need(
            t.lr > 0.0 && t.lr.is_finite() && t.encoder_lr_ratio >= 0.0 && t.encoder_lr_ratio.is_finite(),
            format!("train.lr = {}, train.encoder_lr_ratio = {}: must be positive numbers", t.lr, t.encoder_lr_ratio),
        )?;
        need(t.betas.iter().all(|b| (0.0..1.0).contains(b)), format!("train.betas = {:?}: each lies in [0, 1)", t.betas))?;
        need(
            t.weight_decay >= 0.0 && t.clip_norm >= 0.0 && t.ema_power >= 0.0 && (0.0..1.0).contains(&t.ema_decay),
            "train.weight_decay, clip_norm and ema_power must be 0 or more and ema_decay in [0, 1)".into(),
        )?;
        need(
            self.sample.steps <= self.diffusion.steps,
            format!("sample.steps = {}: there are only diffusion.steps = {}", self.sample.steps, self.diffusion.steps),
        )?;
        need((0.0..=1.0).contains(&self.sample.eta), format!("sample.eta = {}: lies in [0, 1]", self.sample.eta))?;
        need(self.sample.guidance.is_finite(), format!("sample.guidance = {}: must be finite", self.sample.guidance))?;
        need(self.probe.lr > 0.0, format!("probe.lr = {}: must be above 0", self.probe.lr))
    }
}

impl UNetConfig {
    /// Channels of the feature maps of each stage.
    pub fn widths(&self) -> Vec<usize> {
        self.multipliers.iter().map(|m| m * self.base).collect()
    }

    /// Channels of the skip connections in the order they are made.
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

    /// Channels that some GroupNorm (but the last) sees: every block's input and output.
    fn group_norm_channels(&self) -> Vec<usize> {
        let mut channels = vec![self.base];
        channels.extend(self.widths());
        let mut skips = self.skip_widths();
        let mut c = *self.widths().last().expect("at least one stage");
        for width in self.widths().into_iter().rev() {
            for _ in 0..=self.blocks {
                channels.push(c + skips.pop().expect("one skip for each up block"));
                c = width;
            }
        }
        channels
    }
}

/// Applies one `key.path=value`; the value is TOML, or a bare word taken as a string.
fn set(table: &mut toml::Table, item: &str) -> Result<()> {
    let Some((key, value)) = item.split_once('=') else {
        return Err(Error::usage(format!("--set {item}: expected key=value, for example --set train.batch_size=64")));
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
            _ => return Err(Error::usage(format!("--set {item}: there is no section {part:?} in the configuration"))),
        };
    }
    match (at.get(last), value) {
        // 1 is a fine way to write 1.0.
        (Some(toml::Value::Float(_)), toml::Value::Integer(i)) => at.insert(last.into(), toml::Value::Float(i as f64)),
        (_, value) => at.insert(last.into(), value),
    };
    Ok(())
}

/// One line out of toml's many: where and what.
fn toml_error(origin: &str, error: &toml::de::Error) -> Error {
    let message = error.message().trim().replace('\n', " ");
    let full = error.to_string();
    // The line of the file that toml quotes ("3 | unknown = 1"), if it does.
    let quoted =
        full.lines().find_map(|l| l.split_once(" | ").filter(|(n, _)| n.trim().parse::<usize>().is_ok()).map(|(_, t)| t));
    match quoted {
        Some(line) => Error::usage(format!("{origin}: {message}, at `{}`; see configs/ for the known keys", line.trim())),
        None => Error::usage(format!("{origin}: {message}; see configs/ for the known keys")),
    }
}
