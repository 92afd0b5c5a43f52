//! `soda reconstruct`

use super::Common;
use super::output::Output;
use super::source::WeightsArgs;
use crate::config::{Config, SampleConfig};
use crate::data::{self, Dataset};
use crate::device;
use crate::edit::reconstruct::reconstruct_first;
use crate::error::{Error, Result};
use crate::eval::image::{Similarity, similarity};
use crate::model::Soda;
use crate::report::grid;
use burn::tensor::Device;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Arguments of `soda reconstruct`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Test images to reconstruct, the first ones of the set.
    #[arg(short, long, default_value_t = 20)]
    n: usize,
    /// The picture: rows sampled from z alone over rows of originals.
    #[arg(long, value_name = "FILE", default_value = "reconstruction.png")]
    out: PathBuf,
    /// DDIM steps (default: the recipe's).
    #[arg(long)]
    steps: Option<usize>,
    /// Guidance weight w in (1 + w) eps_c - w eps_u (default: the recipe's).
    #[arg(long, allow_hyphen_values = true)]
    guidance: Option<f64>,
    /// Seed of the initial noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Draws and measures reconstructions.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("reconstruct");
    let weights = args.weights.open()?;
    let device = device::select(&common.device)?;
    let dataset = data::open(common.data.as_deref())?;
    if args.n == 0 || args.n > dataset.test.len() {
        return Err(Error::usage(format!("-n {}: the test set holds {} images; choose 1 to that", args.n, dataset.test.len())));
    }
    let mut sample = weights.config.sample.clone();
    sample.steps = args.steps.unwrap_or(sample.steps);
    sample.guidance = args.guidance.unwrap_or(sample.guidance);
    let levels = weights.config.diffusion.steps;
    if sample.steps == 0 || sample.steps > levels {
        return Err(Error::usage(format!("--steps {}: choose 1 to {levels}, the noise levels of these weights", sample.steps)));
    }
    if !sample.guidance.is_finite() {
        return Err(Error::usage(format!("--guidance {}: must be a finite number", sample.guidance)));
    }
    eprintln!("reconstructing with {} on {}, {}", weights.path.display(), device.describe(), dataset.describe());
    let model = weights.model(&device.device)?;
    let quality = draw(&model, &weights.config, &sample, &dataset, args.n, args.seed, &args.out, &device.device)?;
    println!(
        "PSNR {:.2} dB, SSIM {:.3} over {} test images from z alone; picture {}",
        quality.psnr,
        quality.ssim,
        quality.n,
        args.out.display()
    );
    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, "test", args.n);
    output.merge(json!(quality));
    output.write(common)
}

/// Reconstructs the first `n` test images, draws the first 20 to `out` and measures all.
#[allow(clippy::too_many_arguments)] // each is another thing, and they are named at every call
pub fn draw(
    model: &Soda,
    config: &Config,
    sample: &SampleConfig,
    dataset: &Dataset,
    n: usize,
    seed: u64,
    out: &Path,
    device: &Device,
) -> Result<Similarity> {
    let (images, originals) = reconstruct_first(model, config, sample, &dataset.test, n, seed, device)?;
    let shown = n.min(20) * 3072;
    grid::save_reconstructions(out, &images[..shown], &originals[..shown])?;
    similarity(&images, &originals, 32)
}
