//! Reconstructs images from their z alone and shows them above the originals.
//!
//! ```text
//! cargo run --release --example reconstruct -- reconstruction.png
//! ```

use soda::edit::generator::signed;
use soda::edit::linear_decoder::LinearDecoder;
use soda::eval::psnr_ssim::similarity;
use soda::model::shipped;
use soda::prelude::*;
use soda::report::grid::save_reconstructions;
use std::path::PathBuf;
use std::sync::Arc;

fn main() -> Result<()> {
    let out = std::env::args_os().nth(1).map_or_else(|| "reconstruction.png".into(), PathBuf::from);

    let weights = shipped::open()?;
    let device = select("auto")?;
    let model = weights.model(&device.device)?;
    let config = &weights.config;
    let images = bundled()?.at(config.data.side)?.test.first(4);

    // Sampling starts from the image that a linear map makes of z, with noise of seed 0 added. The
    // map is stored with the weights.
    let linear = LinearDecoder::stored(&weights)?.map(Arc::new);
    let generator = Generator::new(&model, config, config.sample.clone(), &device.device)
        .beginning_with(linear);

    // z of the images, [N, 128], and images sampled from it.
    let z = generator.encode(&images)?;
    let reconstructions = generator.draw(&z, 0)?;

    let side = generator.side();
    let originals = signed(&images, side)?;
    save_reconstructions(&out, &reconstructions, &originals, side)?;
    let quality = similarity(&reconstructions, &originals, side)?;
    println!("{}: PSNR {:.1} dB, SSIM {:.3}", out.display(), quality.psnr, quality.ssim);
    Ok(())
}
