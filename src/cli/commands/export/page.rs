//! `soda export --web`: trained networks as an HTML page that runs them in a browser.

use crate::cli::args::{Common, WeightsArgs, images};
use crate::cli::device::{self, adapters, select};
use crate::cli::fitted::{frozen, linear_decoder, prior};
use crate::cli::output::{self, Holds, Output};
use burn::tensor::Device;
use serde_json::{Value, json};
use soda::data::Dataset;
use soda::device::Selected;
use soda::edit::directions::{Direction, of_classes, principal};
use soda::edit::generator::Generator;
use soda::edit::prior::COMPONENTS;
use soda::error::{Error, Result};
use soda::eval::features::{FeatureKind, Features};
use soda::eval::latent_statistics::statistics;
use soda::eval::linear::LinearProbe;
use soda::eval::probe::trained;
use soda::files;
use soda::kernels::plan::Recorder;
use soda::model::parameters;
use soda::model::weights::{Tensors, WeightsFile, to_host};
use soda::progress::say;
use soda::rng::{self, Purpose};
use soda::run_dir::RunDir;
use soda::train::checkpoint::trained_beside;
use soda::units::megabytes;
use soda::web::{Contents, Gallery, LARGEST_BINDING, html, operands, record, record_bench};
use std::path::Path;

/// The largest number of training images in the gallery.
const GALLERY: usize = 1000;
/// The number of principal components with a slider.
const PRINCIPAL: usize = 8;

/// Writes the page of `weights` to `out`, and the results expected of it to `reference`.
pub fn run(
    weights: &WeightsArgs,
    out: &Path,
    reference: Option<&Path>,
    common: &Common,
) -> Result<()> {
    let mut output = Output::new("export");
    let weights = weights.open()?;
    weights.require_denoiser()?;
    let ending = out.extension().map(|ending| ending.to_ascii_lowercase());
    if ending.as_ref().is_some_and(|ending| ending != "html" && ending != "htm") {
        return Err(Error::usage(format!(
            "--web {}: give a file name that ends in .html",
            out.display()
        )));
    }
    output::prepare("--web", out, Holds::Bytes)?;
    if let Some(reference) = reference {
        output::prepare("--reference", reference, Holds::Text)?;
    }
    let (device, dataset) = (device::selected(common)?, images::open(common, &weights)?);
    say(&format!(
        "writing a page for {}, with {}, on {}",
        weights.path.display(),
        dataset.describe(),
        device.describe()
    ));
    // First, because it is quick and fails if there is no adapter.
    let (recorder, bench) = recorded(&weights, &device)?;
    let config = &weights.config;
    let model = weights.model(&device.device)?;
    let linear = match config.sample.begins_with_picture() {
        true => linear_decoder(&weights, &model, || Ok(Some(&dataset)), &device)?,
        false => None,
    };
    let frozen = frozen(&weights, &model, &dataset, &device);
    let prior = prior(&weights, &dataset, &frozen, COMPONENTS)?;
    let train = frozen.train(&FeatureKind::Z, dataset.classes.len() >= 2)?;
    let (directions, principal) = directions(&weights, &dataset, &train)?;
    let gallery = gallery(&dataset, &train)?;

    let tensors = halved(&weights)?;
    let contents = Contents {
        config,
        weights: (&name(&weights), &weights.sha256),
        trained: weights.trained().or_else(|| trained_beside(&weights.path)),
        tensors: &tensors,
        recorder: &recorder,
        linear: linear.as_deref(),
        prior: Some(&prior.mixture),
        directions: (&directions, principal),
        gallery: Some(&gallery),
        bench: Some(&bench),
    };
    let page = html(&contents)?;
    files::write_atomically(out, page.as_bytes())?;

    if let Some(reference) = reference {
        let sample = config.sample.clone();
        let generator =
            Generator::new(&model, config, sample, &device.device).beginning_with(linear);
        files::write_atomically(reference, expected(&generator, &dataset)?.to_string().as_bytes())?;
    }

    let plan = &recorder.plan;
    let numbers: usize =
        operands(&recorder, &tensors)?.iter().map(|(_, _, values)| values.len()).sum();
    let pass =
        |name: &str| plan.passes.get(name).map_or(0, |pass| pass.buffers.iter().sum::<u64>());
    let memory = 4 * numbers as u64 + ["encode_1", "denoise_1"].map(pass).iter().sum::<u64>();
    outln!(
        "{}: {}; {} kernels, {} of memory on the GPU for one image at a time; open it in a browser \
         with WebGPU",
        output::place(out),
        megabytes(page.len() as u64),
        plan.kernels.len(),
        megabytes(memory)
    );
    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, "train", gallery.labels.len());
    output.merge(json!({ "web": out, "bytes": page.len(), "kernels": plan.kernels.len(), "memory_bytes": memory }));
    output.write(common)
}

/// Records the passes of the networks on the chosen device or, if that is the CPU, on any adapter:
/// nothing is computed on it.
fn recorded(weights: &WeightsFile, device: &Selected) -> Result<(Recorder, Value)> {
    let place = match &device.adapter {
        Some(_) => device.device.clone(),
        None => {
            let adapter = adapters().into_iter().next().ok_or_else(|| {
                Error::failed(
                    "--web records the page's kernels on an adapter, and this machine has none; a \
                     software adapter will do (Mesa's lavapipe)",
                )
            })?;
            select(&adapter.selector())?.device
        }
    };
    let mut recorder =
        record(&weights.model(&place)?, &weights.config.model, LARGEST_BINDING, &place)?;
    let bench = record_bench(&mut recorder, &place)?;
    Ok((recorder, bench))
}

/// Returns the networks' tensors as [`WeightsFile::export`] rounds them: matrices and convolutions
/// to f16.
fn halved(weights: &WeightsFile) -> Result<Tensors> {
    let rounded = WeightsFile::parse(&weights.path, &weights.export(true, None, &Tensors::new())?)?;
    to_host(parameters::collect(&rounded.model(&Device::flex())?))
}

/// Returns the name of the weights on the page: that of their file, or of their run.
fn name(weights: &WeightsFile) -> String {
    let run = RunDir::of_weights(&weights.path);
    let path = run.as_ref().map_or(&weights.path, |run| &run.path);
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the principal components of z followed by the class directions, and the number of
/// principal components.
fn directions(
    weights: &WeightsFile,
    dataset: &Dataset,
    train: &Features,
) -> Result<(Vec<Direction>, usize)> {
    let (n, z_dim) = (dataset.train.len(), weights.config.model.z_dim);
    // The statistics leave out the mirror images, which follow the images if there are any.
    let stats = statistics(&train.values[..n * z_dim], z_dim)?;
    let mut directions = principal(&stats, PRINCIPAL.min(z_dim).min(n.saturating_sub(1)));
    let count = directions.len();
    if dataset.classes.len() >= 2 {
        let probe = trained(&weights.config.probe, dataset, n, 2);
        let probe = LinearProbe::trained(train, dataset.classes.len(), &probe, 0, "linear probe")?;
        directions.extend(of_classes(&probe, &dataset.classes, &stats));
    }
    Ok((directions, count))
}

/// Returns the program's own results for the page to match: z of the first test images, a
/// reconstruction of one of them from a seed, and the random numbers of another seed.
fn expected(generator: &Generator, dataset: &Dataset) -> Result<Value> {
    const SEEDS: [u64; 2] = [7, 3];
    let images = dataset.test.first(10);
    let (z, z_dim) = (generator.encode(&images)?, generator.config.model.z_dim);
    let pixels = (0..images.len())
        .map(|i| Ok(interleaved(&images.image(i)?)))
        .collect::<Result<Vec<_>>>()?;
    let normal = rng::normal(&mut rng::stream(SEEDS[1], Purpose::Sampling, 0), 1000);
    Ok(json!({
        "images": pixels,
        "z": z.chunks_exact(z_dim).collect::<Vec<_>>(),
        "reconstruction": { "image": 0, "seed": SEEDS[0], "pixels": generator.draw(&z[..z_dim], SEEDS[0])? },
        "normal": { "seed": SEEDS[1], "purpose": Purpose::Sampling as u8, "index": 0, "values": normal },
    }))
}

/// Reorders an image from `[3, side, side]` to `[side, side, 3]`.
fn interleaved(image: &[u8]) -> Vec<u8> {
    let plane = image.len() / 3;
    (0..plane).flat_map(|at| [0, 1, 2].map(|channel| image[channel * plane + at])).collect()
}

/// Chooses the training images of the gallery, the same ones every time.
fn gallery(dataset: &Dataset, train: &Features) -> Result<Gallery> {
    let (images, side) = (&dataset.train, dataset.train.side());
    let order = rng::permutation(&mut rng::stream(0, Purpose::Split, 2), images.len());
    let mut chosen: Vec<usize> = order.into_iter().take(GALLERY).map(|i| i as usize).collect();
    chosen.sort_unstable();
    let mut gallery = Gallery {
        source: dataset.name.clone(),
        side,
        classes: dataset.classes.clone(),
        ..Gallery::default()
    };
    for i in chosen {
        gallery.pixels.extend(interleaved(&images.image(i)?));
        gallery.z.extend(&train.values[i * train.dim..][..train.dim]);
        gallery.labels.push(images.label(i));
    }
    Ok(gallery)
}
