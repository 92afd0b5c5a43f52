//! `soda quality`

use super::Common;
use super::sampling::SamplingArgs;
use super::source::WeightsArgs;
use super::studio::Studio;
use crate::data::{Images, bytes_of};
use crate::edit::decoder::signed;
use crate::error::{Error, Result};
use crate::eval::distance::{NEIGHBOURS, distance};
use crate::eval::image::{Similarity, similarity};
use crate::report::grid::{GridRow, LARGE, save_table, scale};
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `soda quality`.
#[derive(clap::Args)]
#[command(
    after_help = "Frechet distance, precision and recall are measured between z of drawn and of real images, under the very encoder that is judged: they compare samples of one run, not runs, and are no FID. Beside them stand training images measured in the same way: what a perfect model would get from as many images."
)]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Test images to reconstruct, and images to draw.
    #[arg(short, long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    n: u64,
    /// Gaussians of the mixture that z is drawn from, as `soda sample` has it.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    components: u64,
    /// The picture: test images, from z and their own x_T, from z alone; and images drawn.
    #[arg(long, value_name = "FILE", default_value = "quality.png")]
    out: PathBuf,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Measures reconstructions and samples.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let (n, seed) = (args.n as usize, args.sampling.seed);
    let mut studio = Studio::open("quality", &args.weights, &args.sampling, &args.out, common)?;
    let dataset = studio.dataset()?.clone();
    let most = dataset.test.len().min(dataset.train.len());
    if n <= NEIGHBOURS || n > most {
        let least = NEIGHBOURS + 1;
        return Err(Error::usage(format!("-n {n}: choose {least} to {most}, the images that training and test set both hold")));
    }
    let prior = studio.prior(args.components as usize)?;
    let (decoder, dim) = (studio.decoder(), studio.config().model.z_dim);
    let (side, image) = (decoder.side(), bytes_of(decoder.side()));
    let latent = prior.mixture.sample(n, 1.0, seed);

    // Of all images only z is kept.
    let [mut z, mut z_drawn, mut z_train] = [const { Vec::new() }; 3];
    let (mut with_noise_scores, mut alone_scores) = (Vec::new(), Vec::new());
    for (part, decoder) in decoder.parts(n) {
        let indices: Vec<usize> = part.clone().collect();
        let (test, train) = (dataset.test.select(&indices), dataset.train.select(&indices));
        let (own, originals) = (decoder.encode(&test)?, signed(&test, side));
        let alone = decoder.draw(&own, seed)?;
        let with_noise = decoder.plain().decode(&own, &decoder.invert(&originals, &own)?, None, seed)?;
        let drawn = decoder.draw(&latent[part.start * dim..part.end * dim], seed)?;
        with_noise_scores.push(similarity(&with_noise, &originals, side)?);
        alone_scores.push(similarity(&alone, &originals, side)?);
        if part.start == 0 {
            let shown = n.min(10) * image;
            let rows = [(&originals, "test image"), (&with_noise, "z and x_T"), (&alone, "z alone"), (&drawn, "drawn")];
            let rows =
                rows.map(|(images, label)| GridRow { label: Some(label), images: images[..shown].chunks(image).collect() });
            save_table(&args.out, &[], &rows, side, scale(side, LARGE))?;
        }
        z.extend(own);
        z_drawn.extend(decoder.encode(&to_images(&drawn, side))?);
        z_train.extend(decoder.encode(&train)?);
    }
    let [samples, real] = [distance(&z_drawn, &z, dim)?, distance(&z_train, &z, dim)?];
    let [with_noise_score, alone_score] = [Similarity::over(&with_noise_scores), Similarity::over(&alone_scores)];

    outln!("{n} test images from z and their own x_T: PSNR {:.2} dB, SSIM {:.3}", with_noise_score.psnr, with_noise_score.ssim);
    outln!("{n} test images from z alone:            PSNR {:.2} dB, SSIM {:.3}", alone_score.psnr, alone_score.ssim);
    outln!("beside these test images, in z:          Frechet distance  precision  recall");
    for (name, d) in [("drawn images", samples), ("training images", real)] {
        outln!("  {n:>5} {name:<16} {:>33.4} {:>8.1} % {:>5.1} %", d.frechet, d.precision, d.recall);
    }
    outln!("picture {}", args.out.display());
    studio.used("test", n);
    studio.output.set("n", json!(n));
    studio.output.set("z_and_x_T", json!(with_noise_score));
    studio.output.set("z_alone", json!(alone_score));
    studio.output.set("feature_space", json!("z of these weights; not FID"));
    studio.output.set("drawn", json!(samples));
    studio.output.set("training_images", json!(real));
    studio.output.set("prior", json!(prior.quality));
    studio.finish()
}

/// Images `[n, 3, side, side]` in [-1, 1] as data of 8 bits, of no class.
fn to_images(drawn: &[f32], side: usize) -> Images {
    let pixels = drawn.iter().map(|v| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8).collect();
    Images::new(side, pixels, vec![0; drawn.len() / bytes_of(side)])
}
