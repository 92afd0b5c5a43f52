//! `soda embed`: features of images as a table.

mod args;
mod lines;
mod manifest;
mod merge;
mod missing;
mod shard;
mod source;

pub use self::args::Args;

use self::lines::Lines;
use self::manifest::{Manifest, finished};
use self::merge::merge;
use self::missing::Missing;
use self::shard::Shard;
use self::source::{Found, Source};
use crate::cli::args::{Common, images};
use crate::cli::device;
use crate::cli::fitted::{check_features, frozen, whitening};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{self, Output};
use serde_json::{Value, json};
use soda::data::Dataset;
use soda::data::listing::LeftOut;
use soda::error::{Error, Result};
use soda::eval::features::{Extractor, FeatureKind};
use soda::eval::table::{Known, Table, write_labels};
use soda::eval::whitening::Whitening;
use soda::files;
use soda::model::weights::WeightsFile;
use soda::progress::{Progress, say};
use soda::units::grouped;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Encodes images and writes their features.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("embed");
    args.check(common.json.as_deref())?;
    if args.merge {
        const WHY: &str = "the shards are merged as they are";
        common.warn_unused_device(WHY);
        common.warn_unused_data(WHY);
        let (rows, shards) = merge(&args.out, args.labels.as_deref())?;
        let n = grouped(rows as u64);
        outln!("{}: {n} rows of {shards} shards", output::place(&args.out));
        output
            .merge(json!({ "out": args.out, "labels": args.labels, "n": rows, "shards": shards }));
        return output.write(common);
    }
    let shards =
        args.shard.map(|shards| shards.resolve(|name| std::env::var(name).ok())).transpose()?;
    let weights = args.weights.open()?;
    check_features(&args.features, &weights)?;
    let device = device::selected(common)?;
    let dataset = args.split.as_ref().map(|_| images::open(common, &weights)).transpose()?;
    let model = args.precision.model(&weights, &device, &mut output)?;
    let mut whitened_to = None;
    let whitening = args.whiten.then(|| {
        whitening(&weights, &args.features, || {
            let opened =
                if dataset.is_none() { Some(images::open(common, &weights)?) } else { None };
            let dataset = dataset.as_ref().or(opened.as_ref()).expect("either");
            whitened_to = Some(dataset.sha256.clone());
            frozen(&weights, &model, dataset, &device).train(&args.features, false)
        })
    });
    if dataset.is_none() && whitened_to.is_none() {
        // --skip-unreadable is of the files, too.
        let mut others = common.clone();
        others.taking.skip_unreadable = false;
        others.warn_unused_data("the images named are embedded, and no data set is needed");
    }
    let kinds = [args.features.clone()];
    let work = Work {
        args,
        skip: common.taking.skip_unreadable,
        dim: args.features.dim(&weights.config)?,
        extractor: Extractor::new(&model, &weights.config, &kinds, &device.device)?,
        whitening: whitening.transpose()?,
        whitened_to,
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
        None => (rows, ..) = work.table(&args.out, None, &mut output)?,
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
    /// The SHA-256 of the data that the whitening was fitted to; `None` if it is stored with the
    /// weights.
    whitened_to: Option<String>,
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
        settings.extend(self.whitened_to.iter().map(|sha256| ("whitening".into(), json!(sha256))));
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
            named: false,
            split,
            classes,
        };
        if let Some(rows) = finished(&path, &manifest)? {
            say(&format!(
                "shard {index} of {of} already exists: {} rows in {}",
                grouped(rows as u64),
                path.display()
            ));
            return Ok(rows);
        }
        Manifest::remove(&path)?;
        (manifest.rows, manifest.named, manifest.listed) =
            self.table(&path, Some(shard), output)?;
        manifest.table_sha256 = files::sha256_of(&path)?;
        manifest.write(&path)?;
        Ok(manifest.rows)
    }

    /// Writes the table `out` of all images, or of those of a shard. Returns the number of rows,
    /// whether the images have names of their own, and for files a digest of the names of all
    /// images.
    fn table(
        &self,
        out: &Path,
        shard: Option<Shard>,
        output: &mut Output,
    ) -> Result<(usize, bool, Option<String>)> {
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
                    _ if missing.of + pixels.len() == most => break,
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
            // After the first unreadable image nothing will be written; the rest, up to the limit,
            // is only searched for more of them.
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
                    grouped(table.rows() as u64)
                )));
            }
            if missing.of == most {
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
            output::place(out)
        );
        let named = names.as_deref().map(|path| format!("; names in {}", output::place(path)));
        outln!("{}{}", missing.describe(), named.unwrap_or_default());
        // With shards, these fields would describe only the last one.
        if shard.is_none() {
            output.set("names", json!(names));
            output.merge(json!({ "images_per_s": images_per_s, "skipped": missing.unreadable, "skipped_first": missing.first }));
            output.set("left_out", json!(missing.left_out));
        }
        Ok((n, source.named, source.listed.map(|listed| listed.digest())))
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

/// Divides `row` by its length; a row of zeros stays as it is.
fn normalise(row: &mut [f32]) {
    let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
}
