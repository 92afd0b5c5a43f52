//! `soda quickstart`: scores the shipped weights and the baselines, saves a picture, then trains a
//! small network for 200 steps.

use crate::cli::args::weights::{QUICKSTART, called, describe};
use crate::cli::args::{Common, images};
use crate::cli::device;
use crate::cli::fitted::{frozen, linear_decoder};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{Output, refuse_occupied, with_spread};
use crate::cli::scores;
use crate::cli::session::draw_reconstructions;
use crate::cli::summary::{self, Summary};
use serde_json::{Value, json};
use soda::config::{Config, ProbeConfig};
use soda::data::{self, Dataset};
use soda::device::Selected;
use soda::edit::generator::Generator;
use soda::error::{Error, Result};
use soda::eval::features::FeatureKind;
use soda::eval::method::Method;
use soda::eval::probe::{Protocol, Split, trained};
use soda::files;
use soda::model::shipped;
use soda::model::weights::WeightsFile;
use soda::progress::{say, warn};
use soda::run_dir::RunDir;
use soda::train::run::{Options, train as train_run};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Arguments of `soda quickstart`.
#[derive(clap::Args)]
pub struct Args {
    /// Output folder. An existing quickstart is resumed, and finished parts are not repeated.
    #[arg(long, value_name = "DIR", default_value = QUICKSTART)]
    out: PathBuf,
    /// Maximum minutes of training (default: 1, with --from-scratch 7). Slower machines stop before
    /// the recipe's last step.
    #[arg(long, value_name = "MINUTES", allow_negative_numbers = true, value_parser = crate::cli::args::minutes)]
    max_minutes: Option<f64>,
    /// Train configs/quick.toml for some minutes, and score the trained network too. The default is
    /// to train the first 200 steps of configs/small.toml, without a score.
    #[arg(long)]
    from_scratch: bool,
    /// Override a value of the training recipe, e.g. train.steps=100 (repeatable).
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// The changes to configs/small.toml for the minute of training: it trains as the shipped weights
/// were, but with a shorter warmup and a log that shows how the loss falls.
const MINUTE: [&str; 8] = [
    "train.steps=200",
    "train.warmup_steps=20",
    "train.ema_decay=0.98",
    "train.log_every=5",
    "train.checkpoint_every=50",
    "train.evaluate_every=0",
    "train.evaluate_images=0",
    "sample.steps=20",
];

/// The seed of the sampling noise: the default of `soda reconstruct`, which produces the same
/// images.
const SEED: u64 = 0;

/// Scores the shipped weights and saves their reconstructions, scores the baselines, then trains.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("quickstart");
    let mut weights = shipped::open()?;
    let side = weights.config.data.side;
    let run = RunDir::new(&args.out);
    let config = recipe(args, &run)?;
    let device = device::selected(common)?;
    let open = |side| match &common.data {
        Some(_) => images::named(common, side),
        None => data::bundled()?.at(side),
    };
    if common.data.is_none() {
        let (asked, used) = (common.taking.options(), data::Options::default());
        images::unused(&asked, &used, "the bundled subset").iter().for_each(|text| warn(text));
    }
    let dataset = open(side)?;
    let trained_on =
        if config.data.side == side { dataset.clone() } else { open(config.data.side)? };
    // Checked before the minutes of work, not after them.
    dataset.require_classes("quickstart's probe")?;
    same_data(&run, &trained_on)?;
    refuse_occupied("--out", &run)?;
    files::create_dir(&args.out)?;
    let minutes = args.max_minutes.unwrap_or(if args.from_scratch { 7.0 } else { 1.0 });
    say(&format!("quickstart on {} ({}), {}", device.describe(), device.why, dataset.describe()));

    let evaluation = Evaluation {
        protocol: Protocol::new(Method::Linear, Split::Test, 3),
        dataset: &dataset,
        device: &device,
    };
    // Scored as in `soda probe`: image and mirror image, with more epochs on small sets.
    weights.config.probe = trained(&weights.config.probe, &dataset, dataset.train.len(), 2);
    let probe_config = &weights.config.probe;
    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, "test", dataset.test.len());
    output.set("linear", evaluation.settings(probe_config));
    output.set("recipe", json!(recipe_name(args.from_scratch)));
    let mut summary = Summary::open(&args.out, output.finish());

    let named = describe(&weights);
    let picture = args.out.join("reconstruction.png");
    let score = summary.block("probe", || {
        say(&format!("scoring the {named}"));
        evaluation.score(&weights)
    })?;
    print_score(&format!("The {named}"), &score);
    let drawn = summary.picture("reconstruction", &picture, || {
        say("reconstructing images from z");
        evaluation.draw(&weights, &picture)
    })?;
    summary.first()?;
    print_picture(&drawn, &picture);
    let baselines = summary.block("baselines", || {
        say("scoring raw pixels and an untrained encoder with the same protocol");
        evaluation.baselines(&weights)
    })?;
    outln!(
        "  The same probe on raw pixels: {}; on an untrained encoder: {}; chance: {} %.",
        top1(&baselines["pixels"]),
        top1(&baselines["random_encoder"]),
        (1000.0 / dataset.classes.len() as f64).round() / 10.0
    );

    let training = match summary.trained(&run) {
        Some(training) => training,
        None => {
            let most = minutes_of(minutes);
            say(&format!(
                "training a small network from random weights: {most} at most, {} steps",
                config.train.steps
            ));
            let interrupt = Interrupt::listen()?;
            let limit = Some(Duration::from_secs_f64(60.0 * minutes));
            let called = called(None);
            let options = Options {
                limit,
                resume: true,
                interrupt: interrupt.stop,
                called,
                ..Options::default()
            };
            let trained = train_run(&config, &trained_on, &device, &run, &options)?;
            interrupt.let_go.store(true, Ordering::Relaxed);
            if trained.interrupted {
                outln!(
                    "stopped at step {}, checkpoint written; run the same command to resume",
                    trained.steps
                );
                output.merge(summary.write()?);
                return output.write(common);
            }
            let mut block = json!(trained);
            let weights = WeightsFile::open(&run.weights()?)?;
            block["weights"] = json!({ "path": weights.path, "sha256": weights.sha256 });
            block["planned_steps"] = json!(config.train.steps);
            // Unknown for a run that an earlier call finished.
            block["max_minutes"] = json!((trained.trained > 0).then_some(minutes));
            summary.set("train", block)
        }
    };
    print_trained(&training, &run, &device);
    if args.from_scratch {
        score_trained(&evaluation, &mut summary, &run, probe_config, &baselines)?;
    }
    output.merge(summary.write()?);
    output.write(common)?;
    if let Some(kept) = summary.kept() {
        let out = args.out.display();
        say(&format!("already there: {kept}; delete {out} or choose --out to repeat it"));
    }
    let train = if device.gpu { "cifar10" } else { "small --max-minutes 120" };
    outln!(
        "Next: `soda data fetch`, then `soda train --config {train}` (`soda devices` lists the \
         devices)."
    );
    Ok(())
}

/// Scores the weights of the longer training and saves their reconstructions, under separate keys.
fn score_trained(
    evaluation: &Evaluation,
    summary: &mut Summary,
    run: &RunDir,
    probe: &ProbeConfig,
    baselines: &Value,
) -> Result<()> {
    let mut weights = WeightsFile::open(&run.weights()?)?;
    // Scored like the shipped weights, whatever the recipe says.
    weights.config.probe = probe.clone();
    let picture = run.path.join("from_scratch.png");
    if summary.before("from_scratch")["weights"]["sha256"] != weights.sha256 {
        summary.forget("from_scratch");
    }
    let scored = summary.picture("from_scratch", &picture, || {
        say("scoring the trained weights and reconstructing images with them");
        Ok(json!({
            "weights": { "path": weights.path, "sha256": weights.sha256 },
            "probe": evaluation.score(&weights)?,
            "reconstruction": evaluation.draw(&weights, &picture)?,
        }))
    })?;
    print_score("After training", &scored["probe"]);
    print_picture(&scored["reconstruction"], &picture);
    let [own, pixels] =
        [&scored["probe"], &baselines["pixels"]].map(|v| v["top1"].as_f64().unwrap_or(f64::NAN));
    if own < pixels {
        outln!(
            "  That is below raw pixels: the training was too short. The default 7 minutes reach \
             about 40 % on two CPU cores."
        );
    }
    Ok(())
}

fn recipe_name(from_scratch: bool) -> &'static str {
    if from_scratch { "configs/quick.toml" } else { "configs/small.toml" }
}

/// Returns the training recipe.
fn recipe(args: &Args, run: &RunDir) -> Result<Config> {
    let (out, name) = (args.out.display(), recipe_name(args.from_scratch));
    if !run.exists() {
        let shortened = MINUTE.into_iter().filter(|_| !args.from_scratch).map(str::to_owned);
        return Config::built_in(name, &shortened.chain(args.set.clone()).collect::<Vec<_>>());
    }
    match summary::read(&args.out)["recipe"].as_str() {
        Some(own) if own == name => {}
        own => {
            let (holds, change) = match own {
                Some("configs/quick.toml") => {
                    ("a quickstart that trains from scratch", "add --from-scratch, or ")
                }
                Some(_) => ("a quickstart that trains 200 steps", "leave --from-scratch out, or "),
                None => ("a run of another command", ""),
            };
            return Err(Error::usage(format!("{out} holds {holds}; {change}choose another --out")));
        }
    }
    let own = run.read_config()?;
    if Config::load(&run.config(), &args.set)? != own {
        return Err(Error::usage(format!(
            "--set: {out} continues with its own recipe; choose another --out to change it"
        )));
    }
    Ok(own)
}

/// Refuses images other than those the run started with.
fn same_data(run: &RunDir, data: &Dataset) -> Result<()> {
    let began = if run.exists() { run.read_starts().pop() } else { None };
    match began.filter(|start| start.data_sha256 != data.sha256) {
        Some(start) => Err(Error::usage(format!(
            "{} holds a quickstart on {}, not on {}; name the same data with --data, or choose \
             another --out",
            run.path.display(),
            start.data,
            data.describe()
        ))),
        None => Ok(()),
    }
}

/// The evaluation, the same for everything that is compared.
struct Evaluation<'a> {
    protocol: Protocol,
    dataset: &'a Dataset,
    device: &'a Selected,
}

impl Evaluation<'_> {
    /// Returns the settings that scores depend on, apart from weights, images and device.
    fn settings(&self, probe: &ProbeConfig) -> Value {
        let Protocol { method, views, split, seeds, .. } = &self.protocol;
        json!({
            "protocol": method, "train_views": views, "split": split, "seeds": seeds,
            "epochs": probe.epochs, "batch_size": probe.batch_size, "lr": probe.lr,
        })
    }

    /// Returns the probe block of the z of `weights`.
    fn score(&self, weights: &WeightsFile) -> Result<Value> {
        let model = weights.model(&self.device.device)?;
        let frozen = frozen(weights, &model, self.dataset, self.device);
        let probed = self.protocol.of_model(&frozen, &FeatureKind::Z)?;
        Ok(scores::to_json(
            &self.protocol,
            &weights.config.probe,
            "z",
            &probed,
            None,
            self.dataset.test.len(),
        ))
    }

    /// Returns the probe blocks of raw pixels and of an untrained encoder of the same architecture.
    fn baselines(&self, weights: &WeightsFile) -> Result<Value> {
        let model = weights.model(&self.device.device)?;
        let scored = scores::baselines(
            &self.protocol,
            &frozen(weights, &model, self.dataset, self.device),
            &FeatureKind::Z,
        )?;
        let block = |features, probed| {
            scores::to_json(
                &self.protocol,
                &weights.config.probe,
                features,
                probed,
                None,
                self.dataset.test.len(),
            )
        };
        Ok(json!({
            "pixels_top1": scored.pixels.point.score.top1,
            "random_encoder_top1": scored.random_encoder.point.score.top1,
            "pixels": block("pixels", &scored.pixels),
            "random_encoder": block("z", &scored.random_encoder),
        }))
    }

    /// Saves reconstructions of test images from z to `picture`, and returns their similarity.
    fn draw(&self, weights: &WeightsFile, picture: &Path) -> Result<Value> {
        let model = weights.model(&self.device.device)?;
        let sample = &weights.config.sample;
        let linear = match sample.begins_with_picture() {
            true => linear_decoder(weights, &model, || Ok(Some(self.dataset)), self.device)?,
            false => None,
        };
        let generator =
            Generator::new(&model, &weights.config, sample.clone(), &self.device.device)
                .beginning_with(linear);
        let n = 20.min(self.dataset.test.len());
        Ok(json!(draw_reconstructions(&generator, self.dataset, n, SEED, picture)?))
    }
}

/// Formats the top-1 score of a probe block as "54.6 % +- 0.3".
fn top1(probe: &Value) -> String {
    let number = |key: &str| probe[key].as_f64().unwrap_or(f64::NAN);
    with_spread((number("top1"), number("top1_spread")))
}

fn print_score(what: &str, probe: &Value) {
    let top3 = probe["top3"].as_f64().map_or(String::new(), |top3| format!(" (top-3 {top3:.1} %)"));
    outln!(
        "{what}: a linear probe on z classifies {} of unseen images correctly{top3}.",
        top1(probe)
    );
}

fn print_picture(quality: &Value, picture: &Path) {
    let psnr = quality["psnr"].as_f64().unwrap_or(f64::NAN);
    outln!(
        "  Reconstructions from z alone, over the originals: {} (PSNR {psnr:.1} dB).",
        picture.display()
    );
}

/// Prints the result of the training, without scores.
fn print_trained(trained: &Value, run: &RunDir, device: &Selected) {
    let number = |key: &str| trained[key].as_f64().unwrap_or(f64::NAN);
    let (steps, planned) = (&trained["steps"], &trained["planned_steps"]);
    let ended = match trained["max_minutes"].as_f64() {
        Some(minutes) if steps.as_u64() < planned.as_u64() => {
            format!(
                " It ended after {} (--max-minutes), at step {steps} of {planned}.",
                minutes_of(minutes)
            )
        }
        _ => String::new(),
    };
    outln!(
        "Training a small network from random weights: loss {:.3} -> {:.3} in {steps} steps, {:.0} \
         images/s on {} ({}).{ended}",
        number("loss_first"),
        number("loss_last"),
        number("images_per_s"),
        device.describe(),
        run.loss_plot().display()
    );
}

/// Formats minutes as "1 minute" or "0.5 minutes".
fn minutes_of(minutes: f64) -> String {
    format!("{minutes} minute{}", if minutes == 1.0 { "" } else { "s" })
}
