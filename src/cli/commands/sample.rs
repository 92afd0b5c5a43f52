//! `soda sample`: new images from the latent prior.

use crate::cli::args::{Common, SamplingArgs, WeightsArgs, count, number};
use crate::cli::output;
use crate::cli::session::Session;
use serde_json::json;
use soda::data::{Images, bytes_of};
use soda::edit::generator::signed;
use soda::edit::prior::COMPONENTS;
use soda::error::{Error, Result};
use soda::eval::nearest_pixels;
use soda::report::grid::{GridRow, SMALL, save_rows, scale};
use soda::units::counted;
use std::path::{Path, PathBuf};

/// Arguments of `soda sample`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Number of images.
    #[arg(short, long, default_value_t = 64, allow_negative_numbers = true, value_parser = count::<u64>(1..=10_000))]
    n: u64,
    /// Number of Gaussians in the mixture z is sampled from. It is fitted to the training images
    /// once, then cached.
    #[arg(long, default_value_t = COMPONENTS as u64, allow_negative_numbers = true, value_parser = count::<u64>(1..=1000))]
    components: u64,
    /// Temperature: scales the deviation of z from the mean of its Gaussian. Below 1, images are
    /// more typical and less diverse.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true, value_parser = number::<f32>)]
    temperature: f32,
    /// Output picture: the samples, and below them the training images nearest to the first row.
    #[arg(long, value_name = "FILE", default_value = "samples.png")]
    out: PathBuf,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Samples images from the latent prior.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let (n, seed) = (args.n as usize, args.sampling.seed);
    if !(0.0..=100.0).contains(&args.temperature) {
        return Err(Error::usage(format!(
            "--temperature {}: must be between 0 and 100 (1 samples the fitted distribution)",
            args.temperature
        )));
    }
    let mut session = Session::open("sample", &args.weights, &args.sampling, &args.out, common)?;
    let dataset = session.dataset()?.clone();
    let prior = session.prior(args.components as usize)?;
    let generator = session.generator()?.varied();
    let images = generator.draw(&prior.mixture.sample(n, args.temperature, seed), seed)?;
    let label = format!("sampled, temperature {}", args.temperature);
    let side = generator.side();
    // For comparison: the same distance of images that were not trained on.
    let held = signed(&dataset.test.select(&dataset.test.spread(n)), side)?;
    let mut nearest =
        nearest_pixels::nearest(&[&images[..], &held].concat(), side, &dataset.train)?;
    let theirs = nearest.as_mut().map(|found| found.split_off(n));
    draw(
        &args.out,
        &images,
        side,
        &label,
        nearest.as_deref().map(|n| (n, dataset.train.as_ref())),
    )?;

    let quality = prior.quality;
    let mean_squared =
        |found: Vec<(usize, f64)>| found.iter().map(|f| f.1).sum::<f64>() / found.len() as f64;
    let smallest = nearest.iter().flatten().map(|f| f.1).fold(f64::INFINITY, f64::min);
    let ours = nearest.map(mean_squared);
    let theirs = theirs.filter(|found| !found.is_empty()).map(mean_squared);
    out!("{} in {}", counted(n, "image"), output::place(&args.out));
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        out!(
            "; mean squared distance to the nearest training image {ours:.4} (smallest \
             {smallest:.4}; test images {theirs:.4})"
        );
    }
    if let (Some(mixture), Some(gaussian)) = (quality.held_out, quality.held_out_gaussian) {
        let k = quality.components;
        out!(
            "; held-out z {mixture:.3} nats per dimension under {k} Gaussians, {gaussian:.3} under \
             one"
        );
    }
    outln!();
    session.used("train", dataset.train.len());
    session.output.set("n", json!(n));
    session.output.set("temperature", json!(args.temperature));
    session.output.set("prior", json!(quality));
    session.output.set(
        "nearest_train",
        json!({ "mean": ours, "smallest": ours.map(|_| smallest), "mean_of_test_images": theirs }),
    );
    session.finish()
}

/// Saves a square of images, and the training images nearest to its first row.
fn draw(
    path: &Path,
    images: &[f32],
    side: usize,
    label: &str,
    nearest: Option<(&[(usize, f64)], &Images)>,
) -> Result<()> {
    let images: Vec<&[f32]> = images.chunks_exact(bytes_of(side)).collect();
    let columns = images.len().isqrt().clamp(images.len().min(4), 25);
    let mut rows: Vec<GridRow> =
        images.chunks(columns).map(|row| GridRow { label: None, images: row.to_vec() }).collect();
    rows[0].label = Some(label);
    let neighbours = nearest.map(|(found, train)| {
        let indices: Vec<usize> = found.iter().take(columns).map(|f| f.0).collect();
        signed(&train.select(&indices), side)
    });
    let neighbours = neighbours.transpose()?;
    if let Some(neighbours) = &neighbours {
        rows.push(GridRow {
            label: Some("nearest training images to row 1"),
            images: neighbours.chunks_exact(bytes_of(side)).collect(),
        });
    }
    save_rows(path, &rows, side, scale(side, SMALL))
}
