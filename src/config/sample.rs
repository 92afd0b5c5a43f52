//! How images are sampled.

use serde::{Deserialize, Serialize};

/// Which sampler draws x_0 from x_T; spelt `ddim`, `ddpm` and `dpm-solver`, here and on the command
/// line.
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

/// How strongly z guides: eps = eps_c + w (eps_c - eps_u), eps_u predicted without z.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Guidance {
    /// One weight for the whole of z.
    Whole(f64),
    /// One weight for each section: eps = eps_c + sum over i of w_i (eps_c - eps_i), eps_i
    /// predicted without section i.
    Sections(Vec<f64>),
}

impl Guidance {
    /// Refuses weights that aren't finite or not as many as z has `sections`.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence.
    pub fn check(&self, sections: usize) -> std::result::Result<(), String> {
        let weights = match self {
            Self::Whole(w) => std::slice::from_ref(w),
            Self::Sections(weights) if sections == 1 => {
                return Err(format!(
                    "{} weights, but these weights don't know sections of z; give one number",
                    weights.len()
                ));
            }
            Self::Sections(weights) if weights.len() != sections => {
                return Err(format!(
                    "{} weights, but z has {sections} sections; give one number or {sections}",
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

/// Sampling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleConfig {
    /// The sampler.
    #[serde(default)]
    pub sampler: Sampler,
    /// Evaluations of the denoiser.
    pub steps: usize,
    /// DDIM: 0 is deterministic, 1 has DDPM's variance.
    pub eta: f64,
    /// How strongly z guides.
    pub guidance: Guidance,
    /// Clip the predicted x_0 to [-1, 1] at each step.
    pub clip_x0: bool,
    /// Where sampling begins, as t / T: above 0, and below 1 with the linear decoder's picture of z
    /// noised to that level; 1 is pure noise, x_T.
    #[serde(default = "pure_noise")]
    pub start: f64,
    /// Evaluations of the denoiser each way where an image is inverted and drawn again from its own
    /// noise.
    #[serde(default = "inversion_steps")]
    pub inversion_steps: usize,
}

/// What recipes mean that don't name it: theirs are older.
fn inversion_steps() -> usize {
    50
}

/// What recipes mean that don't name a start.
fn pure_noise() -> f64 {
    1.0
}

impl SampleConfig {
    /// Whether sampling begins with the linear decoder's picture.
    pub fn begins_with_picture(&self) -> bool {
        self.start < 1.0
    }

    /// The level t of `levels` that sampling begins at with the linear decoder's picture; none:
    /// with x_T.
    pub fn start_level(&self, levels: usize) -> Option<usize> {
        self.begins_with_picture()
            .then(|| ((self.start * levels as f64).round() as usize).clamp(1, levels))
    }
}
