//! Compares every sampler at several step counts with 1,000 steps of DDIM, from the same z and x_T:
//! how many evaluations of the denoiser a sample needs.
//!
//! `cargo bench --bench samplers -- WEIGHTS.safetensors [DEVICE]`

use soda::config::{Guidance, SampleConfig, Sampler};
use soda::data;
use soda::device;
use soda::edit::generator::Generator;
use soda::error::{Error, Result};
use soda::eval::psnr_ssim::similarity;
use soda::model::weights::WeightsFile;
use std::path::Path;
use std::time::Instant;

/// The number of images to sample.
const N: usize = 16;

fn main() {
    if let Err(error) = compare() {
        eprintln!("error: {error}");
        std::process::exit(error.exit_code().into());
    }
}

fn compare() -> Result<()> {
    // Cargo adds --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(path) = arguments.first() else {
        return Err(Error::usage(
            "name a weights file: cargo bench --bench samplers -- WEIGHTS.safetensors [DEVICE]",
        ));
    };
    let device = device::select(arguments.get(1).map_or("cpu", String::as_str))?;
    let weights = WeightsFile::open(Path::new(path))?;
    let (model, config) = (weights.model(&device.device)?, &weights.config);
    let images = data::open(None, config.data.side, &data::Options::default())?.test.first(N);
    println!(
        "{path} on {}, {N} images, guidance 0, no clipping, no noise added",
        device.describe()
    );

    let guidance = Guidance::Whole(0.0);
    let plain = SampleConfig { eta: 0.0, guidance, clip_x0: false, ..config.sample.clone() };
    let z = Generator::new(&model, config, plain.clone(), &device.device).encode(&images)?;
    let draw = |sampler, steps| -> Result<(Vec<f32>, f64)> {
        let generator = Generator::new(
            &model,
            config,
            SampleConfig { sampler, steps, ..plain.clone() },
            &device.device,
        );
        let clock = Instant::now();
        Ok((generator.draw(&z, 1)?, clock.elapsed().as_secs_f64()))
    };
    let (fine, seconds) = draw(Sampler::Ddim, config.diffusion.steps)?;
    println!("{:>10} {:>6} {:>9} {:>22}", "sampler", "steps", "seconds", "PSNR to most steps, dB");
    println!("{:>10} {:>6} {seconds:>9.2} {:>22}", "ddim", config.diffusion.steps, "-");
    for (name, sampler, steps) in [
        ("ddim", Sampler::Ddim, 10),
        ("ddim", Sampler::Ddim, 20),
        ("ddim", Sampler::Ddim, 50),
        ("ddim", Sampler::Ddim, 100),
        ("dpm-solver", Sampler::DpmSolver, 10),
        ("dpm-solver", Sampler::DpmSolver, 15),
        ("dpm-solver", Sampler::DpmSolver, 20),
        ("dpm-solver", Sampler::DpmSolver, 25),
    ] {
        let (drawn, seconds) = draw(sampler, steps)?;
        println!(
            "{name:>10} {steps:>6} {seconds:>9.2} {:>22.1}",
            similarity(&drawn, &fine, config.model.sides.target)?.psnr
        );
    }
    let (hundred, _) = draw(Sampler::Ddim, 100)?;
    let (twenty, _) = draw(Sampler::DpmSolver, 20)?;
    println!(
        "dpm-solver in 20 steps against ddim in 100: {:.1} dB",
        similarity(&twenty, &hundred, config.model.sides.target)?.psnr
    );
    Ok(())
}
