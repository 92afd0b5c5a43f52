//! The forward process: the noise levels of training, their weights in the loss and the target of
//! the prediction.

use serde::{Deserialize, Serialize};

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

/// What the denoiser is trained to predict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prediction {
    /// The noise (Ho et al. 2020).
    #[default]
    Eps,
    /// v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 (Salimans and Ho 2022): the noise where
    /// there is little of it, minus the image at pure noise, where it is therefore still
    /// informative.
    V,
}

impl Prediction {
    /// Returns the name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eps => "the noise",
            Self::V => "v",
        }
    }
}

/// The noise levels that training samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Levels {
    /// The T levels t = 1..=T.
    #[default]
    Discrete,
    /// Every t / T in (0, 1].
    Continuous,
}

/// The weight of a noise level's squared error in the loss, as a function of
/// SNR = alpha_bar / (1 - alpha_bar). The weights are divided by their mean over the levels that
/// are sampled, so that the losses and the threshold of gradient clipping keep their scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossWeight {
    /// The same weight for all levels.
    #[default]
    Uniform,
    /// 1 - alpha_bar = 1 / (1 + SNR): PDAE's weight with its exponent set to 0.
    OneMinusAlphaBar,
    /// (1 / (1 + SNR))^0.9 (SNR / (1 + SNR))^0.1 (PDAE, Zhang et al. 2022).
    Pdae,
    /// min(SNR, 5) / SNR for eps, min(SNR, 5) / (SNR + 1) for v (Hang et al. 2023).
    MinSnr,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(text: &str, set: &[&str]) -> Result<Config, String> {
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        Config::parse(text, "a recipe", &set).map_err(|e| e.to_string())
    }

    #[test]
    fn the_defaults_are_eps_at_discrete_levels_with_one_sample_and_uniform_weights() {
        let quick = include_str!("../../configs/quick.toml");
        let keys = [
            "prediction",
            "levels",
            "high_noise",
            "log_snr_shift",
            "loss_weight",
            "denoisings",
            "stratified_t",
        ];
        let named = |line: &&str| keys.contains(&line.split('=').next().unwrap_or_default().trim());
        assert_eq!(quick.lines().filter(named).count(), keys.len());
        let bare: Vec<&str> = quick.lines().filter(|line| !named(line)).collect();
        let old = parse(&bare.join("\n"), &[]).expect("a recipe");
        assert_eq!(old, parse(quick, &[]).expect("a recipe"));
        let (d, t) = (&old.diffusion, &old.train);
        assert_eq!(
            (d.prediction, d.levels, d.high_noise, d.log_snr_shift),
            (Prediction::Eps, Levels::Discrete, 0.0, 0.0)
        );
        assert_eq!((t.loss_weight, t.denoisings, t.stratified_t), (LossWeight::Uniform, 1, false));
        assert_eq!(old.loss_in_words(), "mean squared error on the noise");
        // A recipe that sets all of these keys survives writing and reading.
        let sets = [
            "diffusion.prediction=v",
            "diffusion.levels=continuous",
            "diffusion.high_noise=0.05",
            "diffusion.log_snr_shift=-1.386",
            "train.loss_weight=min_snr",
            "train.denoisings=4",
            "train.stratified_t=true",
        ];
        let new = parse(include_str!("../../configs/quick.toml"), &sets).expect("a recipe");
        assert_eq!(parse(&new.to_toml(), &[]).expect("a recipe"), new);
        assert_ne!(new, old);
        assert_eq!(new.loss_in_words(), "mean squared error on v, weighted by noise level");
        let penalised = parse(quick, &["train.decorrelation=0.001"]).expect("a recipe");
        assert_eq!(
            penalised.loss_in_words(),
            "mean squared error on the noise, with a penalty on z"
        );
    }

    #[test]
    fn impossible_values_are_named() {
        let text = include_str!("../../configs/quick.toml");
        for (set, part) in [
            (&["train.denoisings=0"][..], "train.denoisings = 0"),
            (&["train.denoisings=100000"], "train.denoisings = 100000"),
            (&["train.loss_weight=snr"], "one_minus_alpha_bar"),
            (&["diffusion.prediction=x_0"], "`eps` or `v`"),
            (
                &["diffusion.levels=continuous", "diffusion.high_noise=1.0"],
                "diffusion.high_noise = 1",
            ),
            (&["diffusion.high_noise=0.1"], "diffusion.levels"),
            (&["diffusion.log_snr_shift=11"], "diffusion.log_snr_shift = 11"),
        ] {
            let message = parse(text, set).expect_err("refused");
            assert!(message.contains(part), "{message}");
        }
    }
}
