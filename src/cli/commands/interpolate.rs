//! `soda interpolate`: images between two images.

use crate::cli::args::{Common, SamplingArgs, WeightsArgs, count};
use crate::cli::output;
use crate::cli::session::Session;
use serde_json::{Value, json};
use soda::data::bytes_of;
use soda::edit::generator::{Generator, signed};
use soda::edit::interpolate::{Path, VISIBLE, changes, interpolate, look_alike};
use soda::error::Result;
use soda::eval::psnr_ssim::psnr;
use soda::report::grid::{GridRow, SMALL, save_table, scale};
use std::path::PathBuf;

/// Arguments of `soda interpolate`.
#[derive(clap::Args)]
#[command(
    after_help = "If the linear and the spherical row look the same (pixels differ by less than 10 \
                  of 255 levels on average, in each image), the picture shows one row; the JSON \
                  has the results of both."
)]
pub struct Args {
    /// First image: a file, test:17 or train:3.
    a: String,
    /// Last image.
    b: String,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Number of images in a row, both ends included (--steps is for the sampler).
    #[arg(short, long, default_value_t = 8, allow_negative_numbers = true, value_parser = count::<u64>(2..=100))]
    n: u64,
    /// Also interpolate x_T, spherically, from the DDIM inversion of both images. The ends then
    /// reproduce the images.
    #[arg(long)]
    invert: bool,
    /// Output picture: linear and spherical interpolation in z, between the originals.
    #[arg(long, value_name = "FILE", default_value = "interpolation.png")]
    out: PathBuf,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// One row of the picture.
struct Strip {
    /// Its index among all strips.
    number: usize,
    label: &'static str,
    /// Its path in the JSON.
    path: &'static str,
    inverted: bool,
    /// `[n, 3, side, side]`
    images: Vec<f32>,
}

/// Interpolates from one image to another.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut session =
        Session::open("interpolate", &args.weights, &args.sampling, &args.out, common)?;
    session.deterministic("interpolate")?;
    let named = session.images(&[args.a.clone(), args.b.clone()])?;
    let generator = session.generator()?;
    let ends = [0, 1].map(|i| named.images.select(&[i]));
    let [z_a, z_b] = [generator.encode(&ends[0])?, generator.encode(&ends[1])?];
    let originals = [signed(&ends[0], generator.side())?, signed(&ends[1], generator.side())?];
    let [a, b] = [0, 1].map(|i| named.names[i].as_str());
    let (n, seed) = (args.n as usize, args.sampling.seed);
    // The name of the path in the JSON; its labels without and with x_T.
    let paths = [
        ("linear", ["linear in z", "linear in z, inverted x_T"], Path::Linear),
        ("spherical", ["spherical in z", "spherical in z, inverted x_T"], Path::Spherical),
    ];
    let z = paths.map(|(.., path)| interpolate(&z_a, &z_b, n, path));

    let mut strips = Vec::new();
    let mut draw_strips = |generator: &Generator, x_last: Vec<f32>, inverted: bool| -> Result<()> {
        let images = generator.decode(&z.concat(), &x_last.repeat(paths.len()), None, seed)?;
        for ((path, labels, _), images) in
            paths.iter().zip(images.chunks_exact(n * bytes_of(generator.side())))
        {
            let (number, label) = (strips.len(), labels[usize::from(inverted)]);
            strips.push(Strip { number, label, path, inverted, images: images.to_vec() });
        }
        Ok(())
    };
    draw_strips(&generator, generator.noise(1, seed).repeat(n), false)?;
    if args.invert {
        let plain = generator.plain();
        let [x_a, x_b] = [plain.invert(&originals[0], &z_a)?, plain.invert(&originals[1], &z_b)?];
        draw_strips(&plain, interpolate(&x_a, &x_b, n, Path::Spherical), true)?;
    }
    let blocks: Vec<Value> = strips.iter().map(|strip| measure(strip, &originals)).collect();
    let (shown, alike) = distinct(strips, bytes_of(generator.side()));
    draw(args, &shown, &originals, generator.side())?;

    out!("{n} images in a row from {a} to {b} in {}", output::place(&args.out));
    for strip in &shown {
        let block = &blocks[strip.number];
        let number = |key: &str| block[key].as_f64().unwrap_or(f64::NAN);
        out!(
            "; {}: ends {:.1} and {:.1} dB, change {:.4} per step",
            strip.label,
            number("psnr_a"),
            number("psnr_b"),
            number("mean_change")
        );
    }
    outln!();
    if alike {
        let levels = VISIBLE * 255.0;
        outln!(
            "linear and spherical look the same (pixels differ by less than {levels:.0} of 255 \
             levels): one row shows both"
        );
    }
    session.output.set("a", json!(a));
    session.output.set("b", json!(b));
    session.output.set("n", json!(n));
    session.output.set("strips", json!(blocks));
    session.output.set("rows", shown.iter().map(|strip| json!(strip.label)).collect());
    session.finish()
}

/// Merges pairs of `strips` that look the same into one; `strips` come in pairs, linear and
/// spherical from the same x_T. Also returns whether there was such a pair.
fn distinct(strips: Vec<Strip>, image: usize) -> (Vec<Strip>, bool) {
    let mut shown: Vec<Strip> = Vec::new();
    let mut alike = false;
    for strip in strips {
        match shown.last_mut() {
            Some(other)
                if other.inverted == strip.inverted
                    && look_alike(&other.images, &strip.images, image) =>
            {
                other.label = if strip.inverted { "in z, inverted x_T" } else { "in z" };
                alike = true;
            }
            _ => shown.push(strip),
        }
    }
    (shown, alike)
}

/// Measures the PSNR of the ends, and how much pixels in [0, 1] change from one image to the next.
fn measure(strip: &Strip, originals: &[Vec<f32>; 2]) -> Value {
    let image = originals[0].len();
    let changes = changes(&strip.images, image);
    json!({
        "path": strip.path,
        "inverted": strip.inverted,
        "psnr_a": psnr(&strip.images[..image], &originals[0]),
        "psnr_b": psnr(&strip.images[strip.images.len() - image..], &originals[1]),
        "mean_change": changes.iter().sum::<f64>() / changes.len() as f64,
        "largest_change": changes.iter().copied().fold(0.0, f64::max),
    })
}

/// Saves the picture: each strip between the originals.
fn draw(args: &Args, strips: &[Strip], originals: &[Vec<f32>; 2], side: usize) -> Result<()> {
    let row = |strip: &'_ Strip| -> Vec<f32> {
        [&originals[0], &strip.images, &originals[1]].into_iter().flatten().copied().collect()
    };
    let whole: Vec<Vec<f32>> = strips.iter().map(row).collect();
    let rows: Vec<GridRow> = strips
        .iter()
        .zip(&whole)
        .map(|(strip, whole)| GridRow {
            label: Some(strip.label),
            images: whole.chunks_exact(bytes_of(side)).collect(),
        })
        .collect();
    let mut headings = vec![""; args.n as usize + 2];
    headings[0] = "original";
    headings[args.n as usize + 1] = "original";
    save_table(&args.out, &headings, &rows, side, scale(side, SMALL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(number: usize, inverted: bool, value: f32) -> Strip {
        Strip {
            number,
            label: ["linear in z", "spherical in z"][number % 2],
            path: "",
            inverted,
            images: vec![value; 6],
        }
    }

    #[test]
    fn pairs_that_look_the_same_become_one_row_and_others_stay() {
        let shown = |values: [f32; 4]| {
            let strips = values.iter().enumerate().map(|(i, v)| strip(i, i > 1, *v)).collect();
            let (shown, alike) = distinct(strips, 3);
            (shown.iter().map(|s| (s.number, s.label)).collect::<Vec<_>>(), alike)
        };
        let (rows, alike) = shown([0.0, 0.001, 0.001, 0.5]);
        assert_eq!(rows, [(0, "in z"), (2, "linear in z"), (3, "spherical in z")]);
        assert!(alike);
        assert_eq!(
            shown([0.0, 0.0, 0.0, 0.0]),
            (vec![(0, "in z"), (2, "in z, inverted x_T")], true)
        );
        assert_eq!(shown([0.0, 0.5, 0.5, 0.0]).0.len(), 4);
        assert!(!shown([0.0, 0.5, 0.5, 0.0]).1);
    }
}
