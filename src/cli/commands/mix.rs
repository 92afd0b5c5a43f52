//! `soda mix`: z of one image with sections from another.

use crate::cli::args::{Common, SamplingArgs, WeightsArgs};
use crate::cli::output;
use crate::cli::session::{Named, Session};
use serde_json::json;
use soda::data::bytes_of;
use soda::edit::generator::signed;
use soda::edit::mix::{by_stage, mix};
use soda::error::{Error, Result};
use soda::eval::psnr_ssim::mean_change;
use soda::report::grid::{GridRow, LARGE, save_table, scale};
use std::path::PathBuf;

/// Arguments of `soda mix`.
#[derive(clap::Args)]
#[command(
    after_help = "Sections are numbered by resolution, the finest first: with four resolutions and \
                  images of 32 x 32 pixels, 0 is 32x32, 3 is 4x4 and 4 the middle. With layer \
                  modulation, sections are parts of z; otherwise every resolution receives all of \
                  z, and the chosen ones receive the columns' z."
)]
pub struct Args {
    /// Row images, whose z the other sections have: files, or e.g. test:17 (default: the first four
    /// test images).
    images: Vec<String>,
    /// Column images, whose z the chosen sections have (default: the next four test images).
    #[arg(long, num_args = 1.., value_name = "IMAGE")]
    with: Vec<String>,
    /// Sections of z, or stages of the denoiser, that have the columns' z (default: the finer half).
    #[arg(long, value_delimiter = ',', value_name = "0,1,..", value_parser = section)]
    sections: Option<Vec<usize>>,
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Output picture: a matrix of the mixed images, with the originals along its sides.
    #[arg(long, value_name = "FILE", default_value = "mix.png")]
    out: PathBuf,
}

fn section(text: &str) -> std::result::Result<usize, String> {
    text.parse().map_err(|_| "expected numbers of sections, such as 0,1".into())
}

/// Opens the images of the rows and of the columns. Defaults are the first test images, divided
/// equally.
fn images(session: &Session, args: &Args) -> Result<(Named, Named)> {
    let half = match args.images.is_empty() || args.with.is_empty() {
        true => (session.dataset()?.test.len() / 2).min(4),
        false => 4,
    };
    if half == 0 {
        return Err(Error::usage(
            "mix needs at least two images, and the test set holds one; name images of rows and \
             columns, such as train:0 --with train:1",
        ));
    }
    let (rows, columns) =
        (session.asked_or(&args.images, 0..half)?, session.asked_or(&args.with, half..2 * half)?);
    Ok((session.images(&rows)?, session.images(&columns)?))
}

/// Mixes sections of z.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut session = Session::open("mix", &args.weights, &args.sampling, &args.out, common)?;
    session.deterministic("mix")?;
    let all = session.config().model.mixable();
    let chosen = args.sections.clone().unwrap_or_else(|| (0..all.len() / 2).collect());
    let sections = session.config().model.unet.layer_modulation;
    let part = if sections { "section" } else { "stage" };
    if let Some(bad) = chosen.iter().find(|i| **i >= all.len()) {
        return Err(Error::usage(format!(
            "--sections {bad}: these weights have {part}s 0 to {}",
            all.len() - 1
        )));
    }
    let (rows, columns) = images(&session, args)?;
    let generator = session.generator()?;
    let (mut own, mut theirs) =
        (generator.encode(&rows.images)?, generator.encode(&columns.images)?);
    let model = &session.config().model;
    if !sections {
        [&mut own, &mut theirs].into_iter().for_each(|z| *z = by_stage(z, model.z_dim, all.len()));
    }
    let z = mix(&own, &theirs, &all, &chosen);
    // The same noise everywhere, so that all differences come from z.
    let (side, image) = (generator.side(), bytes_of(generator.side()));
    let noise = generator.noise(1, args.sampling.seed);
    let draw =
        |z: &[f32], n: usize| generator.decode(z, &noise.repeat(n), None, args.sampling.seed);
    let drawn = draw(&z, rows.names.len() * columns.names.len())?;
    let unmixed = draw(&own, rows.names.len())?;
    // The mean change of a pixel in [0, 1] from the image of the row's own z, by row and column.
    let changes: Vec<Vec<f64>> = drawn
        .chunks(columns.names.len() * image)
        .zip(unmixed.chunks(image))
        .map(|(cells, own)| cells.chunks(image).map(|cell| mean_change(cell, own)).collect())
        .collect();
    let mean = changes.iter().flatten().sum::<f64>() / (drawn.len() / image) as f64;

    let (left, top) = (signed(&rows.images, side)?, signed(&columns.images, side)?);
    let blank = vec![1.0; image];
    let first = std::iter::once(&blank[..]).chain(top.chunks(image)).collect();
    let line = |(original, mixed)| {
        std::iter::once(original).chain(<[f32]>::chunks(mixed, image)).collect()
    };
    let lines = left.chunks(image).zip(drawn.chunks(columns.names.len() * image)).map(line);
    let labels = std::iter::once(None).chain(rows.names.iter().map(|n| Some(n.as_str())));
    let grid: Vec<GridRow> = std::iter::once(first)
        .chain(lines)
        .zip(labels)
        .map(|(images, label)| GridRow { label, images })
        .collect();
    let headings: Vec<&str> =
        std::iter::once("").chain(columns.names.iter().map(String::as_str)).collect();
    save_table(&args.out, &headings, &grid, side, scale(side, LARGE))?;
    let list = chosen.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    outln!(
        "{part}{} {list} of {} from the columns change a pixel of the rows' images by {mean:.4} on \
         average; picture {}",
        if chosen.len() == 1 { "" } else { "s" },
        all.len(),
        output::place(&args.out)
    );
    session.output.set("rows", json!(rows.names));
    session.output.set("columns", json!(columns.names));
    session.output.set("sections", json!(chosen));
    session.output.set("changes", json!(changes));
    session.finish()
}
