//! `soda map`: images as points in the plane.

use crate::cli::args::{Common, PrecisionArgs, WeightsArgs, count, images, number};
use crate::cli::device;
use crate::cli::fitted::check_features;
use crate::cli::output::{self, Holds, Output};
use indicatif::HumanCount;
use serde_json::json;
use soda::data::Dataset;
use soda::error::{Error, Result};
use soda::eval::features::{FeatureKind, Features, extract};
use soda::eval::tsne::{FEWEST, pca, preserved, tsne};
use soda::progress::say;
use soda::report::scatter::{Kinds, Scatter, save_scatter};
use std::borrow::Cow;
use std::path::PathBuf;

/// The number of nearest neighbours compared between features and map (at most half of the other
/// images).
const NEIGHBOURS: usize = 10;
/// The number of test images below which the training images are shown too.
const ENOUGH: usize = 200;

/// Arguments of `soda map`.
#[derive(clap::Args)]
#[command(after_help = "Features are L2-normalised, as in `soda neighbours`. The result is \
                        deterministic: t-SNE starts from the principal components.")]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Projection: tsne or pca. t-SNE preserves neighbourhoods, but distances between groups mean
    /// little; PCA shows the two principal components.
    #[arg(long, value_parser = ["pca", "tsne"], default_value = "tsne")]
    method: String,
    /// Features: z, backbone or denoiser:BLOCK@T, see `soda embed --help`.
    #[arg(long, value_name = "KIND", default_value = "z")]
    features: FeatureKind,
    /// Maximum number of images, spread evenly over the set.
    #[arg(long, value_name = "N", default_value_t = 2000, allow_negative_numbers = true, value_parser = count::<usize>(..))]
    limit: usize,
    /// Images to show (default: test, or all if there are fewer than 200 test images).
    #[arg(long, value_parser = ["train", "test", "all"])]
    split: Option<String>,
    /// Draw thumbnails, as many as fit without overlapping; other images stay dots.
    #[arg(long)]
    thumbnails: bool,
    /// Perplexity of t-SNE: roughly the number of neighbours (default: 30, or a third of the
    /// images if that is less).
    #[arg(long, allow_negative_numbers = true, value_parser = number::<f64>)]
    perplexity: Option<f64>,
    /// Output picture.
    #[arg(long, value_name = "FILE", default_value = "map.png")]
    out: PathBuf,
}

/// Draws the map and measures how well it preserves neighbourhoods.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("map");
    let weights = args.weights.open()?;
    check_features(&args.features, &weights)?;
    let device = device::selected(common)?;
    let dataset = images::open(common, &weights)?;
    let split =
        args.split.as_deref().unwrap_or(if dataset.test.len() < ENOUGH { "all" } else { "test" });
    let shown = Shown::new(&dataset, split, args.limit);
    let n = shown.test.len() + shown.train.len();
    if n < FEWEST {
        if args.limit < FEWEST {
            return Err(Error::usage(format!(
                "--limit {}: a map needs at least {FEWEST} images",
                args.limit
            )));
        }
        let (train, test) = (dataset.train.len(), dataset.test.len());
        let remedy = if train + test >= FEWEST { "; --split all takes both" } else { "" };
        return Err(Error::usage(format!(
            "--split {split}: {n} images; a map needs at least {FEWEST} images, and the training \
             set holds {train}, the test set {test}{remedy}"
        )));
    }
    let near = NEIGHBOURS.min((n - 1) / 2);
    let most = ((n - 1) / 3) as f64;
    if let Some(perplexity) = args.perplexity {
        if args.method != "tsne" {
            return Err(Error::usage("--perplexity is for --method tsne; leave it out"));
        }
        if !(1.0..=most).contains(&perplexity) {
            return Err(Error::usage(format!(
                "--perplexity {perplexity}: must be between 1 and {most:.0}, a third of the {} \
                 images (5 to 50 is usual)",
                HumanCount(n as u64)
            )));
        }
    }
    let perplexity = args.perplexity.unwrap_or(most.min(30.0));
    output::prepare("--out", &args.out, Holds::Picture)?;
    say(&format!(
        "mapping {} with {} on {}",
        dataset.describe(),
        weights.path.display(),
        device.describe()
    ));
    let model = args.precision.model(&weights, &device, &mut output)?;
    let kinds = [args.features.clone()];
    let mut features = Features { dim: 0, values: Vec::new(), labels: Vec::new() };
    let sets = [(&dataset.test, &shown.test), (&dataset.train, &shown.train)];
    for (images, indices) in sets.into_iter().filter(|(_, indices)| !indices.is_empty()) {
        let part =
            extract(&model, images, indices, &weights.config, &kinds, false, &device.device)?
                .remove(0);
        features.dim = part.dim;
        features.values.extend(part.values);
        features.labels.extend(part.labels);
    }

    let (points, axes, by) = if args.method == "pca" {
        let (points, shares) = pca(&features)?;
        let axis = |i: usize| {
            format!(
                "principal component {}, {:.1} % of the variance at length 1",
                i + 1,
                100.0 * shares[i]
            )
        };
        (points, [axis(0), axis(1)], "principal components".to_owned())
    } else {
        let points = tsne(&features, perplexity)?;
        (points, [String::new(), String::new()], format!("t-SNE, perplexity {perplexity:.0}"))
    };
    let kept = preserved(&features, &points, near);
    let chance = 100.0 * near as f64 / (n - 1) as f64;
    let title = format!("{} of {}, {by}", args.features, shown.describe());
    let labels = &features.labels;
    let axes = axes.each_ref().map(String::as_str);
    let classes = &dataset.classes;
    let rings: Vec<bool> = (0..n).map(|i| i >= shown.test.len()).collect();
    let kinds = (split == "all")
        .then_some(Kinds { names: ["test image", "training image"], rings: &rings });
    let pictures = if args.thumbnails { shown.pictures(&dataset)? } else { Vec::new() };
    let pictures: Vec<&[u8]> = pictures.iter().map(|picture| &**picture).collect();
    let scatter = Scatter {
        title: &title,
        axes,
        points: &points,
        labels,
        classes,
        kinds,
        thumbnails: &pictures,
    };
    let drawn = save_scatter(&args.out, &scatter)?;
    let (thumbnails, of) = (HumanCount(drawn as u64), HumanCount(n as u64));
    let thumbnails = if args.thumbnails {
        format!(", {thumbnails} of {of} images as thumbnails")
    } else {
        String::new()
    };
    outln!(
        "{title}: {kept:.1} % of the {near} nearest neighbours kept (by chance {chance:.1} %); \
         picture {}{thumbnails}",
        output::place(&args.out)
    );

    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, split, n);
    output.merge(json!({ "features": args.features.to_string(), "method": args.method, "out": args.out, "n": n }));
    output.merge(json!({ "neighbours": near, "preserved": kept, "preserved_by_chance": chance }));
    output.set("perplexity", json!((args.method == "tsne").then_some(perplexity)));
    output.merge(json!({ "points": points, "labels": labels, "classes": classes, "images": shown.names(&dataset) }));
    output.set("thumbnails", json!(args.thumbnails.then_some(drawn)));
    output.write(common)
}

/// The images on the map, those of the test set first.
struct Shown {
    test: Vec<usize>,
    train: Vec<usize>,
}

impl Shown {
    /// Chooses at most `limit` images of `split`. With `all`, each set gets half of the limit, and
    /// what the other set leaves unused.
    fn new(dataset: &Dataset, split: &str, limit: usize) -> Self {
        let (train, test) = (dataset.train.len(), dataset.test.len());
        let (train, test) = match split {
            "test" => (0, test.min(limit)),
            "train" => (train.min(limit), 0),
            _ => {
                let of_test = test.min((limit / 2).max(limit.saturating_sub(train)));
                (train.min(limit - of_test), of_test)
            }
        };
        // Spread evenly, because a folder's images are sorted by class.
        let spread = |n: usize, of: usize| (0..n).map(|i| i * of / n).collect();
        Self { test: spread(test, dataset.test.len()), train: spread(train, dataset.train.len()) }
    }

    /// Returns "1,000 test images" or "20 test and 180 training images".
    fn describe(&self) -> String {
        let [test, train] = [&self.test, &self.train].map(|set| HumanCount(set.len() as u64));
        match (self.test.is_empty(), self.train.is_empty()) {
            (false, true) => format!("{test} test images"),
            (true, _) => format!("{train} training images"),
            _ => format!("{test} test and {train} training images"),
        }
    }

    /// Returns the names of the images: their own if they have any, else test:17 or train:3.
    fn names(&self, dataset: &Dataset) -> Vec<String> {
        let of_test = self.test.iter().map(|&i| dataset.test.name(i).into_owned());
        of_test.chain(self.train.iter().map(|&i| dataset.train.name(i).into_owned())).collect()
    }

    fn pictures<'a>(&self, dataset: &'a Dataset) -> Result<Vec<Cow<'a, [u8]>>> {
        let test = self.test.iter().map(|&i| dataset.test.image(i));
        test.chain(self.train.iter().map(|&i| dataset.train.image(i))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use soda::data::inventory::Inventory;
    use soda::data::names::Names;
    use soda::data::{Images, Options, bytes_of};
    use std::sync::Arc;

    fn dataset(train: usize, test: usize) -> Dataset {
        let images = |n: usize, set| {
            Arc::new(
                Images::new(1, vec![0; n * bytes_of(1)], vec![0; n]).named(Names::Numbered(set)),
            )
        };
        Dataset {
            name: String::new(),
            origin: String::new(),
            train: images(train, "train"),
            test: images(test, "test"),
            resampled_from: None,
            classes: Vec::new(),
            sha256: String::new(),
            inventory: Inventory::default(),
            options: Options::default(),
        }
    }

    #[test]
    fn a_limit_is_divided_and_spread_over_the_sets() {
        let sizes = |train, test, split: &str, limit| {
            let shown = Shown::new(&dataset(train, test), split, limit);
            (shown.test.len(), shown.train.len())
        };
        assert_eq!(sizes(180, 20, "all", 2000), (20, 180));
        assert_eq!(sizes(50_000, 20, "all", 2000), (20, 1980));
        assert_eq!(sizes(50_000, 10_000, "all", 2000), (1000, 1000));
        assert_eq!(sizes(100, 10_000, "all", 2000), (1900, 100));
        assert_eq!((sizes(180, 20, "test", 10), sizes(180, 20, "train", 10)), ((10, 0), (0, 10)));
        assert_eq!(sizes(180, 20, "all", 0), (0, 0));
        // Both the first and the last class of a sorted set are included.
        let data = dataset(1000, 100);
        let shown = Shown::new(&data, "train", 10);
        assert_eq!(shown.train, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
        assert_eq!(shown.names(&data)[9], "train:900");
        assert_eq!(
            Shown::new(&dataset(4, 3), "all", 100).names(&dataset(4, 3)),
            ["test:0", "test:1", "test:2", "train:0", "train:1", "train:2", "train:3"]
        );
        assert_eq!(
            Shown::new(&dataset(4, 3), "all", 100).describe(),
            "3 test and 4 training images"
        );
    }
}
