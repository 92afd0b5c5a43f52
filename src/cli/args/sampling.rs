//! Sampling flags, which override the recipe's settings.

use crate::cli::args::{PrecisionArgs, count, number};
use soda::config::{Config, Guidance, SampleConfig, Sampler};
use soda::error::{Error, Result};

/// The flags of every command that generates images.
#[derive(clap::Args, Clone, Debug)]
pub struct SamplingArgs {
    /// Sampler: ddim, ddpm or dpm-solver (default: the recipe's).
    #[arg(long, value_parser = sampler)]
    sampler: Option<Sampler>,
    /// Sampling steps: evaluations of the denoiser, in each direction for inversion (default: the
    /// recipe's).
    #[arg(long, allow_negative_numbers = true, value_parser = count::<usize>(..))]
    steps: Option<usize>,
    /// DDIM's eta: 0 is deterministic, 1 has DDPM's variance (default: the recipe's).
    #[arg(long, allow_negative_numbers = true, value_parser = number::<f64>)]
    eta: Option<f64>,
    /// Guidance weight w in (1 + w) eps_c - w eps_u, or one per section of z. Separate several
    /// weights by commas (default: the recipe's).
    #[arg(long, allow_hyphen_values = true, value_parser = guidance)]
    guidance: Option<Guidance>,
    /// Noise level at which sampling starts, as a fraction of all levels. Below 1 it starts from
    /// the linear decoder's image of z, noised to that level; at 1 from pure noise (default: the
    /// recipe's).
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, value_parser = number::<f64>)]
    start: Option<f64>,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = count::<u64>(..))]
    pub seed: u64,
    #[command(flatten)]
    pub precision: PrecisionArgs,
}

fn sampler(text: &str) -> std::result::Result<Sampler, String> {
    serde_json::from_value(text.into()).map_err(|_| "choose ddim, ddpm or dpm-solver".into())
}

fn guidance(text: &str) -> std::result::Result<Guidance, String> {
    let weights: std::result::Result<Vec<f64>, _> =
        text.split(',').map(|w| w.trim().parse()).collect();
    match weights.as_deref() {
        Ok([w]) => Ok(Guidance::Whole(*w)),
        Ok(weights) => Ok(Guidance::Sections(weights.to_vec())),
        Err(_) => Err(
            "expected a number, or one per section separated by commas, such as 0.3 or 1,1,0,0,0"
                .into(),
        ),
    }
}

impl SamplingArgs {
    /// Returns the settings of `config`, overridden by the flags.
    ///
    /// # Errors
    /// If a flag's value is invalid for these weights.
    pub fn resolve(&self, config: &Config) -> Result<SampleConfig> {
        let mut sample = config.sample.clone();
        if let Some(sampler) = self.sampler {
            sample.sampler = sampler;
        }
        if let Some(guidance) = &self.guidance {
            sample.guidance = guidance.clone();
        }
        sample.steps = self.steps.unwrap_or(sample.steps);
        sample.inversion_steps = self.steps.unwrap_or(sample.inversion_steps);
        if let Some(eta) = self.eta.filter(|_| sample.sampler != Sampler::Ddim) {
            return Err(Error::usage(format!(
                "--eta {eta}: only DDIM has an eta; add --sampler ddim"
            )));
        }
        sample.eta = self.eta.unwrap_or(sample.eta);
        sample.start = self.start.unwrap_or(sample.start);
        if !(sample.start > 0.0 && sample.start <= 1.0) {
            return Err(Error::usage(format!(
                "--start {}: must be above 0 and at most 1 (pure noise)",
                sample.start
            )));
        }
        let levels = config.diffusion.steps;
        if sample.steps == 0 || sample.steps > levels {
            return Err(Error::usage(format!(
                "--steps {}: must be between 1 and {levels} (the noise levels of these weights)",
                sample.steps
            )));
        }
        if !(0.0..=1.0).contains(&sample.eta) {
            return Err(Error::usage(format!("--eta {}: must be between 0 and 1", sample.eta)));
        }
        sample
            .guidance
            .check(config.model.sections().len())
            .map_err(|e| Error::usage(format!("--guidance: {e}")))?;
        Ok(sample)
    }
}
