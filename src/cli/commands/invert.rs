//! `soda invert`: images to z and x_T and back (DDIM inversion).

use crate::cli::args::{Common, SamplingArgs, WeightsArgs};
use crate::cli::output;
use crate::cli::session::Session;
use serde_json::json;
use soda::data::bytes_of;
use soda::edit::generator::signed;
use soda::eval::psnr_ssim::similarity;
use soda::report::grid::{GridRow, LARGE, save_table, scale};
use std::path::PathBuf;

/// Arguments of `soda invert`.
#[derive(clap::Args)]
#[command(
    after_help = "Both directions run DDIM with eta 0, without guidance or clipping. More --steps \
                  make the round trip more exact."
)]
pub struct Args {
    /// Image files, or images of the data set such as test:17 (default: the first eight test
    /// images).
    images: Vec<String>,
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Output picture: originals, images from z and their own x_T, images from z alone.
    #[arg(long, value_name = "FILE", default_value = "inversion.png")]
    out: PathBuf,
}

/// Inverts images to z and x_T, and back.
pub fn run(args: &Args, common: &Common) -> soda::error::Result<()> {
    let mut session = Session::open("invert", &args.weights, &args.sampling, &args.out, common)?;
    let named = session.images(&session.asked_or(&args.images, 0..8)?)?;
    let generator = session.generator()?;
    let side = generator.side();
    let (z, originals) = (generator.encode(&named.images)?, signed(&named.images, side)?);
    let x_last = generator.invert(&originals, &z)?;
    let back = generator.plain().decode(&z, &x_last, None, args.sampling.seed)?;
    let alone = generator.draw(&z, args.sampling.seed)?;

    let both = [(&back, "z and x_T"), (&alone, "z alone")];
    let rows = [(&originals, "original")].into_iter().chain(both);
    let rows: Vec<GridRow> = rows
        .map(|(images, label)| GridRow {
            label: Some(label),
            images: images.chunks(bytes_of(side)).collect(),
        })
        .collect();
    let headings: Vec<&str> = named.names.iter().map(String::as_str).collect();
    save_table(&args.out, &headings, &rows, side, scale(side, LARGE))?;
    let [with_noise, alone] =
        [similarity(&back, &originals, side)?, similarity(&alone, &originals, side)?];
    // The nearer the last timestep is to T, the nearer x_T is to noise of mean 0 and standard
    // deviation 1.
    let n = x_last.len() as f64;
    let mean = x_last.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let deviation = (x_last.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    outln!(
        "z and x_T: PSNR {:.2} dB, SSIM {:.3}; x_T has standard deviation {deviation:.3}",
        with_noise.psnr,
        with_noise.ssim
    );
    outln!(
        "z alone:   PSNR {:.2} dB, SSIM {:.3}; picture {}",
        alone.psnr,
        alone.ssim,
        output::place(&args.out)
    );
    session.output.set("images", json!(named.names));
    session.output.merge(json!(with_noise));
    session.output.set("z_alone", json!(alone));
    session.output.set("x_T", json!({ "mean": mean, "deviation": deviation }));
    session.finish()
}
