//! `soda probe`

pub mod baselines;
mod files;
mod grid;

use super::Common;
use super::images;
use super::output::{Output, with_spread};
use super::source::{WeightsArgs, frozen};
use crate::config::{DEFAULT_SIDE, ProbeConfig};
use crate::error::{Error, Result};
use crate::eval::features::FeatureKind;
use crate::eval::method::Method;
use crate::eval::probe::{Baselines, Probed, Protocol, Split, TrainViews};
use crate::progress::say;
use indicatif::HumanCount;
use serde_json::{Value, json};

/// Arguments of `soda probe`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    /// How features are scored.
    #[arg(long, value_parser = ["linear", "linear-full", "knn", "knn-lightly"], default_value = "linear")]
    protocol: String,
    /// Which features: z, backbone (the vector before the encoder's last layer), denoiser:BLOCK@T (a block of the denoiser, at
    /// noise level T, such as denoiser:up1.0@11), or pixels (no weights needed).
    #[arg(long, value_name = "KIND", default_value = "z")]
    features: String,
    /// What is learnt from: the plain image, image and mirror image, or fresh crops in each epoch (default: 2 for linear, else 1).
    #[arg(long, value_parser = ["1", "2", "online"])]
    train_views: Option<String>,
    /// What scores: the test set, or 10 % of the training set (for choosing between recipes).
    #[arg(long, value_parser = ["test", "selection"], default_value = "test")]
    split: String,
    /// Runs with different seeds (of the linear probe, and of the choice of labels); their mean and spread are reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Shares of the training labels to learn from, for example 0.01,0.1,1; `linear` trains for as many steps with each.
    #[arg(long, value_name = "SHARE,..", value_delimiter = ',', value_parser = fraction, default_values_t = [1.0])]
    fraction: Vec<f64>,
    /// Epochs that `linear` trains for (default: those of the weights' recipe, else 15); few images want many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    epochs: Option<u64>,
    /// Also score the features whitened: without correlations and of variance 1 by mean and covariance of what is learnt from, no labels.
    #[arg(long)]
    whiten: bool,
    /// Also score raw pixels and a randomly initialised encoder (computed once, then cached).
    #[arg(long)]
    baselines: bool,
    #[command(flatten)]
    files: files::FileArgs,
    #[command(flatten)]
    grid: grid::GridArgs,
}

fn fraction(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("expected a share above 0 and up to 1".into()),
    }
}

impl Args {
    fn protocol(&self) -> Result<Protocol> {
        let split = if self.split == "test" { Split::Test } else { Split::Selection };
        let standard = Protocol::new(self.protocol.parse()?, split, self.seeds);
        let views = match self.train_views.as_deref() {
            None => standard.views,
            Some("1") => TrainViews::Plain,
            Some("2") => TrainViews::Flip,
            Some(_) => TrainViews::Online,
        };
        let mut fractions = self.fraction.clone();
        fractions.sort_by(f64::total_cmp);
        fractions.dedup();
        Ok(Protocol { views, fractions, ..standard })
    }

    /// The score of the same features whitened, where it is asked for; printed.
    fn whitened(
        &self,
        name: &str,
        protocol: &Protocol,
        score: impl FnOnce(&Protocol) -> Result<Probed>,
    ) -> Result<Option<Probed>> {
        if !self.whiten {
            return Ok(None);
        }
        let probed = score(&Protocol { whiten: true, ..protocol.clone() })?;
        print_scores(&format!("{name} (whitened)"), &probed);
        Ok(Some(probed))
    }

    /// What `linear` trains as: the recipe's settings, or SODA's.
    fn training(&self, recipe: ProbeConfig) -> ProbeConfig {
        ProbeConfig { epochs: self.epochs.map_or(recipe.epochs, |n| n as usize), ..recipe }
    }
}

/// Scores features.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    if args.grid.asked() {
        return grid::run(args, common);
    }
    if let Some(done) = files::run(args, common) {
        return done;
    }
    let protocol = args.protocol()?;
    if args.features == "pixels" {
        return of_pixels(args, &protocol, common);
    }
    let kind: FeatureKind = args.features.parse()?;
    let mut output = Output::new("probe");
    let mut weights = args.weights.open()?;
    weights.config.probe = args.training(weights.config.probe);
    kind.check(&weights.config)?;
    let device = super::device(common)?;
    let dataset = images::open(common, &weights)?;
    say(&format!("probing {} on {}, {}", weights.path.display(), device.describe(), dataset.describe()));
    let model = weights.model(&device.device)?;
    let frozen = frozen(&weights, &model, &dataset, &device);
    let probed = protocol.of_model(&frozen, &kind)?;
    let n_test = protocol.indices(&dataset).1.len();
    print_head(&protocol, &args.features, "images", &probed, n_test);
    print_scores(&args.features, &probed);
    let whitened = args.whitened(&args.features, &protocol, |protocol| protocol.of_model(&frozen, &kind))?;
    let baselines = match args.baselines {
        true => Some(baselines::cached(&protocol, &frozen, &kind)?),
        false => None,
    };
    if let Some(b) = &baselines {
        print_scores("raw pixels", &b.pixels);
        print_scores("untrained encoder", &b.random_encoder);
    }
    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, &args.split, n_test);
    output.merge(to_json(&protocol, &weights.config.probe, &args.features, &probed, baselines.as_ref(), n_test));
    whitened.iter().for_each(|probed| output.set("whitened", json!(probed)));
    output.write(common)
}

/// Scores raw pixels, for which no weights are needed.
fn of_pixels(args: &Args, protocol: &Protocol, common: &Common) -> Result<()> {
    if args.baselines
        || args.whiten
        || args.weights.run.is_some()
        || args.weights.weights.is_some()
        || protocol.views == TrainViews::Online
    {
        let message = "--features pixels needs no weights and is a baseline itself, of images that were read once";
        return Err(Error::usage(format!(
            "{message}; leave out --run, --weights, --baselines, --whiten and --train-views online"
        )));
    }
    let mut output = Output::new("probe");
    let config = args.training(ProbeConfig::default());
    let dataset = images::named(common, DEFAULT_SIDE)?;
    say(&format!("probing raw pixels of {}", dataset.describe()));
    let probed = protocol.of_pixels(&dataset, &config)?;
    let n_test = protocol.indices(&dataset).1.len();
    print_head(protocol, "pixels", "images", &probed, n_test);
    print_scores("raw pixels", &probed);
    output.set("device", json!("cpu"));
    output.set("adapter", Value::Null);
    output.data(&dataset, &args.split, n_test);
    output.merge(to_json(protocol, &config, "pixels", &probed, None, n_test));
    output.write(common)
}

/// The probe block of every JSON.
pub fn to_json(
    protocol: &Protocol,
    config: &ProbeConfig,
    features: &str,
    probed: &Probed,
    baselines: Option<&Baselines>,
    n_test: usize,
) -> Value {
    let mut block = json!({
        "protocol": protocol.method,
        "features": features,
        "train_views": protocol.views,
        "split": protocol.split,
        // Of the images held out; the test set needs none.
        "split_seed": (protocol.split == Split::Selection).then_some(0),
        "seeds": protocol.seeds,
        "epochs": (protocol.method == Method::Linear).then_some(config.epochs),
        "n_test": n_test,
        "baselines": baselines,
        // What the baselines learn from: encoded once, so never "online".
        "baselines_train_views": baselines.map(|_| if protocol.views == TrainViews::Plain { "1" } else { "2" }),
    });
    if let (Value::Object(block), Value::Object(scores)) = (&mut block, json!(probed)) {
        block.extend(scores);
    }
    block
}

/// `what` is what the test set consists of.
fn print_head(protocol: &Protocol, features: &str, what: &str, probed: &Probed, n_test: usize) {
    let judge = if protocol.split == Split::Test { format!("test {what}") } else { format!("training {what} held out") };
    let judge = format!("scored on {} {judge}", HumanCount(n_test as u64));
    let (method, runs) = (protocol.method, probed.point.runs);
    let runs = match (runs, method.is_drawn() || probed.point.fraction < 1.0) {
        (_, false) => " (deterministic)".into(),
        (1, _) => ", one seed".into(),
        _ => format!(", {runs} seeds"),
    };
    outln!("{method} on {features}: {judge}{runs}");
}

fn print_scores(name: &str, probed: &Probed) {
    let curve = if probed.curve.is_empty() { std::slice::from_ref(&probed.point) } else { &probed.curve };
    for point in curve {
        let s = &point.score;
        let scores = [(s.top1, s.top1_spread), (s.top3, s.top3_spread), (s.top5, s.top5_spread)];
        let [top1, top3, top5] = scores.map(|(mean, spread)| match point.runs {
            1 => format!("{mean:.1} %"),
            _ => with_spread((mean, spread)),
        });
        let labels = format!("{:>6} labels", HumanCount(point.n_train as u64));
        outln!("  {name:<15} {labels}  top-1 {top1:<16} top-3 {top3:<16} top-5 {top5}");
    }
}
