//! `soda reconstruct`

use super::Common;
use super::sampling::SamplingArgs;
use super::source::WeightsArgs;
use super::studio::Studio;
use crate::data::{Dataset, bytes_of};
use crate::edit::decoder::Decoder;
use crate::edit::reconstruct::reconstruct_first;
use crate::error::{Error, Result};
use crate::eval::image::{Similarity, similarity};
use crate::report::grid;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Images that are reconstructed unasked.
const USUAL: usize = 20;

/// Arguments of `soda reconstruct`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Test images to reconstruct, the first ones of the set (default: 20, or all where there are
    /// fewer).
    #[arg(short, long)]
    n: Option<usize>,
    /// The picture: rows sampled from z alone over rows of originals.
    #[arg(long, value_name = "FILE", default_value = "reconstruction.png")]
    out: PathBuf,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Draws and measures reconstructions.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut studio = Studio::open("reconstruct", &args.weights, &args.sampling, &args.out, common)?;
    let dataset = studio.dataset()?.clone();
    let most = dataset.test.len();
    let n = args.n.unwrap_or(most.min(USUAL));
    if n == 0 || n > most {
        return Err(Error::usage(format!(
            "-n {n}: must be between 1 and {most} (the size of the test set)"
        )));
    }
    let quality = draw(&studio.decoder()?, &dataset, n, args.sampling.seed, &args.out)?;
    outln!(
        "PSNR {:.2} dB, SSIM {:.3} over {} test images from z alone; picture {}",
        quality.psnr,
        quality.ssim,
        quality.n,
        args.out.display()
    );
    studio.used("test", n);
    studio.output.merge(json!(quality));
    studio.finish()
}

/// Reconstructs the first `n` test images, draws the first 20 to `out` and measures all.
pub fn draw(
    decoder: &Decoder,
    dataset: &Dataset,
    n: usize,
    seed: u64,
    out: &Path,
) -> Result<Similarity> {
    let (images, originals) = reconstruct_first(decoder, &dataset.test, n, seed)?;
    let shown = n.min(20) * bytes_of(decoder.side());
    grid::save_reconstructions(out, &images[..shown], &originals[..shown], decoder.side())?;
    similarity(&images, &originals, decoder.side())
}
