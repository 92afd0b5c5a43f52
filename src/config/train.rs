//! Optimisation, logging and checkpoints in a recipe.

use super::diffusion::LossWeight;
use serde::{Deserialize, Serialize};

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
