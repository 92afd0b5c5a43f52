//! `soda probe`

use super::Common;
use super::output::{Output, with_spread};
use super::source::WeightsArgs;
use crate::config::Config;
use crate::data::{self, Dataset};
use crate::device;
use crate::error::{Error, Result};
use crate::eval::probe::{Baselines, Protocol, Score, Split, TrainViews};
use crate::files;
use burn::tensor::Device;
use serde_json::{Value, json};

/// Arguments of `soda probe`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    /// How features are scored.
    #[arg(long, value_parser = ["linear"], default_value = "linear")]
    protocol: String,
    /// What the probe trains on: the plain image, image and mirror image, or fresh crops in each epoch.
    #[arg(long, value_parser = ["1", "2", "online"], default_value = "2")]
    train_views: String,
    /// Who judges: the test set, or 10 % of the training set (for choosing between recipes).
    #[arg(long, value_parser = ["test", "selection"], default_value = "test")]
    split: String,
    /// Probes trained, with different seeds; their mean and spread are reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Also score raw pixels and a randomly initialised encoder (computed once, then cached).
    #[arg(long)]
    baselines: bool,
}

/// Scores the encoder.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("probe");
    let weights = args.weights.open()?;
    let device = device::select(&common.device)?;
    let dataset = data::open(common.data.as_deref())?;
    let protocol = Protocol {
        views: match args.train_views.as_str() {
            "1" => TrainViews::Plain,
            "2" => TrainViews::Flip,
            _ => TrainViews::Online,
        },
        split: if args.split == "test" { Split::Test } else { Split::Selection },
        seeds: args.seeds,
    };
    eprintln!("probing {} on {}, {}", weights.path.display(), device.describe(), dataset.describe());
    let model = weights.model(&device.device)?;
    let score = protocol.linear(&model, &weights.config, &dataset, &device.device)?;
    println!("linear probe of z, {} split, {} seeds:", args.split, args.seeds);
    print_score("z", &score);
    let baselines = match args.baselines {
        true => Some(cached_baselines(&protocol, &weights.config, &dataset, &device.device)?),
        false => None,
    };
    if let Some(b) = &baselines {
        print_score("raw pixels", &b.pixels);
        print_score("random encoder", &b.random_encoder);
    }
    output.device(&device);
    output.weights(&weights);
    let (train, judge) = protocol.indices(&dataset);
    output.data(&dataset, &args.split, judge.len());
    output.merge(to_json(&protocol, &score, baselines.as_ref(), train.len(), judge.len()));
    output.write(common)
}

/// The probe block of every JSON.
pub fn to_json(protocol: &Protocol, score: &Score, baselines: Option<&Baselines>, n_train: usize, n_test: usize) -> Value {
    let mut block = json!({
        "protocol": "linear",
        "features": "z",
        "train_views": protocol.views,
        "split": protocol.split,
        "seeds": protocol.seeds,
        "n_train": n_train,
        "n_test": n_test,
        "baselines": baselines,
        // What the baselines' probes trained on: encoded once, so never "online".
        "baselines_train_views": baselines.map(|_| if protocol.views == TrainViews::Plain { "1" } else { "2" }),
    });
    let scores = json!(score);
    if let (Value::Object(block), Value::Object(scores)) = (&mut block, scores) {
        block.extend(scores);
    }
    block
}

fn print_score(name: &str, s: &Score) {
    let [top1, top3, top5] = [(s.top1, s.top1_spread), (s.top3, s.top3_spread), (s.top5, s.top5_spread)].map(with_spread);
    println!("  {name:<15} top-1 {top1:<16} top-3 {top3:<16} top-5 {top5}");
}

/// To be raised whenever initial weights, features or the probe change: cached baselines are then computed anew.
const BASELINES_REVISION: u32 = 1;

/// Baselines depend on the data and the untrained network alone: computed once for each, kept in the user's cache folder.
fn cached_baselines(protocol: &Protocol, config: &Config, dataset: &Dataset, device: &Device) -> Result<Baselines> {
    let key = format!(
        "{BASELINES_REVISION} {} {} {} {:?} {:?} {:?} {protocol:?}",
        dataset.sha256,
        config.seed,
        config.model.z_dim,
        config.model.encoder,
        (config.data.mean, config.data.std),
        config.probe,
    );
    let digest = &files::sha256(key.as_bytes())[..24];
    let path = dirs::cache_dir().map(|dir| dir.join("soda/baselines").join(format!("{digest}.json")));
    let read = path.as_ref().and_then(|p| std::fs::read(p).ok());
    if let Some(baselines) = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return Ok(baselines);
    }
    let baselines = protocol.baselines(config, dataset, device)?;
    if let Some(path) = path {
        let bytes = serde_json::to_vec(&baselines).map_err(|e| Error::failed(format!("cannot encode the baselines: {e}")))?;
        // A cache that can't be written costs the next caller some time, nothing else.
        if let Err(e) = files::create_parent(&path).and_then(|()| files::write_atomically(&path, &bytes)) {
            log::warn!("baselines not cached: {e}");
        }
    }
    Ok(baselines)
}
