//! The sampling of images.

use serde::{Deserialize, Serialize};

/// The sampler that produces x_0 from x_T; spelt `ddim`, `ddpm` and `dpm-solver`, here and on the
/// command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// DDIM (Song et al. 2021).
    #[default]
    Ddim,
    /// Ancestral sampling (Ho et al. 2020).
    Ddpm,
    /// DPM-Solver++(2M) (Lu et al. 2022).
    DpmSolver,
}

/// The strength of classifier-free guidance: eps = eps_c + w (eps_c - eps_u), with eps_u predicted
/// without z.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, or a list of one number for each section of z")]
pub enum Guidance {
    /// One weight for the whole of z.
    Whole(f64),
    /// One weight for each section: eps = eps_c + sum over i of w_i (eps_c - eps_i), with eps_i
    /// predicted without section i.
    Sections(Vec<f64>),
}

impl Guidance {
    /// Checks that the weights are finite and that there is one in all or one for each of the
    /// `sections` of z.
    ///
    /// # Errors
    /// If they are not; the message completes a sentence.
    pub fn check(&self, sections: usize) -> std::result::Result<(), String> {
        let weights = match self {
            Self::Whole(w) => std::slice::from_ref(w),
            Self::Sections(weights) if sections == 1 => {
                return Err(format!(
                    "{} weights, but this model's z has no sections; give a single weight",
                    weights.len()
                ));
            }
            Self::Sections(weights) if weights.len() != sections => {
                return Err(format!(
                    "{} weights, but z has {sections} sections; give one weight or {sections}",
                    weights.len()
                ));
            }
            Self::Sections(weights) => weights,
        };
        if weights.iter().all(|w| w.is_finite()) {
            Ok(())
        } else {
            Err("a weight must be a finite number".into())
        }
    }
}

/// How images are sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleConfig {
    /// The sampler.
    #[serde(default)]
    pub sampler: Sampler,
    /// Evaluations of the denoiser.
    pub steps: usize,
    /// DDIM's eta: 0 is deterministic, 1 has DDPM's variance.
    pub eta: f64,
    /// Strength of the guidance by z.
    pub guidance: Guidance,
    /// Whether the predicted x_0 is clipped to [-1, 1] at each step.
    pub clip_x0: bool,
    /// Noise level at which sampling starts, as t / T, above 0. Below 1 it starts from the linear
    /// decoder's image of z, noised to that level; 1 is pure noise, x_T.
    #[serde(default = "pure_noise")]
    pub start: f64,
    /// Evaluations of the denoiser in each direction, where an image is inverted and reconstructed
    /// from its own noise.
    #[serde(default = "inversion_steps")]
    pub inversion_steps: usize,
}

/// The default of recipes that don't set `inversion_steps`, which are older than the key.
fn inversion_steps() -> usize {
    50
}

/// The default of recipes that don't set `start`.
fn pure_noise() -> f64 {
    1.0
}

impl SampleConfig {
    /// Returns whether sampling starts from the linear decoder's image.
    pub fn begins_with_picture(&self) -> bool {
        self.start < 1.0
    }

    /// Returns the level t of `levels` at which sampling starts from the linear decoder's image;
    /// `None` where it starts from x_T.
    pub fn start_level(&self, levels: usize) -> Option<usize> {
        self.begins_with_picture()
            .then(|| ((self.start * levels as f64).round() as usize).clamp(1, levels))
    }
}
