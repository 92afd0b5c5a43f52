//! `soda quickstart`: score and show the shipped weights, train them a little further, score and show again.

use super::Common;
use super::output::{Output, with_spread, write_json};
use super::source::{QUICKSTART, called, describe, frozen};
use super::train::Interrupt;
use super::{probe, reconstruct};
use crate::config::{BUILT_IN, Config, SampleConfig, Sampler};
use crate::data::{self, Dataset};
use crate::device::{self, Selected};
use crate::edit::decoder::Decoder;
use crate::error::{Error, Result};
use crate::eval::features::FeatureKind;
use crate::eval::image::Similarity;
use crate::eval::method::Method;
use crate::eval::probe::{Baselines, Probed, Protocol, Split};
use crate::files;
use crate::model::shipped;
use crate::model::weights::WeightsFile;
use crate::progress::say;
use crate::run_dir::RunDir;
use crate::train::run::{Options, train as train_run};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Arguments of `soda quickstart`.
#[derive(clap::Args)]
pub struct Args {
    /// Where everything is written; an interrupted quickstart there goes on.
    #[arg(long, value_name = "DIR", default_value = QUICKSTART)]
    out: PathBuf,
    /// Minutes of training at most (default: 2, from scratch 7); slower machines stop earlier than the recipe's last step.
    #[arg(long, value_name = "MINUTES", value_parser = super::minutes)]
    max_minutes: Option<f64>,
    /// Train a smaller network from random weights (configs/quick.toml) instead of the shipped one a little further
    /// (configs/finetune.toml).
    #[arg(long)]
    from_scratch: bool,
    /// Override one value of that recipe, for example train.steps=100; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Scores and draws the shipped weights, trains, and does so again.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("quickstart");
    let run = RunDir::new(&args.out);
    let config = recipe(args, &run)?;
    let device = device::select(&common.device)?;
    let dataset = match &common.data {
        Some(path) => data::open(Some(path), config.data.side)?,
        None => data::bundled()?.at(config.data.side)?,
    };
    // Before the minutes of training, not after them.
    dataset.require_classes("quickstart's probe")?;
    say(&format!("quickstart on {} ({}), {}", device.describe(), device.why, dataset.describe()));
    files::create_dir(&args.out)?;

    let shipped = if args.from_scratch { None } else { Some(Arc::new(shipped::open()?)) };
    let mut baselines = None;
    if let Some(weights) = &shipped {
        say(&format!("probing and drawing with the {}", describe(weights)));
        let shown = show(weights, &dataset, &device, args.out.join("shipped.png"), &mut baselines)?;
        shown.print(&format!("The {}", describe(weights)));
        let sha256 = &weights.sha256;
        output.set("shipped", json!({ "sha256": sha256, "probe": shown.probe, "reconstruction": shown.quality }));
    }

    let started = Instant::now();
    let limit = Some(Duration::from_secs_f64(60.0 * args.max_minutes.unwrap_or(if args.from_scratch { 7.0 } else { 2.0 })));
    let interrupt = Interrupt::listen()?;
    let called = called(shipped.is_some().then_some("shipped".as_ref()));
    let options = Options { limit, resume: true, from: shipped.clone(), interrupt: interrupt.stop, called, ..Options::default() };
    let trained = train_run(&config, &dataset, &device, &run, &options)?;
    interrupt.let_go.store(true, Ordering::Relaxed);
    if trained.interrupted {
        outln!("stopped at step {}, checkpoint written; the same command goes on from there", trained.steps);
        return output.write(common);
    }
    let took = started.elapsed().as_secs_f64();

    say("probing and drawing with the trained weights");
    let weights = WeightsFile::open(&run.weights()?)?;
    let shown = show(&weights, &dataset, &device, args.out.join("reconstruction.png"), &mut baselines)?;
    let baselines = baselines.expect("scored with the first weights");
    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, "test", dataset.test.len());
    output.set("train", json!(trained));
    output.set("probe", shown.probe.clone());
    output.set("reconstruction", json!(shown.quality));
    let [pixels, random] = [&baselines.pixels, &baselines.random_encoder].map(|b| b.point.score.top1);
    output.set("baselines", json!({ "pixels_top1": pixels, "random_encoder_top1": random }));
    write_json(&args.out.join("summary.json"), &output.finish())?;
    output.write(common)?;
    outln!(
        "Trained {} {}steps at {:.0} images/s on {} ({took:.0} s), loss {:.3} -> {:.3} ({}).",
        trained.steps,
        if args.from_scratch { "" } else { "more " },
        trained.images_per_s,
        device.describe(),
        trained.loss_first,
        trained.loss_last,
        run.loss_plot().display()
    );
    shown.print("After it");
    print_baselines(&baselines, dataset.classes.len());
    outln!(
        "Next: `soda data fetch`, then `soda train --config configs/cifar10.toml`; `soda devices` shows what it would run on."
    );
    Ok(())
}

/// The recipe of what is trained.
fn recipe(args: &Args, run: &RunDir) -> Result<Config> {
    let out = args.out.display();
    if !run.exists() {
        let name = if args.from_scratch { "configs/quick.toml" } else { "configs/finetune.toml" };
        let (name, text) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name).expect("a recipe of that name");
        return Config::parse(text, name, &args.set);
    }
    let own = run.read_config()?;
    if Config::load(&run.config(), &args.set)? != own {
        return Err(Error::usage(format!("--set: {out} continues with its own recipe; choose another --out to change it")));
    }
    let began_trained = run.read_starts().first().is_some_and(|start| start.from.is_some());
    if began_trained == args.from_scratch {
        let (holds, change) =
            if args.from_scratch { ("further", "leave --from-scratch out") } else { ("from scratch", "add --from-scratch") };
        return Err(Error::usage(format!("{out} holds a quickstart that trains {holds}; {change}, or choose another --out")));
    }
    Ok(own)
}

/// What weights came to.
struct Shown {
    probe: Value,
    probed: Probed,
    quality: Similarity,
    picture: PathBuf,
}

/// Probes `weights` and draws with them to `picture`; `baselines` are scored where they haven't been.
fn show(
    weights: &WeightsFile,
    dataset: &Dataset,
    device: &Selected,
    picture: PathBuf,
    baselines: &mut Option<Baselines>,
) -> Result<Shown> {
    let (config, n_test) = (&weights.config, dataset.test.len());
    let model = weights.model(&device.device)?;
    let protocol = Protocol::new(Method::Linear, Split::Test, 3);
    let frozen = frozen(weights, &model, dataset, device);
    let probed = protocol.of_model(&frozen, &FeatureKind::Z)?;
    let baselines = match baselines {
        Some(baselines) => baselines,
        None => baselines.insert(protocol.baselines(&frozen, &FeatureKind::Z)?),
    };
    let probe = probe::to_json(&protocol, &config.probe, "z", &probed, Some(baselines), n_test);
    // The noise of ancestral sampling mends what a small denoiser gets wrong; DDIM in 50 steps leaves it in the picture.
    let steps = (2 * config.sample.steps).min(config.diffusion.steps);
    let sample = SampleConfig { sampler: Sampler::Ddpm, steps, ..config.sample.clone() };
    let decoder = Decoder::new(&model, config, sample, &device.device);
    let quality = reconstruct::draw(&decoder, dataset, 20.min(n_test), config.seed, &picture)?;
    Ok(Shown { probe, probed, quality, picture })
}

impl Shown {
    /// Scores and picture in a line or two.
    fn print(&self, what: &str) {
        let score = &self.probed.point.score;
        outln!(
            "{what}: a linear classifier on z finds the class of {} of unseen images (top-3 {:.1} %).",
            with_spread((score.top1, score.top1_spread)),
            score.top3
        );
        outln!(
            "  Images drawn from their z alone, over the originals: {} (PSNR {:.1} dB).",
            self.picture.display(),
            self.quality.psnr
        );
    }
}

fn print_baselines(baselines: &Baselines, classes: usize) {
    let [pixels, random] = [&baselines.pixels, &baselines.random_encoder].map(|b| &b.point.score);
    outln!(
        "  The same classifier on raw pixels: {}; on an untrained encoder: {}; chance: {} %.",
        with_spread((pixels.top1, pixels.top1_spread)),
        with_spread((random.top1, random.top1_spread)),
        (1000.0 / classes as f64).round() / 10.0
    );
}
