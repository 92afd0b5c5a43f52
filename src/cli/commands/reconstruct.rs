//! `soda reconstruct`: reconstructions of test images from z alone.

use crate::cli::args::{Common, SamplingArgs, WeightsArgs, count};
use crate::cli::output;
use crate::cli::session::{Session, draw_reconstructions};
use serde_json::json;
use soda::error::{Error, Result};
use soda::units::{counted, grouped};
use std::path::PathBuf;

/// The default number of images.
const USUAL: usize = 20;

/// Arguments of `soda reconstruct`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Number of test images, from the start of the set (default: 20, or all if fewer).
    #[arg(short, long, allow_negative_numbers = true, value_parser = count::<usize>(..))]
    n: Option<usize>,
    /// Output picture: rows of reconstructions from z alone, over rows of originals.
    #[arg(long, value_name = "FILE", default_value = "reconstruction.png")]
    out: PathBuf,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Reconstructs test images and measures the result.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut session =
        Session::open("reconstruct", &args.weights, &args.sampling, &args.out, common)?;
    let dataset = session.dataset()?.clone();
    let most = dataset.test.len();
    let n = args.n.unwrap_or(most.min(USUAL));
    if n == 0 || n > most {
        return Err(Error::usage(format!(
            "-n {n}: must be between 1 and {} (the size of the test set)",
            grouped(most as u64)
        )));
    }
    let quality =
        draw_reconstructions(&session.generator()?, &dataset, n, args.sampling.seed, &args.out)?;
    outln!(
        "PSNR {:.2} dB, SSIM {:.3} over {} from z alone; picture {}",
        quality.psnr,
        quality.ssim,
        counted(quality.n, "test image"),
        output::place(&args.out)
    );
    session.used("test", n);
    session.output.merge(json!(quality));
    session.finish()
}
