//! `soda view`: another view of an image, from z.

use crate::cli::args::{Common, SamplingArgs, WeightsArgs};
use crate::cli::output;
use crate::cli::session::Session;
use serde_json::json;
use soda::data::crop::{Geometry, Window, resized_crop};
use soda::data::{Images, bytes_of};
use soda::edit::generator::signed;
use soda::error::{Error, Result};
use soda::eval::psnr_ssim::similarity;
use soda::report::grid::{GridRow, LARGE, save_table, scale};
use std::path::PathBuf;

/// Arguments of `soda view`.
#[derive(clap::Args)]
#[command(
    after_help = "Needs weights trained with model.unet.view_conditioning = true and data.views \
                  = \"conditioned\"."
)]
pub struct Args {
    /// Image files, or images of the data set such as test:17 (default: the first eight test
    /// images).
    images: Vec<String>,
    /// Crop to generate: left, top, width, height in pixels (default: the whole image). The image
    /// has data.side x data.side pixels, as in the weights' recipe.
    #[arg(long, value_name = "X,Y,W,H", value_parser = window)]
    crop: Option<Window>,
    /// Mirror the view left to right.
    #[arg(long)]
    flip: bool,
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Output picture: originals, generated views, the same crops of the originals.
    #[arg(long, value_name = "FILE", default_value = "view.png")]
    out: PathBuf,
}

fn window(text: &str) -> std::result::Result<Window, String> {
    let numbers: std::result::Result<Vec<usize>, _> =
        text.split(',').map(|n| n.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[left, top, width, height]) if width >= 1 && height >= 1 => {
            Ok(Window { top, left, height, width })
        }
        _ => Err("expected four integers: left, top, width and height (the last two at least 1), \
                  such as 0,0,16,16"
            .into()),
    }
}

/// Generates another view of images.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut session = Session::open("view", &args.weights, &args.sampling, &args.out, common)?;
    if !session.config().model.unet.view_conditioning {
        return Err(Error::usage(format!(
            "{} can't generate another view: it was trained without model.unet.view_conditioning; \
             train with it and data.views=conditioned",
            session.weights.path.display()
        )));
    }
    let own = session.config().data.side;
    let window = args.crop.unwrap_or(Window::whole(own));
    let inside = |at: usize, length: usize| at.saturating_add(length) <= own;
    if !inside(window.left, window.width) || !inside(window.top, window.height) {
        return Err(Error::usage(format!(
            "--crop: the crop must lie within the image of {own} x {own} pixels"
        )));
    }
    let named = session.images(&session.asked_or(&args.images, 0..8)?)?;
    let n = named.names.len();
    let geometry = Geometry { window, flip: args.flip };
    let generator = session.generator()?;
    let side = generator.side();
    let (z, seed) = (generator.encode(&named.images)?, args.sampling.seed);
    let view = geometry.within(&Geometry::plain(own)).repeat(n);
    let drawn = generator.decode(&z, &generator.noise(n, seed), Some(&view), seed)?;

    let mut cut = Vec::with_capacity(n * bytes_of(side));
    for i in 0..n {
        cut.extend(resized_crop(&named.images.image(i)?, geometry.window, geometry.flip, side));
    }
    let (originals, wanted) =
        (signed(&named.images, side)?, signed(&Images::new(side, cut, vec![0; n]), side)?);
    let row = |(label, images)| GridRow {
        label: Some(label),
        images: <[f32]>::chunks(images, bytes_of(side)).collect(),
    };
    let rows =
        [("original", &originals[..]), ("from z", &drawn), ("crop of original", &wanted)].map(row);
    let headings: Vec<&str> = named.names.iter().map(String::as_str).collect();
    save_table(&args.out, &headings, &rows, side, scale(side, LARGE))?;
    let quality = similarity(&drawn, &wanted, side)?;
    outln!(
        "PSNR {:.2} dB, SSIM {:.3} against the same crop of the image; picture {}",
        quality.psnr,
        quality.ssim,
        output::place(&args.out)
    );
    session.output.set("images", json!(named.names));
    let Window { left, top, width, height } = geometry.window;
    session.output.set("crop", json!([left, top, width, height]));
    session.output.set("flip", json!(args.flip));
    session.output.merge(json!(quality));
    session.finish()
}
