//! `soda neighbours`: the training images nearest to an image.

use crate::cli::args::{Common, PrecisionArgs, WeightsArgs, count, images};
use crate::cli::device;
use crate::cli::fitted::{check_features, frozen};
use crate::cli::output::{self, Holds, Output};
use serde_json::{Value, json};
use soda::data::picture::{distinct, resolve};
use soda::data::{Dataset, Images, bytes_of};
use soda::edit::generator::signed;
use soda::error::{Error, Result};
use soda::eval::features::{FeatureKind, extract};
use soda::eval::knn::nearest;
use soda::progress::say;
use soda::report::grid::{GridRow, LARGE, save_captioned, scale};
use soda::units::grouped;
use std::path::{Path, PathBuf};

/// Arguments of `soda neighbours`.
#[derive(clap::Args)]
#[command(
    after_help = "Features are L2-normalised. Those of the training images are computed once for \
                  each weights file and kind, then kept in the user's cache folder. A training \
                  image is not its own neighbour."
)]
pub struct Args {
    /// Image files, or images of the data set such as test:17.
    #[arg(required = true)]
    queries: Vec<String>,
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Number of neighbours of each image (default: 10, or all if fewer).
    #[arg(short, long, allow_negative_numbers = true, value_parser = count::<u64>(1..=100))]
    k: Option<u64>,
    /// Features: z, backbone or denoiser:BLOCK@T, see `soda embed --help`.
    #[arg(long, value_name = "KIND", default_value = "z")]
    features: FeatureKind,
    /// Output picture: each image with its nearest training images, their classes and distances.
    #[arg(long, value_name = "FILE", default_value = "neighbours.png")]
    out: PathBuf,
}

/// The default number of neighbours.
const NEIGHBOURS: usize = 10;
/// The largest number of rows in the picture.
const MOST_QUERIES: usize = 50;

/// A training image near a query.
struct Found {
    index: usize,
    cosine: f32,
}

/// Finds the neighbours and saves the picture.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("neighbours");
    let weights = args.weights.open()?;
    check_features(&args.features, &weights)?;
    let device = device::selected(common)?;
    let dataset = images::open(common, &weights)?;
    // A training image is not its own neighbour.
    let most = dataset.train.len().saturating_sub(1).max(1);
    let k = match args.k {
        Some(k) if k as usize > most => {
            let n = dataset.train.len();
            return Err(Error::usage(format!(
                "-k {k}: must be between 1 and {most} (the training set holds {} image{})",
                grouped(n as u64),
                if n == 1 { "" } else { "s" }
            )));
        }
        Some(k) => k as usize,
        None => most.min(NEIGHBOURS),
    };
    if args.queries.len() > MOST_QUERIES {
        return Err(Error::usage(format!(
            "{} images: the picture holds at most {MOST_QUERIES}; name fewer at a time",
            args.queries.len()
        )));
    }
    output::prepare("--out", &args.out, Holds::Picture)?;
    let side = dataset.train.side();
    let mut pictures = args
        .queries
        .iter()
        .map(|query| resolve(query, side, || Ok(dataset.clone())))
        .collect::<Result<Vec<_>>>()?;
    let mut names: Vec<String> = pictures.iter().map(|p| p.name.clone()).collect();
    distinct(&args.queries, &mut names);
    pictures.iter_mut().zip(names).for_each(|(picture, name)| picture.name = name);
    let pixels = pictures.iter().flat_map(|p| p.pixels.iter().copied()).collect();
    let queries =
        Images::new(side, pixels, pictures.iter().map(|p| p.label.unwrap_or(0)).collect());
    say(&format!(
        "finding neighbours in {} with {} on {}",
        dataset.describe(),
        weights.path.display(),
        device.describe()
    ));
    let model = args.precision.model(&weights, &device, &mut output)?;
    let train = frozen(&weights, &model, &dataset, &device).train(&args.features, false)?;
    let (all, kinds): (Vec<usize>, _) = ((0..queries.len()).collect(), [args.features.clone()]);
    let of_queries =
        extract(&model, &queries, &all, &weights.config, &kinds, false, &device.device)?.remove(0);
    let found: Vec<Vec<Found>> = nearest(&train, &of_queries, k + 1)
        .into_iter()
        .zip(&args.queries)
        .map(|(found, query)| {
            let found = found.into_iter().map(|(index, cosine)| Found { index, cosine });
            found.filter(|f| Some(f.index) != itself(query)).take(k).collect()
        })
        .collect();

    draw(
        args,
        &dataset,
        &queries,
        &pictures.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
        &found,
    )?;
    let mut rows = Vec::new();
    for (picture, found) in pictures.iter().zip(&found) {
        let same = picture
            .label
            .map(|label| found.iter().filter(|f| dataset.train.label(f.index) == label).count());
        let names: Vec<String> = found.iter().map(|f| in_words(&dataset, f)).collect();
        let right =
            same.map_or(String::new(), |same| format!(", {same} of {} of its class", found.len()));
        outln!("{}{right}: {}", picture.name, names.join(", "));
        let one = |f: &Found| {
            let label = dataset.train.label(f.index);
            let (image, class) = (format!("train:{}", f.index), class(&dataset, label));
            json!({ "image": image, "name": dataset.train.name(f.index), "label": label, "class": class, "cosine": f.cosine, "distance": distance(f) })
        };
        let neighbours: Vec<Value> = found.iter().map(one).collect();
        let class = picture.label.map(|label| class(&dataset, label));
        rows.push(json!({ "query": picture.name, "class": class, "same_class": same, "neighbours": neighbours }));
    }
    outln!("picture {}", output::place(&args.out));
    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, "train", dataset.train.len());
    output.merge(
        json!({ "features": args.features.to_string(), "k": k, "out": args.out, "queries": rows }),
    );
    output.write(common)
}

/// Returns the number of the training image that `query` names, if it names one.
fn itself(query: &str) -> Option<usize> {
    query.strip_prefix("train:").filter(|_| !Path::new(query).exists())?.parse().ok()
}

/// Returns the Euclidean distance of the normalised features: 0 for the same direction, 2 for
/// opposite directions.
fn distance(found: &Found) -> f32 {
    (2.0 - 2.0 * found.cosine).max(0.0).sqrt()
}

fn class(dataset: &Dataset, label: u16) -> Option<&str> {
    dataset.classes.get(usize::from(label)).map(String::as_str)
}

/// Names a neighbour in a line of text: `train:4083 (cat) 0.187`, `cats/3.jpg 0.187`.
fn in_words(dataset: &Dataset, found: &Found) -> String {
    let own = dataset.train.own_name(found.index);
    match (class(dataset, dataset.train.label(found.index)), own) {
        (Some(class), None) => {
            format!("{} ({class}) {:.3}", dataset.train.name(found.index), distance(found))
        }
        _ => caption(dataset, found),
    }
}

/// Labels a neighbour in the picture.
fn caption(dataset: &Dataset, found: &Found) -> String {
    let name = dataset.train.name(found.index);
    match (class(dataset, dataset.train.label(found.index)), dataset.train.own_name(found.index)) {
        // The path already names the class.
        (Some(class), Some(name)) if name.contains(class) => {
            format!("{name} {:.3}", distance(found))
        }
        (Some(class), Some(name)) => format!("{class}, {name} {:.3}", distance(found)),
        (Some(class), None) => format!("{class} {:.3}", distance(found)),
        (None, _) => format!("{name} {:.3}", distance(found)),
    }
}

/// Saves the picture: a row for each query, which shows the query and its neighbours.
fn draw(
    args: &Args,
    dataset: &Dataset,
    queries: &Images,
    names: &[&str],
    found: &[Vec<Found>],
) -> Result<()> {
    let (side, image) = (queries.side(), bytes_of(queries.side()));
    let originals = signed(queries, side)?;
    let near = |found: &Vec<Found>| {
        let indices: Vec<usize> = found.iter().map(|f| f.index).collect();
        signed(&dataset.train.select(&indices), side)
    };
    let near: Vec<Vec<f32>> = found.iter().map(near).collect::<Result<_>>()?;
    let mut rows = Vec::new();
    let mut captions = Vec::new();
    for (i, found) in found.iter().enumerate() {
        let images = std::iter::once(&originals[i * image..][..image])
            .chain(near[i].chunks_exact(image))
            .collect();
        rows.push(GridRow { label: Some(names[i]), images });
        captions.push(
            std::iter::once(String::new())
                .chain(found.iter().map(|f| caption(dataset, f)))
                .collect(),
        );
    }
    save_captioned(&args.out, &[], &rows, &captions, side, scale(side, LARGE))
}
