//! `soda export`: weights in one file, in the formats of this and other programs.

mod page;

use crate::cli::args::weights::cools_down;
use crate::cli::args::{Common, WeightsArgs, images};
use crate::cli::device;
use crate::cli::fitted::{frozen, linear_decoder};
use crate::cli::output::{self, Holds, Output};
use burn::tensor::Device;
use serde_json::json;
use soda::config::Config;
use soda::edit::linear_decoder::LinearDecoder;
use soda::error::{Error, Result};
use soda::eval::features::{FeatureKind, calibrate, encode};
use soda::eval::whitening::Whitening;
use soda::files;
use soda::model::weights::{self, LAYOUT, MORE, Tensors, WHITENING, WeightsFile};
use soda::model::{onnx, torchvision};
use soda::progress::say;
use soda::run_dir::RunDir;
use soda::shell::{retyped, without_folders};
use soda::train::checkpoint::{IMAGES_BEFORE, other_networks, trained_beside};
use soda::units::{counted, grouped, megabytes};
use std::path::PathBuf;
use std::sync::Arc;

/// Arguments of `soda export`.
#[derive(clap::Args)]
#[command(after_help = "docs/python.md shows how Python reads the file.")]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Output file: safetensors, with the recipe in its metadata. The metadata also holds the data
    /// checksum, step, images seen, version and, for weights of a run, the command that trained
    /// them. Its default name with --onnx is soda.onnx, with --torchvision resnet18.safetensors,
    /// with --pytorch networks.safetensors.
    #[arg(long, value_name = "FILE", default_value = "soda.safetensors", default_value_ifs([("onnx", "true", "soda.onnx"), ("torchvision", "true", "resnet18.safetensors"), ("pytorch", "true", "networks.safetensors")]))]
    out: PathBuf,
    /// Store matrices and convolutions as 16-bit floats, and report the loss of accuracy. They are
    /// converted back to 32 bits when loaded.
    #[arg(long)]
    half: bool,
    /// Also store the whitening of z, for `soda embed --whiten` and other programs. It is fitted to
    /// the training images: mean and covariance of their z, as one matrix.
    #[arg(long)]
    whiten: bool,
    /// Write the encoder as a state dictionary of torchvision's resnet18 instead (safetensors). It
    /// loads with load_state_dict(strict=True) if num_classes is the length of z (encoders of base
    /// 64; see docs/python.md).
    #[arg(long, conflicts_with_all = ["half", "whiten", "set", "web", "pytorch", "onnx"])]
    torchvision: bool,
    /// Write both networks in PyTorch's layouts instead (safetensors). Linear layers are [out, in],
    /// and the encoder has torchvision's names.
    #[arg(long, conflicts_with_all = ["half", "whiten", "set", "web", "onnx"])]
    pytorch: bool,
    /// Write the encoder as an ONNX model instead: pixels in [0, 1] to z and backbone.
    #[arg(long, conflicts_with_all = ["half", "whiten", "set", "web"])]
    onnx: bool,
    /// Write an HTML page instead, which runs the networks in any browser with WebGPU. It also
    /// holds 1,000 training images to search (see docs/web.md).
    #[arg(long, value_name = "FILE.html", conflicts_with_all = ["out", "half", "whiten", "set"])]
    web: Option<PathBuf>,
    /// Also write the results expected of the page for ten images and a seed, for
    /// scripts/web_page.sh.
    #[arg(long, value_name = "FILE.json", requires = "web", hide = true)]
    reference: Option<PathBuf>,
    /// Change a sampling default (sample.guidance=1) or the image side (data.side=32); repeatable.
    /// At another side, BatchNorm's statistics are re-computed from training images.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// The number of test images on which the cost of --half is measured.
const TESTED: usize = 100;

/// Exports weights to a file.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    if let Some(page) = &args.web {
        return page::run(&args.weights, page, args.reference.as_deref(), common);
    }
    let mut output = Output::new("export");
    let mut weights = args.weights.open()?;
    add_beginning(&mut weights);
    let ending = if args.onnx { "onnx" } else { "safetensors" };
    output::require_ending("--out", &args.out, ending)?;
    output::prepare("--out", &args.out, Holds::Bytes)?;
    let same = |path: &PathBuf| std::fs::canonicalize(path).ok();
    if same(&args.out).is_some_and(|out| Some(out) == same(&weights.path)) {
        return Err(Error::usage(format!(
            "--out {} is the file being read; choose another name",
            args.out.display()
        )));
    }
    if args.torchvision || args.pytorch || args.onnx {
        return elsewhere(args, &weights, output, common);
    }
    let before = (weights.config.model.sides.source, weights.config.data.side);
    let whitened = weights.more.iter().any(|(name, ..)| name.starts_with(WHITENING));
    change(&mut weights, &args.set)?;
    // Record the weights as they were read; re-calibration changes them.
    output.weights(&weights);
    let now = (weights.config.model.sides.source, weights.config.data.side);
    if now.0 != before.0 {
        recalibrate(&mut weights, common)?;
    }
    let trained = weights.trained().or_else(|| trained_beside(&weights.path));
    let stale = whitened && (args.half || now != before);
    let more = more(&weights, args, stale, common)?;
    let file = weights.export(args.half, trained.as_ref(), &more)?;
    // What can fail comes first: the images of the comparison may be gone.
    let cost = match args.half {
        true => Some(cost(&weights, &WeightsFile::parse(&args.out, &file)?, &mut output, common)?),
        false => None,
    };
    files::write_atomically(&args.out, &file)?;
    let (bytes, length) = (file.len(), weights.bytes as u64);
    outln!(
        "{}: {}, from {} of {}",
        output::place(&args.out),
        megabytes(bytes as u64),
        megabytes(length),
        weights.path.display()
    );
    match &trained {
        Some(t) => outln!(
            "trained for {} steps ({} images seen) on data with checksum {:.12}..",
            grouped(t.step),
            grouped(t.images),
            t.data_sha256
        ),
        None => outln!("its training steps and data are not recorded in the file"),
    }
    if let Some((difference, n)) = cost {
        let of = counted(n, "test image");
        match difference {
            0.0 => outln!("z of {of} is exactly the same"),
            _ => outln!("z of {of} differs by at most {difference:.1e} of the largest |z|"),
        }
        output.set("z_difference", json!(difference));
    }
    output.set("out", json!(args.out));
    output.set("bytes", json!(bytes));
    output.set("half", json!(args.half));
    output.set("whitening", json!(more.iter().any(|(name, ..)| name.starts_with(WHITENING))));
    output.set("trained", json!(trained));
    output.write(common)
}

/// Writes weights in a format of other programs.
fn elsewhere(
    args: &Args,
    weights: &WeightsFile,
    mut output: Output,
    common: &Common,
) -> Result<()> {
    const WHY: &str = "the weights are converted without computing";
    common.warn_unused_device(WHY);
    common.warn_unused_data(WHY);
    // Checks that the tensors match the recipe.
    weights.model(&Device::flex())?;
    let (tensors, config) = (weights.networks(), &weights.config);
    let metadata = |layout: &str| {
        let mut metadata = weights.metadata.clone();
        metadata.insert(LAYOUT.into(), layout.into());
        metadata
    };
    let (file, what) = if args.onnx {
        let metadata = [("config", config.to_toml()), ("weights_sha256", weights.sha256.clone())];
        (
            onnx::encoder(&tensors, config, &metadata),
            "encoder as an ONNX model: pixels in [0, 1] to z and backbone",
        )
    } else if args.torchvision {
        (
            weights::encode(&torchvision::export(&tensors, config)?, metadata("torchvision"))?,
            "encoder as torchvision's resnet18",
        )
    } else {
        (
            weights::encode(&torchvision::pytorch(&tensors), metadata("PyTorch"))?,
            "networks in PyTorch's layouts",
        )
    };
    files::write_atomically(&args.out, &file)?;
    outln!(
        "{}: {}, {what}, of {}",
        output::place(&args.out),
        megabytes(file.len() as u64),
        weights.path.display()
    );
    output.weights(weights);
    output.merge(json!({ "out": args.out, "bytes": file.len() }));
    output.write(common)
}

/// The keys that can be changed, apart from those of [sample].
const SIDES: [&str; 3] = ["data.side", "data.source.side", "data.target.side"];

/// Changes the sampling settings of the weights, or the sides of their images.
fn change(weights: &mut WeightsFile, set: &[String]) -> Result<()> {
    let may = |set: &&String| {
        set.starts_with("sample.")
            || SIDES.contains(&set.split('=').next().unwrap_or_default().trim())
    };
    if let Some(other) = set.iter().find(|set| !may(set)) {
        return Err(Error::usage(format!(
            "--set {other}: weights stay as they were trained; only keys of [sample] and the sides \
             of images (data.side and those of its views) can be changed"
        )));
    }
    let config =
        Config::parse(&weights.config.to_toml(), &weights.path.display().to_string(), set)?;
    if let Some(what) = other_networks(&weights.config, &config) {
        return Err(Error::usage(format!(
            "--set: with these sides the denoiser would have different {what}; choose others"
        )));
    }
    weights.config = config;
    Ok(())
}

/// Re-computes BatchNorm's statistics on plain training images at the weights' new image sides: the
/// same filters produce other statistics on larger images (Touvron et al. 2019, "Fixing the
/// train-test resolution discrepancy").
fn recalibrate(weights: &mut WeightsFile, common: &Common) -> Result<()> {
    let (device, dataset) = (device::selected(common)?, images::open(common, weights)?);
    let all: Vec<usize> = (0..dataset.train.len()).collect();
    let model = weights.model(&device.device)?;
    let how = format!(
        "calibrated at {:?} of {} on {}",
        weights.config.model.sides, weights.config.data.side, dataset.sha256
    );
    weights.replace(
        &calibrate(model, &dataset.train, &all, &weights.config.data, &device.device)?,
        &how,
    )
}

/// Returns what is stored next to the networks: the linear decoder, and the whitening of z if it is
/// requested or already present. A `stale` one, which belongs to the z of the unchanged weights, is
/// fitted again.
fn more(weights: &WeightsFile, args: &Args, stale: bool, common: &Common) -> Result<Tensors> {
    let own = |prefix: &str| {
        weights
            .more
            .iter()
            .filter(|(name, ..)| name.starts_with(prefix))
            .cloned()
            .collect::<Tensors>()
    };
    let mut more = linear(weights, common)?.map_or_else(|| own(MORE), |linear| linear.to_tensors());
    if stale && !args.whiten {
        say("fitting the whitening of z again, to the weights as they are written");
    }
    if args.whiten || stale {
        // Fitted to the weights as they will be read, because whitening amplifies small differences
        // of z.
        let rounded = if args.half {
            Some(WeightsFile::parse(&weights.path, &weights.export(true, None, &more)?)?)
        } else {
            None
        };
        let weights = rounded.as_ref().unwrap_or(weights);
        let (device, dataset) = (device::selected(common)?, images::open(common, weights)?);
        let model = weights.model(&device.device)?;
        let z = frozen(weights, &model, &dataset, &device).train(&FeatureKind::Z, false)?;
        more.extend(Whitening::fit(&z)?.to_tensors());
    } else {
        more.extend(own(WHITENING));
    }
    Ok(more)
}

/// Returns the linear decoder that sampling starts from, stored or fitted now; `None` if sampling
/// starts from pure noise.
fn linear(weights: &WeightsFile, common: &Common) -> Result<Option<Arc<LinearDecoder>>> {
    if !weights.config.sample.begins_with_picture() {
        return Ok(None);
    }
    if let Some(stored) = LinearDecoder::stored(weights)? {
        return Ok(Some(Arc::new(stored)));
    }
    let (device, dataset) = (device::selected(common)?, images::open(common, weights)?);
    let model = weights.model(&device.device)?;
    linear_decoder(weights, &model, || Ok(Some(&dataset)), &device)
}

/// Adds to the metadata of a run's weights the command that trained them, and the number of images
/// that the run's starting weights had seen.
fn add_beginning(weights: &mut WeightsFile) {
    let starts = RunDir::of_weights(&weights.path).map_or_else(Vec::new, |run| run.read_starts());
    let Some(first) = starts.first() else { return };
    if !first.command.is_empty() {
        // A cooldown is a separate call, after the one that started the run.
        let cooled = starts[1..].iter().find(|start| cools_down(start));
        let calls: Vec<String> = std::iter::once(first)
            .chain(cooled)
            .map(|start| retyped(&without_folders(&start.command)))
            .collect();
        weights.metadata.insert("command".into(), calls.join(" && "));
    }
    if first.from.is_some() {
        // Nobody knows how many images are behind imported weights.
        let images = first.from_images.map_or_else(|| "unknown".into(), |n| n.to_string());
        weights.metadata.insert(IMAGES_BEFORE.into(), images);
    }
}

/// Returns the largest difference between the z of both files on some test images, relative to the
/// largest |z|, and the number of images.
fn cost(
    before: &WeightsFile,
    after: &WeightsFile,
    output: &mut Output,
    common: &Common,
) -> Result<(f64, usize)> {
    let device = device::selected(common)?;
    let dataset = images::open(common, before)?;
    let n = TESTED.min(dataset.test.len());
    let indices: Vec<usize> = (0..n).collect();
    let z = |weights: &WeightsFile| {
        let model = weights.model(&device.device)?;
        encode(&model, &dataset.test, &indices, &weights.config.data, false, &device.device)
    };
    let (path, before, after) = (&before.path, z(before)?, z(after)?);
    output.device(&device);
    output.data(&dataset, "test", n);
    let largest = before.values.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let difference = before
        .values
        .iter()
        .zip(&after.values)
        .fold(0.0f64, |m, (a, b)| m.max(f64::from((a - b).abs())));
    if !before.values.iter().chain(&after.values).all(|v| v.is_finite()) || largest == 0.0 {
        let path = path.display();
        return Err(Error::failed(format!(
            "z of {path} is zero or not finite: the weights are damaged or have diverged"
        )));
    }
    Ok((difference / largest, n))
}
