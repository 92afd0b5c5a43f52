//! `soda directions`: images along the directions of z.

use crate::cli::args::{Common, SamplingArgs, WeightsArgs, count};
use crate::cli::output;
use crate::cli::session::{Named, Session};
use serde_json::{Value, json};
use soda::data::bytes_of;
use soda::edit::directions::{Direction, of_classes, principal, probabilities, traverse};
use soda::edit::generator::{Generator, signed};
use soda::error::{Error, Result};
use soda::eval::features::FeatureKind;
use soda::eval::latent_statistics::{LatentStats, statistics};
use soda::eval::linear::LinearProbe;
use soda::eval::probe::trained;
use soda::report::grid::{GridRow, SMALL, save_table, scale};
use soda::units::grouped;
use std::path::{Path, PathBuf};

/// Arguments of `soda directions`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Number of principal components of z to show (default: 5, or as many as there are).
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count::<usize>(..))]
    pca: Option<usize>,
    /// Also show the direction that most increases each class's logit in a linear classifier.
    #[arg(long)]
    classes: bool,
    /// Start from the z of this image: a file, test:17 or train:3. Repeatable (default: the mean of
    /// z).
    #[arg(long, value_name = "IMAGE")]
    image: Vec<String>,
    /// Output picture: for each direction a strip from -3 to +3 standard deviations of z.
    #[arg(long, value_name = "FILE", default_value = "directions.png")]
    out: PathBuf,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// The default number of principal components.
const PRINCIPAL: usize = 5;
/// The columns of a strip, in standard deviations.
const PLACES: [f64; 7] = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0];
const HEADINGS: [&str; 7] = ["-3", "-2", "-1", "0", "+1", "+2", "+3"];

/// The start of a strip.
struct Start {
    name: String,
    z: Vec<f32>,
    /// `[3, side, side]`, if the start is an image.
    original: Option<Vec<f32>>,
}

/// Draws images along the directions of z.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut session =
        Session::open("directions", &args.weights, &args.sampling, &args.out, common)?;
    session.deterministic("directions")?;
    let (dataset, named) = (session.dataset()?.clone(), session.images(&args.image)?);
    if args.classes {
        dataset.require_classes("--classes")?;
    }
    let (generator, config) = (session.generator()?, session.config());
    let z_dim = config.model.z_dim;
    let count = principal_count(args, z_dim, dataset.train.len())?;
    let frozen = session.frozen(&dataset);
    // The probe also trains on mirror images, as in `soda probe`; the statistics use the images
    // alone.
    let train = frozen.train(&FeatureKind::Z, args.classes)?;
    let stats = statistics(&train.values[..dataset.train.len() * z_dim], z_dim)?;
    let mut directions = principal(&stats, count);
    let probe = match args.classes {
        true => {
            let probe = trained(&config.probe, &dataset, dataset.train.len(), 2);
            Some(LinearProbe::trained(&train, dataset.classes.len(), &probe, 0, "linear probe")?)
        }
        false => None,
    };
    if let Some(probe) = &probe {
        directions.extend(of_classes(probe, &dataset.classes, &stats));
    }

    let starts = starts(&generator, &named, &stats)?;
    let strips: Vec<Vec<f32>> = starts
        .iter()
        .flat_map(|start| directions.iter().map(|along| traverse(&start.z, along, &PLACES)))
        .collect();
    // Every image starts from the same noise, so that all differences come from z.
    let seed = args.sampling.seed;
    let x_last = generator.noise(1, seed).repeat(strips.len() * PLACES.len());
    let drawn = generator.decode(&strips.concat(), &x_last, None, seed)?;
    draw(&args.out, count, &starts, &directions, &drawn, generator.side())?;

    let score = match &probe {
        Some(probe) => Some(probe.score(&frozen.test(&FeatureKind::Z)?)?),
        None => None,
    };
    let share: f64 = directions[..count].iter().map(|d| 100.0 * d.share).sum();
    out!(
        "{} strips in {}; effective rank of z {}, over {} training images",
        strips.len(),
        output::place(&args.out),
        stats.rank_in_words(),
        grouped(stats.n as u64)
    );
    if count > 0 {
        out!("; {count} principal components explain {share:.1} % of its variance");
    }
    if let Some(score) = &score {
        out!("; accuracy of the classifier on test images {:.1} %", score.top1);
    }
    outln!();
    session.used("train", dataset.train.len());
    session.output.set("effective_rank", json!(stats.effective_rank()));
    session.output.set("directions", describe(&directions, count, probe.as_ref(), &starts[0].z));
    if let Some(score) = score {
        session.output.set("probe", json!(score));
    }
    session.finish()
}

fn starts(generator: &Generator, named: &Named, stats: &LatentStats) -> Result<Vec<Start>> {
    if named.names.is_empty() {
        let z = stats.mean.iter().map(|&v| v as f32).collect();
        return Ok(vec![Start { name: "mean of z".into(), z, original: None }]);
    }
    let start = |(i, name): (usize, &String)| {
        let image = named.images.select(&[i]);
        Ok(Start {
            name: name.clone(),
            z: generator.encode(&image)?,
            original: Some(signed(&image, generator.side())?),
        })
    };
    named.names.iter().enumerate().map(start).collect()
}

/// Returns the number of principal components to show: the z of n images vary along at most n - 1
/// directions.
fn principal_count(args: &Args, z_dim: usize, images: usize) -> Result<usize> {
    let most = z_dim.min(images.saturating_sub(1));
    let Some(asked) = args.pca else { return Ok(most.min(PRINCIPAL)) };
    if asked > most || (asked == 0 && !args.classes) {
        let why = if most < z_dim {
            format!("the training set holds {} images", grouped(images as u64))
        } else {
            "the length of z".into()
        };
        return Err(Error::usage(format!(
            "--pca {asked}: must be between 1 and {most} ({why}), or 0 with --classes"
        )));
    }
    Ok(asked)
}

/// Saves the picture: for each start its original, if there is one, over its strips. The first
/// `pca` directions are principal components.
fn draw(
    out: &Path,
    pca: usize,
    starts: &[Start],
    directions: &[Direction],
    drawn: &[f32],
    side: usize,
) -> Result<()> {
    let image = bytes_of(side);
    let label = |(i, along): (usize, &Direction)| match i < pca {
        true => format!("{}, {:.1} %", along.name, 100.0 * along.share),
        false => along.name.clone(),
    };
    let labels: Vec<String> = directions.iter().enumerate().map(label).collect();
    let mut strips = drawn.chunks_exact(PLACES.len() * image);
    let blank = vec![1.0; image];
    let mut rows = Vec::new();
    for start in starts {
        if let Some(original) = &start.original {
            // Three blank cells put the original over column 0, which shows its z.
            rows.push(GridRow {
                label: Some(&start.name),
                images: vec![&blank, &blank, &blank, original],
            });
        }
        for (label, strip) in labels.iter().zip(&mut strips) {
            rows.push(GridRow { label: Some(label), images: strip.chunks_exact(image).collect() });
        }
    }
    save_table(out, &HEADINGS, &rows, side, scale(side, SMALL))
}

/// Formats the directions as JSON; those of classes with the classifier's probability along the
/// strip of `z`.
fn describe(directions: &[Direction], pca: usize, probe: Option<&LinearProbe>, z: &[f32]) -> Value {
    let one = |(i, along): (usize, &Direction)| {
        let block = json!({ "name": along.name, "share": 100.0 * along.share, "deviation": along.deviation });
        let Some((probe, class)) = probe.zip(i.checked_sub(pca)) else { return block };
        let mut block = block;
        block["probability"] =
            json!(probabilities(probe, &traverse(z, along, &PLACES), z.len(), class));
        block
    };
    directions.iter().enumerate().map(one).collect()
}
