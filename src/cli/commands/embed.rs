//! `soda embed`: features of images as a table.

mod lines;
mod shard;

use self::lines::Lines;
use self::shard::{Manifest, Shard, Shards, finished, merge};
use crate::cli::args::Common;
use crate::cli::args::PrecisionArgs;
use crate::cli::args::WeightsArgs;
use crate::cli::args::images;
use crate::cli::device;
use crate::cli::fitted::{check_features, frozen, whitening};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{self, Holds, Output};
use serde_json::{Value, json};
use soda::data::inventory::UNREADABLE;
use soda::data::listing::LeftOut;
use soda::data::stream::{Listed, Read, Stream};
use soda::data::{self, Dataset};
use soda::error::{Error, Result};
use soda::eval::features::{Extractor, FeatureKind, batch_size_of};
use soda::eval::table::{Format, Known, Table, write_labels};
use soda::eval::whitening::Whitening;
use soda::files::{self, Destination};
use soda::model::weights::WeightsFile;
use soda::progress::{Progress, say};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Arguments of `soda embed`.
#[derive(clap::Args)]
#[command(
    after_help = "Features: z; backbone, the pooled encoder output before the last linear layer; \
                  or denoiser:BLOCK@T, the output of a residual block of the denoiser, averaged \
                  over its pixels, for the image noised to step T. Blocks are down0.0 (the finest, \
                  at the resolution of the denoiser's images), down1.0 .. middle .. up1.0, up0.0, \
                  as many as the weights have; an unknown name lists them."
)]
pub struct Args {
    /// Image files, or folders searched for images at any depth.
    #[arg(required_unless_present_any = ["split", "merge"], conflicts_with = "split")]
    paths: Vec<PathBuf>,
    /// Embed the training or test set of the data set, instead of files.
    #[arg(long, value_parser = ["train", "test"])]
    split: Option<String>,
    /// Embed only the first N images.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Features: z, backbone or denoiser:BLOCK@T, e.g. denoiser:up1.0@11.
    #[arg(long, value_name = "KIND", default_value = "z")]
    features: FeatureKind,
    /// Whiten the features: decorrelate them and scale them to variance 1, without using labels.
    /// The dimensions are the principal components, by falling variance. Mean and covariance are
    /// those stored with the weights for z (`soda export --whiten`), else those of the training
    /// images.
    #[arg(long)]
    whiten: bool,
    /// Normalise each row to length 1, after whitening.
    #[arg(long)]
    normalise: bool,
    /// Output file, one row per image: .npy, .safetensors, .parquet or .npz. A .safetensors file
    /// also holds the labels of a --split; a .parquet or .npz file the name, split, label and class
    /// of each row. `-`, pipes and devices get the .npy format.
    #[arg(long, value_name = "FILE", default_value = "features.npy")]
    out: PathBuf,
    /// Also write the labels of a --split to this .npy file.
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    labels: Option<PathBuf>,
    /// Also write the name of each row's image to this text file. A name is the image's file name,
    /// or train:17 (default: next to a .npy or .safetensors file, if the images have names of their
    /// own).
    #[arg(long, value_name = "FILE")]
    names: Option<PathBuf>,
    /// Embed shard I of N (from 0), all/N one after the other, or auto. auto takes the shard that
    /// Slurm's array or MPI assigns to this process. Each shard is a file next to --out with a
    /// JSON, z.3-of-16.parquet for z.parquet; existing shards are kept.
    #[arg(long, value_name = "I/N|all/N|auto", conflicts_with_all = ["labels", "names", "merge"])]
    shard: Option<Shards>,
    /// Merge the shards of --out into it. All shards must exist, with the same weights and images.
    #[arg(long, conflicts_with_all = ["paths", "split", "limit", "labels", "names", "whiten", "normalise", "run", "weights"])]
    merge: bool,
}

/// Encodes images and writes their features.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("embed");
    args.check()?;
    if args.merge {
        let (rows, shards) = merge(&args.out)?;
        outln!("{}: {rows} rows of {shards} shards", args.out.display());
        output.merge(json!({ "out": args.out, "n": rows, "shards": shards }));
        return output.write(common);
    }
    let shards =
        args.shard.map(|shards| shards.resolve(|name| std::env::var(name).ok())).transpose()?;
    let weights = args.weights.open()?;
    check_features(&args.features, &weights)?;
    let device = device::selected(common)?;
    let dataset = args.split.as_ref().map(|_| images::open(common, &weights)).transpose()?;
    let model = args.precision.model(&weights, &device, &mut output)?;
    let whitening = args.whiten.then(|| {
        whitening(&weights, &args.features, || {
            let opened =
                if dataset.is_none() { Some(images::open(common, &weights)?) } else { None };
            let dataset = dataset.as_ref().or(opened.as_ref()).expect("either");
            frozen(&weights, &model, dataset, &device).train(&args.features, false)
        })
    });
    let kinds = [args.features.clone()];
    let work = Work {
        args,
        skip: common.taking.skip_unreadable,
        dim: args.features.dim(&weights.config)?,
        extractor: Extractor::new(&model, &weights.config, &kinds, &device.device)?,
        whitening: whitening.transpose()?,
        weights: &weights,
        dataset,
        interrupt: Interrupt::listen()?,
    };
    say(&format!(
        "embedding {} with {} on {}",
        work.describe(),
        weights.path.display(),
        device.describe()
    ));
    output.device(&device);
    output.weights(&weights);
    let sides = weights.config.model.sides;
    output.merge(json!({ "features": args.features.to_string(), "dim": work.dim, "out": args.out, "labels": args.labels }));
    output.merge(json!({ "whitened": args.whiten, "normalised": args.normalise }));
    output.merge(json!({ "side": weights.config.data.side, "source_side": sides.source, "target_side": sides.target }));
    let mut rows = 0;
    match &shards {
        None => (rows, _) = work.table(&args.out, None, &mut output)?,
        Some(shards) => {
            for shard in shards {
                rows += work.shard(*shard, &mut output)?;
            }
            output.set(
                "shards",
                json!(shards.iter().map(|shard| shard.path(&args.out)).collect::<Vec<_>>()),
            );
        }
    }
    if let (Some(dataset), Some(split)) = (&work.dataset, &args.split) {
        output.data(dataset, split, rows);
    }
    output.set("n", json!(rows));
    output.write(common)
}

/// The state shared by all tables of a call.
struct Work<'a> {
    args: &'a Args,
    skip: bool,
    dim: usize,
    extractor: Extractor<'a>,
    whitening: Option<Whitening>,
    weights: &'a WeightsFile,
    dataset: Option<Dataset>,
    interrupt: Interrupt,
}

impl Work<'_> {
    fn describe(&self) -> String {
        self.dataset.as_ref().map_or_else(|| "files".to_owned(), Dataset::describe)
    }

    /// Returns the metadata of a file, for formats that have any.
    fn metadata(&self) -> BTreeMap<String, String> {
        let (args, config) = (self.args, &self.weights.config);
        let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut metadata = BTreeMap::from([
            text("features", &args.features.to_string()),
            text("weights_sha256", &self.weights.sha256),
            text("side", &config.data.side.to_string()),
            text("source_side", &config.model.sides.source.to_string()),
            text("target_side", &config.model.sides.target.to_string()),
        ]);
        metadata.extend(args.whiten.then(|| text("whitened", "true")));
        metadata.extend(args.normalise.then(|| text("normalised", "true")));
        if let Some(dataset) = self.dataset.as_ref().filter(|d| !d.classes.is_empty()) {
            metadata.extend([text("classes", &json!(dataset.classes).to_string())]);
        }
        metadata
    }

    fn known(&self) -> Known {
        let classes =
            self.dataset.as_ref().map_or_else(Vec::new, |dataset| dataset.classes.clone());
        Known { split: self.args.split.clone(), classes }
    }

    /// Writes a shard, unless it exists; returns its rows.
    fn shard(&self, shard: Shard, output: &mut Output) -> Result<usize> {
        let (args, path, Known { split, classes }) =
            (self.args, shard.path(&self.args.out), self.known());
        let from = match &self.dataset {
            Some(dataset) => json!(dataset.sha256),
            None => json!(args.paths),
        };
        let settings = [
            ("precision", json!(args.precision.name())),
            ("from", from),
            ("limit", json!(args.limit)),
        ];
        let mut settings: BTreeMap<String, Value> =
            settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let described = self
            .metadata()
            .into_iter()
            .filter(|(key, _)| key != "classes" && key != "weights_sha256");
        settings.extend(described.map(|(key, value)| (key, json!(value))));
        let Shard { index, of } = shard;
        let weights_sha256 = self.weights.sha256.clone();
        let mut manifest = Manifest {
            shard: index,
            of,
            rows: 0,
            dim: self.dim,
            table_sha256: String::new(),
            weights_sha256,
            settings,
            listed: None,
            split,
            classes,
        };
        if let Some(rows) = finished(&path, &manifest)? {
            say(&format!(
                "shard {index} of {of} already exists: {rows} rows in {}",
                path.display()
            ));
            return Ok(rows);
        }
        Manifest::remove(&path)?;
        (manifest.rows, manifest.listed) = self.table(&path, Some(shard), output)?;
        manifest.table_sha256 = files::sha256_of(&path)?;
        manifest.write(&path)?;
        Ok(manifest.rows)
    }

    /// Writes the table `out` of all images, or of those of a shard. Returns the number of rows,
    /// and for files a digest of the names of all images.
    fn table(
        &self,
        out: &Path,
        shard: Option<Shard>,
        output: &mut Output,
    ) -> Result<(usize, Option<String>)> {
        let (args, dim) = (self.args, self.dim);
        let source = Source::open(args, self.weights, self.dataset.as_ref(), shard)?;
        let names = args.names(source.named)?;
        let column = if args.features == FeatureKind::Z { "z" } else { "features" };
        let mut table = Table::create(
            out,
            column,
            dim,
            self.known(),
            source.labels.as_deref(),
            self.metadata(),
        )?;
        let mut lines = names.as_deref().map(Lines::create).transpose()?;

        let progress = Progress::new("encoding images", source.count);
        let mut missing = Missing::default();
        let most = args.limit.map_or(usize::MAX, |n| n as usize);
        for batch in source.batches {
            let (mut pixels, mut names) = (Vec::new(), Vec::new());
            for found in batch? {
                match found {
                    _ if table.rows() + pixels.len() == most => break,
                    Found::Image(name, image) => {
                        pixels.push(image);
                        lines.as_mut().map_or(Ok(()), |lines| lines.add(&name))?;
                        names.push(name);
                    }
                    Found::Unreadable(line) => missing.unreadable(line),
                    Found::LeftOut(name, what) => {
                        LeftOut::add(&mut missing.left_out, &what, || name)
                    }
                }
            }
            missing.of += pixels.len();
            // After the first unreadable image nothing will be written; the rest is only searched
            // for more of them.
            if !pixels.is_empty() && (self.skip || missing.unreadable == 0) {
                let features = self.features(&pixels)?;
                let first = table.rows();
                let labels = source
                    .labels
                    .as_ref()
                    .map_or(&[][..], |labels| &labels[first..first + names.len()]);
                table.append(&features, &names, labels)?;
                progress.add(pixels.len());
            }
            if self.interrupt.stop.load(Ordering::Relaxed) {
                let of = if shard.is_some() { " of this shard" } else { "" };
                return Err(Error::failed(format!(
                    "stopped after {} images{of}; nothing was written",
                    table.rows()
                )));
            }
            if table.rows() == most {
                break;
            }
        }
        let n = table.rows();
        // With few images, a shard may be empty.
        missing.check(n, self.skip, shard.is_some())?;
        table.finish()?;
        lines.map_or(Ok(()), Lines::finish)?;
        if let (Some(path), Some(labels)) = (&args.labels, &source.labels) {
            write_labels(path, labels)?;
        }
        let images_per_s = progress.finish();
        let how = [(args.whiten, ", whitened"), (args.normalise, ", of length 1")];
        let how: String = how.into_iter().filter(|(is, _)| *is).map(|(_, how)| how).collect();
        out!(
            "{n} x {dim} features ({}{how}) in {} at {images_per_s:.1} images/s",
            args.features,
            out.display()
        );
        outln!("{}", missing.describe());
        // With shards, these fields would describe only the last one.
        if shard.is_none() {
            output.set("names", json!(names));
            output.merge(json!({ "images_per_s": images_per_s, "skipped": missing.unreadable, "skipped_first": missing.first }));
            output.set("left_out", json!(missing.left_out));
        }
        Ok((n, source.listed.map(|listed| listed.digest())))
    }

    /// Returns the rows of a batch of images.
    fn features(&self, pixels: &[Vec<u8>]) -> Result<Vec<f32>> {
        let mut features = self.extractor.features(pixels)?.remove(0);
        if let Some(whitening) = &self.whitening {
            features = whitening.apply(&features);
        }
        if self.args.normalise {
            features.chunks_mut(self.dim).for_each(normalise);
        }
        Ok(features)
    }
}

impl Args {
    /// Checks before the work that the flags are valid and all files can be written.
    fn check(&self) -> Result<()> {
        Table::holds_names(&self.out)?;
        if self.shard.is_some()
            && self.out.extension().is_none_or(|extension| extension != "parquet")
        {
            return Err(Error::usage(format!(
                "--out {}: shards are Parquet files; name one that ends with .parquet",
                self.out.display()
            )));
        }
        if self.shard.is_some() && self.limit.is_some() && self.split.is_none() {
            return Err(Error::usage(
                "--limit: with files, the shards divide all images; leave it out",
            ));
        }
        if let Some(labels) = self
            .labels
            .as_ref()
            .filter(|path| !Format::to_write(path).is_ok_and(|f| f == Format::Npy))
        {
            return Err(Error::usage(format!("--labels {}: name a .npy file", labels.display())));
        }
        output::prepare("--out", &self.out, Holds::Bytes)?;
        self.labels.iter().try_for_each(|path| output::prepare("--labels", path, Holds::Bytes))
    }

    /// Returns the file for the names, checked to be writable; `named` tells whether the images
    /// have names of their own.
    fn names(&self, named: bool) -> Result<Option<PathBuf>> {
        // A pipe has no folder, and a table holds the names itself.
        let beside = named
            && matches!(Destination::of(&self.out)?, Destination::File(_))
            && !Table::holds_names(&self.out)?;
        let names = self.names.clone().or_else(|| beside.then(|| self.out.with_extension("txt")));
        names.iter().try_for_each(|path| output::prepare("--names", path, Holds::Text))?;
        Ok(names)
    }
}

/// Divides `row` by its length; a row of zeros stays as it is.
fn normalise(row: &mut [f32]) {
    let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
}

/// One entry found in the source of images.
enum Found {
    /// An image: its name and pixels.
    Image(String, Vec<u8>),
    /// An unreadable image: its name and the reason.
    Unreadable(String),
    /// Not an image: its name, and what it is.
    LeftOut(String, String),
}

/// A source of images.
struct Source {
    /// The number of images, if known.
    count: Option<usize>,
    /// Their labels, if they have any.
    labels: Option<Vec<u16>>,
    /// Whether they have names of their own.
    named: bool,
    /// The names of all images, if they come from files.
    listed: Option<Arc<Listed>>,
    batches: Box<dyn Iterator<Item = Result<Vec<Found>>>>,
}

impl Source {
    fn open(
        args: &Args,
        weights: &WeightsFile,
        dataset: Option<&Dataset>,
        shard: Option<Shard>,
    ) -> Result<Self> {
        let config = &weights.config;
        let (side, at_once) = (config.data.side, batch_size_of(config.model.sides));
        let (Some(split), Some(dataset)) = (&args.split, dataset) else {
            let found = |read: Read| match read {
                Read::Image(path, Ok(pixels)) => Found::Image(path.display().to_string(), pixels),
                Read::Image(path, Err(why)) => {
                    Found::Unreadable(format!("{} {why}", path.display()))
                }
                Read::LeftOut(path, what) => Found::LeftOut(path.display().to_string(), what),
            };
            let part = shard.map_or((0, 1), |shard| (shard.index, shard.of));
            let stream = Stream::open(&args.paths, part, at_once, side)?;
            let listed = Some(stream.listed());
            let batches = stream.map(move |batch| Ok(batch?.into_iter().map(found).collect()));
            return Ok(Self {
                count: None,
                labels: None,
                named: true,
                listed,
                batches: Box::new(batches),
            });
        };
        let images = Arc::clone(if split == "test" { &dataset.test } else { &dataset.train });
        let count = args.limit.map_or(images.len(), |n| n as usize);
        if count > images.len() {
            return Err(Error::usage(format!(
                "--limit {count}: the {split} set holds {} images",
                images.len()
            )));
        }
        let own = shard.map_or(0..count, |shard| shard.range(count));
        let labels = (!dataset.classes.is_empty()).then(|| images.labels()[own.clone()].to_vec());
        if args.labels.is_some() && labels.is_none() {
            return Err(Error::failed(format!(
                "--labels: the images of {} have no classes",
                dataset.origin
            )));
        }
        let named = count > 0 && images.own_name(0).is_some();
        let end = own.end;
        let batch = move |first: usize| {
            let image = |i: usize| {
                Ok(Found::Image(images.name(i).into_owned(), images.image(i)?.into_owned()))
            };
            (first..end.min(first + at_once)).map(image).collect()
        };
        let batches = own.clone().step_by(at_once).map(batch);
        Ok(Self { count: Some(own.len()), labels, named, listed: None, batches: Box::new(batches) })
    }
}

/// The entries that have no row in the features.
#[derive(Default)]
struct Missing {
    /// The number of readable images.
    of: usize,
    /// The number of unreadable images.
    unreadable: usize,
    /// The first unreadable images, with the reasons.
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

    /// Checks that the rows are complete.
    ///
    /// # Errors
    /// If there are unreadable images that are not to be skipped, or no images at all.
    fn check(&self, rows: usize, skip: bool, may_be_empty: bool) -> Result<()> {
        if self.unreadable > 0 && (!skip || (rows == 0 && !may_be_empty)) {
            let all = self.of + self.unreadable;
            return Err(data::unreadable(
                "nothing was written",
                all,
                self.unreadable,
                self.first.iter().cloned(),
            ));
        }
        if rows == 0 && !may_be_empty {
            let others = if self.left_out.is_empty() {
                String::new()
            } else {
                format!(", but {}", LeftOut::line(&self.left_out))
            };
            return Err(Error::failed(format!(
                "nothing to embed: there are no images{others}; name image files, or folders of \
                 images"
            )));
        }
        Ok(())
    }

    /// Returns "; left out: files that are not images (.txt): 3", or nothing.
    fn describe(&self) -> String {
        let mut kinds = self.left_out.clone();
        if self.unreadable > 0 {
            kinds.push(LeftOut {
                what: UNREADABLE.into(),
                count: self.unreadable,
                first: Vec::new(),
            });
        }
        if kinds.is_empty() {
            String::new()
        } else {
            format!("; left out: {}", LeftOut::line(&kinds))
        }
    }
}
