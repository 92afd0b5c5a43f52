//! `soda reconstruct`

use super::Common;
use super::output::Output;
use super::sampling::SamplingArgs;
use super::source::WeightsArgs;
use crate::data::{self, Dataset};
use crate::device;
use crate::edit::decoder::{Decoder, IMAGE};
use crate::edit::reconstruct::reconstruct_first;
use crate::error::{Error, Result};
use crate::eval::image::{Similarity, similarity};
use crate::files;
use crate::report::grid;
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
    #[command(flatten)]
    sampling: SamplingArgs,
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
    let sample = args.sampling.resolve(&weights.config)?;
    files::create_parent(&args.out)?;
    files::check_writable(&args.out)?;
    eprintln!("reconstructing with {} on {}, {}", weights.path.display(), device.describe(), dataset.describe());
    let model = weights.model(&device.device)?;
    let decoder = Decoder::new(&model, &weights.config, sample, &device.device);
    let quality = draw(&decoder, &dataset, args.n, args.sampling.seed, &args.out)?;
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
pub fn draw(decoder: &Decoder, dataset: &Dataset, n: usize, seed: u64, out: &Path) -> Result<Similarity> {
    let (images, originals) = reconstruct_first(decoder, &dataset.test, n, seed)?;
    let shown = n.min(20) * IMAGE;
    grid::save_reconstructions(out, &images[..shown], &originals[..shown])?;
    similarity(&images, &originals, 32)
}
