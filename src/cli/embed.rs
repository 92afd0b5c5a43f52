//! `soda embed`

use super::Common;
use super::images;
use super::output::{self, Holds, Output};
use super::precision::PrecisionArgs;
use super::source::{WeightsArgs, frozen, whitening};
use super::train::Interrupt;
use crate::data::inventory::UNREADABLE;
use crate::data::listing::LeftOut;
use crate::data::stream::{Read, Stream};
use crate::data::{self, Dataset};
use crate::error::{Error, Result};
use crate::eval::features::{Extractor, FeatureKind, batch_size_of};
use crate::eval::table::{Format, Writer, write_labels};
use crate::files::{self, Destination, Partial};
use crate::model::weights::WeightsFile;
use crate::progress::{Progress, say};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Arguments of `soda embed`.
#[derive(clap::Args)]
#[command(
    after_help = "Features are z; backbone: the encoder's pooled vector, which z is a linear function of, up to its length; or \
denoiser:BLOCK@T: what a residual block of the denoiser puts out, averaged over its pixels, as it looks at the image under the \
noise of step T. Blocks are down0.0 (the finest, at the side of the denoiser's images), down1.0 .. middle .. up1.0, up0.0, as many as the weights have; a wrong name \
lists them."
)]
pub struct Args {
    /// Image files, and folders with images at any depth.
    #[arg(required_unless_present = "split", conflicts_with = "split")]
    paths: Vec<PathBuf>,
    /// Instead of files the training or the test set of the data set.
    #[arg(long, value_parser = ["train", "test"])]
    split: Option<String>,
    /// The first N images only.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// z, backbone or denoiser:BLOCK@T, such as denoiser:up1.0@11.
    #[arg(long, value_name = "KIND", default_value = "z")]
    features: FeatureKind,
    /// Whiten the features: without correlations and of variance 1, by falling variance of the principal directions they lie along. With
    /// mean and covariance that the weights hold for z (`soda export --whiten`), else those of the training images; no labels.
    #[arg(long)]
    whiten: bool,
    /// The features, a row for each image: a .npy file, or a .safetensors file that holds the labels of a --split as well (`-`, pipes
    /// and devices: .npy).
    #[arg(long, value_name = "FILE", default_value = "features.npy")]
    out: PathBuf,
    /// Also the labels of a --split, to a .npy file.
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    labels: Option<PathBuf>,
    /// Also what each row is of, to a text file: the image's file, or train:17 (if not said, beside the file --out, where images have
    /// names of their own).
    #[arg(long, value_name = "FILE")]
    names: Option<PathBuf>,
}

/// Encodes images and writes their features.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("embed");
    args.check()?;
    let weights = args.weights.open()?;
    let dim = args.features.dim(&weights.config)?;
    let device = super::device(common)?;
    let source = Source::open(args, &weights, common)?;
    let names = args.names(source.named)?;
    say(&format!("embedding {} with {} on {}", source.describe(), weights.path.display(), device.describe()));
    let (model, kinds) = (args.precision.model(&weights, &device, &mut output)?, [args.features.clone()]);
    let extractor = Extractor::new(&model, &weights.config, &kinds, &device.device)?;
    let whitening = args.whiten.then(|| {
        whitening(&weights, &args.features, || {
            let opened = if source.dataset.is_none() { Some(images::open(common, &weights)?) } else { None };
            let dataset = source.dataset.as_ref().or(opened.as_ref()).expect("either");
            frozen(&weights, &model, dataset, &device).train(&args.features, false)
        })
    });
    let whitening = whitening.transpose()?;
    let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let sides = weights.config.model.sides;
    let mut metadata = BTreeMap::from([
        text("features", &args.features.to_string()),
        text("weights_sha256", &weights.sha256),
        text("side", &weights.config.data.side.to_string()),
        text("source_side", &sides.source.to_string()),
        text("target_side", &sides.target.to_string()),
    ]);
    metadata.extend(args.whiten.then(|| text("whitened", "true")));
    if let Some(dataset) = source.dataset.as_ref().filter(|d| !d.classes.is_empty()) {
        metadata.extend([text("classes", &json!(dataset.classes).to_string())]);
    }
    let mut table = Writer::create(&args.out, dim, source.labels.as_deref(), metadata)?;
    let mut lines = names.as_deref().map(Lines::create).transpose()?;

    let progress = Progress::new("encoding images", source.count);
    let mut missing = Missing::default();
    let skip = common.taking.skip_unreadable;
    let interrupt = Interrupt::listen()?;
    let most = args.limit.map_or(usize::MAX, |n| n as usize);
    for batch in source.batches {
        let mut pixels = Vec::new();
        for found in batch? {
            match found {
                _ if table.rows() + pixels.len() == most => break,
                Found::Image(name, image) => {
                    pixels.push(image);
                    lines.as_mut().map_or(Ok(()), |lines| lines.add(&name))?;
                }
                Found::Unreadable(line) => missing.unreadable(line),
                Found::LeftOut(name, what) => LeftOut::add(&mut missing.left_out, &what, || name),
            }
        }
        missing.of += pixels.len();
        // After the first that can't be read nothing will be written: the rest is only looked through for others.
        if !pixels.is_empty() && (skip || missing.unreadable == 0) {
            let features = extractor.features(&pixels)?.remove(0);
            match &whitening {
                Some(whitening) => table.append(&whitening.apply(&features))?,
                None => table.append(&features)?,
            }
            progress.add(pixels.len());
        }
        if interrupt.stop.load(Ordering::Relaxed) {
            return Err(Error::failed(format!("stopped after {} images; nothing was written", table.rows())));
        }
        if table.rows() == most {
            break;
        }
    }
    let n = table.rows();
    missing.judge(n, skip)?;
    table.finish()?;
    lines.map_or(Ok(()), Lines::finish)?;
    if let (Some(path), Some(labels)) = (&args.labels, &source.labels) {
        write_labels(path, labels)?;
    }
    let images_per_s = progress.finish();

    out!(
        "{n} x {dim} features ({}{}) in {} at {images_per_s:.1} images/s",
        args.features,
        if args.whiten { ", whitened" } else { "" },
        args.out.display()
    );
    outln!("{}", missing.describe());
    output.device(&device);
    output.weights(&weights);
    if let (Some(dataset), Some(split)) = (&source.dataset, &args.split) {
        output.data(dataset, split, n);
    }
    let (features, out, labels) = (args.features.to_string(), &args.out, &args.labels);
    output.merge(json!({ "features": features, "n": n, "dim": dim, "whitened": args.whiten, "out": out, "labels": labels, "names": names }));
    output.merge(json!({ "side": weights.config.data.side, "source_side": sides.source, "target_side": sides.target }));
    output.merge(json!({ "images_per_s": images_per_s, "skipped": missing.unreadable, "skipped_first": missing.first }));
    output.set("left_out", json!(missing.left_out));
    output.write(common)
}

impl Args {
    /// What can be known before the work: that all can be written.
    fn check(&self) -> Result<()> {
        Format::to_write(&self.out)?;
        if let Some(labels) = self.labels.as_ref().filter(|path| !Format::to_write(path).is_ok_and(|f| f == Format::Npy)) {
            return Err(Error::usage(format!("--labels {}: name a .npy file", labels.display())));
        }
        output::prepare("--out", &self.out, Holds::Bytes)?;
        self.labels.iter().try_for_each(|path| output::prepare("--labels", path, Holds::Bytes))
    }

    /// Where the names go, which can be written; `named` is whether the images have names of their own.
    fn names(&self, named: bool) -> Result<Option<PathBuf>> {
        // Nothing lies beside a pipe.
        let beside = named && matches!(Destination::of(&self.out)?, Destination::File(_));
        let names = self.names.clone().or_else(|| beside.then(|| self.out.with_extension("txt")));
        names.iter().try_for_each(|path| output::prepare("--names", path, Holds::Text))?;
        Ok(names)
    }
}

/// One thing that was found where images are to come from.
enum Found {
    /// A name and pixels.
    Image(String, Vec<u8>),
    /// An image without pixels: its name and why.
    Unreadable(String),
    /// No image: its name, and what it is.
    LeftOut(String, String),
}

/// Where images come from.
struct Source {
    dataset: Option<Dataset>,
    /// How many there are, where that is known.
    count: Option<usize>,
    /// Their labels, where they have any.
    labels: Option<Vec<u16>>,
    /// Whether they have names of their own.
    named: bool,
    batches: Box<dyn Iterator<Item = Result<Vec<Found>>>>,
}

impl Source {
    fn open(args: &Args, weights: &WeightsFile, common: &Common) -> Result<Self> {
        let config = &weights.config;
        let (side, at_once) = (config.data.side, batch_size_of(config.model.sides));
        let Some(split) = args.split.clone() else {
            let found = |read: Read| match read {
                Read::Image(path, Ok(pixels)) => Found::Image(path.display().to_string(), pixels),
                Read::Image(path, Err(why)) => Found::Unreadable(format!("{} {why}", path.display())),
                Read::LeftOut(path, what) => Found::LeftOut(path.display().to_string(), what),
            };
            let batches = Stream::open(&args.paths, at_once, side)?.map(move |batch| Ok(batch?.into_iter().map(found).collect()));
            return Ok(Self { dataset: None, count: None, labels: None, named: true, batches: Box::new(batches) });
        };
        let dataset = images::open(common, weights)?;
        let images = Arc::clone(if split == "test" { &dataset.test } else { &dataset.train });
        let count = args.limit.map_or(images.len(), |n| n as usize);
        if count > images.len() {
            return Err(Error::usage(format!("--limit {count}: the {split} set holds {} images", images.len())));
        }
        let labels = (!dataset.classes.is_empty()).then(|| images.labels()[..count].to_vec());
        if args.labels.is_some() && labels.is_none() {
            return Err(Error::failed(format!("--labels: the images of {} have no classes", dataset.origin)));
        }
        let named = count > 0 && images.own_name(0).is_some();
        let batch = move |first: usize| {
            let image = |i: usize| Ok(Found::Image(images.name(i).into_owned(), images.image(i)?.into_owned()));
            (first..count.min(first + at_once)).map(image).collect()
        };
        let batches = (0..count).step_by(at_once).map(batch);
        Ok(Self { dataset: Some(dataset), count: Some(count), labels, named, batches: Box::new(batches) })
    }

    fn describe(&self) -> String {
        self.dataset.as_ref().map_or_else(|| "files".to_owned(), Dataset::describe)
    }
}

/// What is no row of the features.
#[derive(Default)]
struct Missing {
    /// Images that were found and can be read.
    of: usize,
    /// Images that can't be read, and of the first ones why.
    unreadable: usize,
    first: Vec<String>,
    left_out: Vec<LeftOut>,
}

impl Missing {
    fn unreadable(&mut self, line: String) {
        self.unreadable += 1;
        if self.first.len() < LeftOut::NAMED {
            self.first.push(line);
        }
    }

    /// # Errors
    /// Unless they are to be skipped, images that can't be read; no images at all.
    fn judge(&self, rows: usize, skip: bool) -> Result<()> {
        if self.unreadable > 0 && (!skip || rows == 0) {
            let all = self.of + self.unreadable;
            return Err(data::unreadable("nothing was written", all, self.unreadable, self.first.iter().cloned()));
        }
        if rows == 0 {
            let others =
                if self.left_out.is_empty() { String::new() } else { format!(", but {}", LeftOut::line(&self.left_out)) };
            return Err(Error::failed(format!(
                "nothing to embed: there are no images{others}; name image files, or folders of them"
            )));
        }
        Ok(())
    }

    /// "; left out: files that are no images (.txt): 3", or nothing.
    fn describe(&self) -> String {
        let mut kinds = self.left_out.clone();
        if self.unreadable > 0 {
            kinds.push(LeftOut { what: UNREADABLE.into(), count: self.unreadable, first: Vec::new() });
        }
        if kinds.is_empty() { String::new() } else { format!("; left out: {}", LeftOut::line(&kinds)) }
    }
}

/// A text file, whole or not at all.
struct Lines {
    file: BufWriter<Partial>,
    path: PathBuf,
}

impl Lines {
    fn create(path: &Path) -> Result<Self> {
        Ok(Self { file: BufWriter::new(files::partial(path)?), path: path.to_owned() })
    }

    /// Adds `line`. Names of files may hold line ends, which are written as \\n.
    fn add(&mut self, line: &str) -> Result<()> {
        let line = line.replace('\n', "\\n");
        writeln!(self.file, "{line}").map_err(|e| Error::io("write", &self.path, &e))
    }

    fn finish(self) -> Result<()> {
        let file = self.file.into_inner().map_err(|e| Error::io("write", &self.path, e.error()))?;
        files::complete(file)
    }
}
