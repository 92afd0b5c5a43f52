//! `soda quickstart`: train, score, show.

use super::Common;
use super::output::{Output, with_spread, write_json};
use super::source::{QUICKSTART, frozen};
use super::train::Interrupt;
use super::{probe, reconstruct};
use crate::config::{BUILT_IN, Config};
use crate::data;
use crate::device;
use crate::edit::decoder::Decoder;
use crate::error::{Error, Result};
use crate::eval::features::FeatureKind;
use crate::eval::method::Method;
use crate::eval::probe::{Protocol, Split};
use crate::files;
use crate::model::weights::WeightsFile;
use crate::run_dir::RunDir;
use crate::train::run::{Options, train as train_run};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Arguments of `soda quickstart`.
#[derive(clap::Args)]
pub struct Args {
    /// Where everything is written; an interrupted quickstart there goes on.
    #[arg(long, value_name = "DIR", default_value = QUICKSTART)]
    out: PathBuf,
    /// Minutes of training at most; slower machines stop earlier than the recipe's last step.
    #[arg(long, value_name = "MINUTES", default_value_t = 7.0, value_parser = super::minutes)]
    max_minutes: f64,
    /// Override one value of configs/quick.toml, for example train.steps=100; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Trains the quick recipe, probes it and draws reconstructions.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let started = Instant::now();
    let mut output = Output::new("quickstart");
    let run = RunDir::new(&args.out);
    if run.exists() && !args.set.is_empty() {
        let out = args.out.display();
        return Err(Error::usage(format!("--set: {out} continues with its own recipe; choose another --out to change it")));
    }
    let (recipe, text) = BUILT_IN[0];
    let config = if run.exists() { run.read_config()? } else { Config::parse(text, recipe, &args.set)? };
    let device = device::select(&common.device)?;
    let dataset = match &common.data {
        Some(path) => data::open(Some(path))?,
        None => data::bundled()?,
    };
    // Before the minutes of training, not after them.
    dataset.require_classes("quickstart's probe")?;
    eprintln!("quickstart on {} ({}), {}", device.describe(), device.why, dataset.describe());
    let limit = Some(Duration::from_secs_f64(args.max_minutes * 60.0));
    let interrupt = Interrupt::listen()?;
    let options = Options { limit, resume: true, interrupt: interrupt.stop };
    let trained = train_run(&config, &dataset, &device, &run, &options)?;
    interrupt.let_go.store(true, Ordering::Relaxed);

    eprintln!("probing");
    let weights = WeightsFile::open(&run.weights()?)?;
    let model = weights.model(&device.device)?;
    let protocol = Protocol::new(Method::Linear, Split::Test, 3);
    let frozen = frozen(&weights, &model, &dataset, &device);
    let probed = protocol.of_model(&frozen, &FeatureKind::Z)?;
    let baselines = protocol.baselines(&frozen, &FeatureKind::Z)?;

    eprintln!("reconstructing");
    let picture = args.out.join("reconstruction.png");
    let decoder = Decoder::new(&model, &config, config.sample.clone(), &device.device);
    let quality = reconstruct::draw(&decoder, &dataset, 20.min(dataset.test.len()), config.seed, &picture)?;

    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, "test", dataset.test.len());
    output.set("train", json!(trained));
    output.set("probe", probe::to_json(&protocol, &config.probe, "z", &probed, Some(&baselines), dataset.test.len()));
    let [z, pixels, random] = [&probed, &baselines.pixels, &baselines.random_encoder].map(|p| p.point.score);
    output.set("baselines", json!({ "pixels_top1": pixels.top1, "random_encoder_top1": random.top1 }));
    output.set("reconstruction", json!(quality));
    let summary = output.finish();
    files::create_dir(&args.out)?;
    write_json(&args.out.join("summary.json"), &summary)?;
    output.write(common)?;

    let dir = args.out.display();
    println!(
        "Trained {} steps at {:.0} images/s on {} ({:.0} s in all), loss {:.3} -> {:.3} ({dir}/loss.png).",
        trained.steps,
        trained.images_per_s,
        device.describe(),
        started.elapsed().as_secs_f64(),
        trained.loss_first,
        trained.loss_last
    );
    println!(
        "A linear classifier on z finds the class of {} of unseen images (top-3 {:.1} %); chance is {} %.",
        with_spread((z.top1, z.top1_spread)),
        z.top3,
        (1000.0 / dataset.classes.len() as f64).round() / 10.0
    );
    println!(
        "The same on raw pixels: {}; on the untrained encoder: {}.",
        with_spread((pixels.top1, pixels.top1_spread)),
        with_spread((random.top1, random.top1_spread))
    );
    println!("Images drawn from their z alone, over the originals: {dir}/reconstruction.png (PSNR {:.1} dB).", quality.psnr);
    println!(
        "Next: `soda data fetch`, then `soda train --config configs/cifar10.toml`; `soda devices` shows what it would run on."
    );
    Ok(())
}
