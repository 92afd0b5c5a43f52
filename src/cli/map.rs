//! `soda map`

use super::Common;
use super::images;
use super::output::{self, Holds, Output};
use super::source::WeightsArgs;
use crate::device;
use crate::error::{Error, Result};
use crate::eval::features::{FeatureKind, extract};
use crate::eval::map::{FEWEST, pca, preserved, tsne};
use crate::progress::say;
use crate::report::scatter::{Scatter, save_scatter};
use indicatif::HumanCount;
use serde_json::json;
use std::path::PathBuf;

/// Neighbours that are looked for on the map again.
const NEIGHBOURS: usize = 10;

/// Arguments of `soda map`.
#[derive(clap::Args)]
#[command(
    after_help = "Features are compared by their directions (L2-normalised), as `soda neighbours` does. Nothing is drawn at \
random: t-SNE starts from the principal components."
)]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    /// pca: the two directions of most variance. tsne: neighbours stay neighbours, distances between groups mean little.
    #[arg(long, value_parser = ["pca", "tsne"], default_value = "tsne")]
    method: String,
    /// z, backbone or denoiser:BLOCK@T, see `soda embed --help`.
    #[arg(long, value_name = "KIND", default_value = "z")]
    features: FeatureKind,
    /// Test images, the first ones of the set (all, where it has fewer).
    #[arg(long, value_name = "N", default_value_t = 2000)]
    limit: usize,
    /// t-SNE: about how many neighbours an image has (less where there are few images).
    #[arg(long, default_value_t = 30.0)]
    perplexity: f64,
    /// The picture.
    #[arg(long, value_name = "FILE", default_value = "map.png")]
    out: PathBuf,
}

/// Draws the map and measures it.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("map");
    let weights = args.weights.open()?;
    args.features.check(&weights.config)?;
    let device = device::select(&common.device)?;
    let dataset = images::open(common, &weights)?;
    let n = args.limit.min(dataset.test.len());
    if n < FEWEST {
        return Err(Error::usage(format!("--limit {}: a map needs at least {FEWEST} images", args.limit)));
    }
    if !(args.perplexity >= 1.0 && args.perplexity.is_finite()) {
        return Err(Error::usage(format!("--perplexity {}: choose 1 or more, 5 to 50 as a rule", args.perplexity)));
    }
    output::prepare("--out", &args.out, Holds::Picture)?;
    say(&format!("mapping {} with {} on {}", dataset.describe(), weights.path.display(), device.describe()));
    let model = weights.model(&device.device)?;
    let (all, kinds): (Vec<usize>, _) = ((0..n).collect(), [args.features.clone()]);
    let features = extract(&model, &dataset.test, &all, &weights.config, &kinds, false, &device.device)?.remove(0);

    let perplexity = args.perplexity.min((n - 1) as f64 / 3.0);
    let (points, axes, by) = if args.method == "pca" {
        let (points, shares) = pca(&features)?;
        let axis = |i: usize| format!("principal component {}, {:.1} % of the variance", i + 1, 100.0 * shares[i]);
        (points, [axis(0), axis(1)], "principal components".to_owned())
    } else {
        let points = tsne(&features, perplexity)?;
        (points, [String::new(), String::new()], format!("t-SNE, perplexity {perplexity:.0}"))
    };
    let kept = preserved(&features, &points, NEIGHBOURS.min(n - 1));
    let chance = 100.0 * NEIGHBOURS.min(n - 1) as f64 / (n - 1) as f64;
    let title = format!("{} of {} test images, {by}", args.features, HumanCount(n as u64));
    let labels = &features.labels;
    let axes = axes.each_ref().map(String::as_str);
    save_scatter(&args.out, &Scatter { title: &title, axes, points: &points, labels, classes: &dataset.classes })?;
    outln!(
        "{title}: {kept:.1} % of the {NEIGHBOURS} nearest neighbours kept (by chance {chance:.1} %); picture {}",
        args.out.display()
    );

    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, "test", n);
    output.merge(json!({ "features": args.features.to_string(), "method": args.method, "out": args.out, "n": n }));
    output.merge(json!({ "neighbours": NEIGHBOURS, "preserved": kept, "preserved_by_chance": chance }));
    output.set("perplexity", json!((args.method == "tsne").then_some(perplexity)));
    output.merge(json!({ "points": points, "labels": labels, "classes": dataset.classes }));
    output.write(common)
}
