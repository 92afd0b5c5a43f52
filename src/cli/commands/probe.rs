//! `soda probe`: scores of frozen features.

mod classes;
mod files;
mod grid;
mod verdict;

use crate::cli::args::{Common, PrecisionArgs, WeightsArgs, count, images};
use crate::cli::device;
use crate::cli::fitted::{check_features, frozen};
use crate::cli::output::{Output, with_spread};
use crate::cli::scores;
use classes::{by_class, evaluation_labels, without_images};
use indicatif::HumanCount;
use serde_json::{Value, json};
use soda::config::{DEFAULT_SIDE, ProbeConfig};
use soda::data::Dataset;
use soda::error::{Error, Result};
use soda::eval::features::FeatureKind;
use soda::eval::method::Method;
use soda::eval::probe::{self, Probed, Protocol, Split, TrainViews};
use soda::progress::{say, warn};
use verdict::{Case, Verdict};

/// The size up to which a user's own data set is also scored with the baselines by default.
const FEW: usize = 20_000;

/// Arguments of `soda probe`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Evaluation protocol: linear probe, logistic regression (linear-full) or k-NN.
    #[arg(long, value_parser = ["linear", "linear-full", "knn", "knn-lightly"], default_value = "linear")]
    protocol: String,
    /// Features: z, backbone, denoiser:BLOCK@T or pixels. backbone is the pooled encoder output
    /// before the last layer; denoiser:BLOCK@T a block of the denoiser at noise level T, e.g.
    /// denoiser:up1.0@11; pixels needs no weights.
    #[arg(long, value_name = "KIND", default_value = "z")]
    features: String,
    /// Training views: 1 (image), 2 (image and mirror image), or online (new crops in each epoch).
    /// Default: 2 for linear, else 1.
    #[arg(long, value_parser = ["1", "2", "online"])]
    train_views: Option<String>,
    /// Evaluation images: the test set, or 10 % of the training set to tune on (selection).
    #[arg(long, value_parser = ["test", "selection"], default_value = "test")]
    split: String,
    /// Number of seeds; mean and spread of the scores are reported. A seed changes the linear probe
    /// and the choice of labels.
    #[arg(long, default_value_t = 3, allow_negative_numbers = true, value_parser = count::<u64>(1..=100))]
    seeds: u64,
    /// Fractions of the training labels to train on, e.g. 0.01,0.1,1. `linear` takes the same
    /// number of steps with each.
    #[arg(long, value_name = "SHARE,..", value_delimiter = ',', allow_negative_numbers = true, value_parser = fraction, default_values_t = [1.0])]
    fraction: Vec<f64>,
    /// Training epochs of `linear` (default: the recipe's, else 15). With few images of your own,
    /// the default is raised to reach 1,000 steps.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count::<u64>(1..=1_000_000))]
    epochs: Option<u64>,
    /// Also score the whitened features: decorrelated and scaled to variance 1. Mean and covariance
    /// are those of the training features; labels are not used.
    #[arg(long)]
    whiten: bool,
    /// Also score raw pixels and a randomly initialised encoder (computed once, then cached). On by
    /// default for up to 20,000 images of your own.
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
        _ => Err("expected a fraction above 0 and up to 1".into()),
    }
}

impl Args {
    fn protocol(&self) -> Result<Protocol> {
        let split = if self.split == "test" { Split::Test } else { Split::Selection };
        let standard = Protocol::new(self.protocol.parse()?, split, self.seeds);
        if self.epochs.is_some() && standard.method != Method::Linear {
            return Err(Error::usage(format!(
                "--epochs is for the protocol linear; {} has no epochs",
                standard.method
            )));
        }
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

    /// Scores and prints the whitened features, if requested.
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
        print_scores(protocol, &format!("{name} (whitened)"), &probed);
        Ok(Some(probed))
    }

    /// Returns the training settings of `linear`: the recipe's, with --epochs applied.
    fn training(&self, recipe: ProbeConfig) -> ProbeConfig {
        ProbeConfig { epochs: self.epochs.map_or(recipe.epochs, |n| n as usize), ..recipe }
    }

    /// Like [`Args::training`], for the images of `data`; reports if it trains longer than the
    /// recipe says.
    fn training_on(&self, data: &Dataset, protocol: &Protocol, recipe: ProbeConfig) -> ProbeConfig {
        if self.epochs.is_some() || protocol.method != Method::Linear {
            return self.training(recipe);
        }
        let (images, views) =
            (protocol.indices(data).0.len(), 1 + usize::from(protocol.views == TrainViews::Flip));
        let chosen = probe::trained(&recipe, data, images, views);
        if chosen.epochs > recipe.epochs {
            say(&format!(
                "linear trains for {} epochs instead of {}, because {} training images make few \
                 steps per epoch; --epochs overrides this",
                HumanCount(chosen.epochs as u64),
                HumanCount(recipe.epochs as u64),
                HumanCount(images as u64)
            ));
        }
        chosen
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
    let kind = kind(&args.features)?;
    let mut output = Output::new("probe");
    let mut weights = args.weights.open()?;
    check_features(&kind, &weights)?;
    let device = device::selected(common)?;
    let dataset = images::open(common, &weights)?;
    weights.config.probe = args.training_on(&dataset, &protocol, weights.config.probe);
    say(&format!(
        "probing {} on {}, {}",
        weights.path.display(),
        device.describe(),
        dataset.describe()
    ));
    let model = args.precision.model(&weights, &device, &mut output)?;
    let frozen = frozen(&weights, &model, &dataset, &device);
    let probed = protocol.of_model(&frozen, &kind)?;
    let labels = evaluation_labels(&protocol, &dataset);
    let n_test = labels.len();
    print_head(&protocol, &args.features, "images", &probed, n_test);
    print_scores(&protocol, &args.features, &probed);
    let whitened =
        args.whitened(&args.features, &protocol, |protocol| protocol.of_model(&frozen, &kind))?;
    let is_own = !dataset.inventory.reading.is_empty();
    let baselines =
        match args.baselines || is_own && dataset.train.len() + dataset.test.len() <= FEW {
            true => Some(scores::baselines(&protocol, &frozen, &kind)?),
            false => None,
        };
    if let Some(b) = &baselines {
        print_scores(&protocol, "raw pixels", &b.pixels);
        print_scores(&protocol, "untrained encoder", &b.random_encoder);
    }
    without_images(&dataset, &labels).iter().for_each(|line| warn(line));
    if is_own {
        let training: Vec<u16> =
            protocol.indices(&dataset).0.into_iter().map(|i| dataset.train.label(i)).collect();
        let verdict = Verdict::of(&Case {
            features: &args.features,
            classes: &dataset.classes,
            labels: [&training, &labels],
            probed: &probed,
            baselines: baselines.as_ref(),
            held_out: protocol.split == Split::Selection,
            trained_on_them: weights.trained().is_some_and(|t| t.data_sha256 == dataset.sha256),
        });
        outln!("{}", verdict.sentence);
        output.set("verdict", json!(verdict));
    }
    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, &args.split, n_test);
    output.merge(scores::to_json(
        &protocol,
        &weights.config.probe,
        &args.features,
        &probed,
        baselines.as_ref(),
        n_test,
    ));
    output.merge(by_class(&dataset, &labels, &probed));
    whitened.iter().for_each(|probed| output.set("whitened", scores::scored(probed)));
    output.write(common)
}

/// Parses the features of networks.
fn kind(text: &str) -> Result<FeatureKind> {
    text.parse().map_err(|e| match text.starts_with("denoiser") {
        true => e,
        false => Error::usage(format!("{e}; or pixels, which need no weights")),
    })
}

/// Scores raw pixels, which need no weights.
fn of_pixels(args: &Args, protocol: &Protocol, common: &Common) -> Result<()> {
    if args.baselines
        || args.whiten
        || args.weights.run.is_some()
        || args.weights.weights.is_some()
        || !args.precision.is_f32()
        || protocol.views == TrainViews::Online
    {
        let message =
            "--features pixels is itself a baseline, without weights, of images read once";
        return Err(Error::usage(format!(
            "{message}; leave out --run, --weights, --precision, --baselines, --whiten and \
             --train-views online"
        )));
    }
    common.warn_unused_device("raw pixels are scored on the CPU");
    let mut output = Output::new("probe");
    let dataset = images::named(common, DEFAULT_SIDE)?;
    let config = args.training_on(&dataset, protocol, ProbeConfig::default());
    say(&format!("probing raw pixels of {}", dataset.describe()));
    let probed = protocol.of_pixels(&dataset, &config)?;
    let labels = evaluation_labels(protocol, &dataset);
    let n_test = labels.len();
    print_head(protocol, "pixels", "images", &probed, n_test);
    print_scores(protocol, "raw pixels", &probed);
    without_images(&dataset, &labels).iter().for_each(|line| warn(line));
    output.set("device", json!("cpu"));
    output.set("adapter", Value::Null);
    output.data(&dataset, &args.split, n_test);
    output.merge(scores::to_json(protocol, &config, "pixels", &probed, None, n_test));
    output.merge(by_class(&dataset, &labels, &probed));
    output.write(common)
}

/// Prints what is scored; `what` names the items of the test set.
fn print_head(protocol: &Protocol, features: &str, what: &str, probed: &Probed, n_test: usize) {
    let images = if protocol.split == Split::Test {
        format!("test {what}")
    } else {
        format!("held-out training {what}")
    };
    let scored = format!("scored on {} {images}", HumanCount(n_test as u64));
    let method = protocol.method;
    let points = std::iter::once(&probed.point).chain(&probed.curve);
    let runs = points.clone().map(|point| point.runs).max().unwrap_or(1);
    let few = points.clone().any(|point| point.fraction < 1.0);
    let runs = match (runs, method.is_drawn() || few) {
        (_, false) => " (deterministic)".into(),
        (1, _) => ", one seed".into(),
        _ => format!(", {runs} seeds"),
    };
    outln!("{method} on {features}: {scored}{runs}");
}

fn print_scores(protocol: &Protocol, name: &str, probed: &Probed) {
    let curve =
        if probed.curve.is_empty() { std::slice::from_ref(&probed.point) } else { &probed.curve };
    for point in curve {
        let s = &point.score;
        let scores = [
            ("top-1", Some(s.top1), Some(s.top1_spread)),
            ("top-3", s.top3, s.top3_spread),
            ("top-5", s.top5, s.top5_spread),
        ];
        let mut line =
            format!("  {name:<17} {:>6} labels", HumanCount(point.n_train as u64).to_string());
        for (what, mean, spread) in scores {
            let Some((mean, spread)) = mean.zip(spread) else { continue };
            let score =
                if point.runs == 1 { format!("{mean:.1} %") } else { with_spread((mean, spread)) };
            line += &format!("  {what} {score:<15}");
        }
        let fewer =
            point.neighbours.filter(|&k| protocol.method.rule().is_some_and(|rule| k < rule.k));
        if let Some(k) = fewer {
            line += &format!(
                "  ({k} neighbour{}, limited to the average class size)",
                if k == 1 { "" } else { "s" }
            );
        }
        outln!("{}", line.trim_end());
    }
}
