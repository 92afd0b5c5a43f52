//! `soda quality`: measures of reconstructions and samples.

mod found;
mod kind;
mod measured;

use self::found::Found;
use self::kind::Kind;
use self::measured::{Measured, SHOWN};
use crate::cli::args::{Common, SamplingArgs, WeightsArgs, count};
use crate::cli::output::{self, Output, TEST_SET_TOO_SMALL};
use crate::cli::session::Session;
use serde_json::json;
use soda::data::{Images, bytes_of};
use soda::edit::generator::signed;
use soda::edit::prior::COMPONENTS;
use soda::error::{Error, Result};
use soda::eval::features::{FeatureKind, Features};
use soda::eval::frechet::{inception_score, scores};
use soda::eval::inception::Inception;
use soda::eval::linear_full::LogisticRegression;
use soda::eval::precision_recall::NEIGHBOURS;
use soda::progress::warn;
use soda::report::grid::{GridRow, LARGE, save_table, scale};
use soda::units::grouped;
use std::path::{Path, PathBuf};

/// Arguments of `soda quality`.
#[derive(clap::Args)]
#[command(
    after_help = "`detail` is the energy above 8 cycles per image, relative to the test images: 1 \
                  is as sharp. `class %` is the share of reconstructions that, encoded again, a \
                  classifier trained on z of real training images assigns to the test image's \
                  class. The mean training image and a linear map from z to pixels are listed for \
                  comparison, because blur alone scores well in PSNR. Frechet distance, precision \
                  and recall compare the z of generated and of real images, under the encoder \
                  being evaluated: they compare samples within a run, not runs, and are not FID. \
                  Training images measured in the same way show what a perfect model would score \
                  with as many images."
)]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Number of test images to reconstruct, and of samples (default: 200, or all if fewer).
    #[arg(short, long, allow_negative_numbers = true, value_parser = count::<u64>(1..=50_000))]
    n: Option<u64>,
    /// Number of Gaussians in the mixture z is sampled from, as in `soda sample`.
    #[arg(long, default_value_t = COMPONENTS as u64, allow_negative_numbers = true, value_parser = count::<u64>(1..=1000))]
    components: u64,
    /// Also compute FID, KID, Inception score, precision and recall with this Inception-v3. FILE is
    /// pt_inception-2015-12-05-6726825d.pth of the package pytorch-fid; nothing is downloaded.
    #[arg(long, value_name = "FILE")]
    inception: Option<PathBuf>,
    /// Output picture: test images, images from z and their own x_T, from z alone, and samples.
    #[arg(long, value_name = "FILE", default_value = "quality.png")]
    out: PathBuf,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Measures reconstructions and samples.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let seed = args.sampling.seed;
    let mut session = Session::open("quality", &args.weights, &args.sampling, &args.out, common)?;
    let inception =
        args.inception.as_ref().map(|path| Inception::open(path, session.device())).transpose()?;
    if let Some(inception) = inception.as_ref().filter(|inception| !inception.is_published()) {
        warn(&format!(
            "warning: the SHA-256 of {} begins with {:.8}, not with 6726825d as that of the \
             published weights, so distances in its features are not FID",
            args.inception.as_ref().expect("a file").display(),
            inception.sha256
        ));
    }
    let dataset = session.dataset()?.clone();
    let n = how_many(args.n, dataset.train.len(), dataset.test.len())?;
    if n < ENOUGH {
        warn(&format!(
            "warning: with {n} images, Frechet distance, precision and recall are mostly chance; \
             use {ENOUGH} or more"
        ));
    }
    let prior = session.prior(args.components as usize)?;
    let (generator, linear, dim) =
        (session.generator()?, session.linear()?, session.config().model.z_dim);
    let side = generator.side();
    let latent = prior.mixture.sample(n, 1.0, seed);
    let mean = mean_image(&dataset.train, side)?;

    let [of_test, of_train] = [&dataset.test, &dataset.train].map(|images| images.spread(n));
    // Only z and sums are kept of all images.
    let of_map =
        |kind: &Kind| linear.is_some() || !matches!(kind, Kind::LinearMap | Kind::DrawnLinearly);
    let mut kinds: Vec<Measured> =
        Kind::ALL.into_iter().filter(of_map).map(Measured::new).collect();
    for (part, generator) in generator.parts(n) {
        let test = dataset.test.select(&of_test[part.clone()]);
        let train = dataset.train.select(&of_train[part.clone()]);
        let (z, originals) = (generator.encode(&test)?, signed(&test, side)?);
        for kind in &mut kinds {
            let latent = &latent[part.start * dim..part.end * dim];
            let map = |z: &[f32]| {
                linear.as_ref().map_or(Vec::new(), |linear| linear.at(&linear.mean(z), side, None))
            };
            let images = match kind.kind {
                Kind::Test => originals.clone(),
                Kind::OwnNoise => {
                    generator.plain().decode(&z, &generator.invert(&originals, &z)?, None, seed)?
                }
                Kind::ZAlone => generator.draw(&z, seed)?,
                Kind::LinearMap => map(&z),
                Kind::Mean => mean.repeat(part.len()),
                Kind::Drawn => generator.clone().varied().draw(latent, seed)?,
                Kind::DrawnLinearly => map(latent),
                Kind::Training => signed(&train, side)?,
            };
            kind.add(images, &originals, side, &generator, inception.as_ref())?;
        }
    }
    save(&args.out, &kinds, n, side)?;

    let classifier = match dataset.classes.len() {
        0 | 1 => None,
        classes => Some(LogisticRegression::fit(
            &session.frozen(&dataset).train(&FeatureKind::Z, false)?,
            classes,
        )?),
    };
    let real = kinds[0].z.clone();
    let labels: Vec<u16> = of_test.iter().map(|&i| dataset.test.label(i)).collect();
    let right = |kind: &Measured| -> Result<Option<f64>> {
        let Some(classifier) = &classifier else { return Ok(None) };
        Ok(Some(
            classifier
                .score(&Features { dim, values: kind.z.clone(), labels: labels.clone() })?
                .top1,
        ))
    };
    let count = grouped(n as u64);
    outln!("{count} images of each kind, compared with {count} test images");
    outln!(
        "  {:<16} {:>8} {:>6} {:>7} {:>7} {:>16} {:>10} {:>7}",
        "",
        "PSNR dB",
        "SSIM",
        "detail",
        "class %",
        "Frechet distance",
        "precision",
        "recall"
    );
    for (number, kind) in kinds.iter().enumerate() {
        let found = Found::of(
            kind,
            &kinds[0],
            &real,
            dim,
            if kind.kind.is_reconstruction() { right(kind)? } else { None },
        )?;
        outln!("  {}", found.line(kind.kind.name(), number == 0));
        session.output.set(kind.kind.key(), json!(found));
    }
    if let Some(inception) = &inception {
        by_inception(inception, &kinds, &mut session.output)?;
    }
    outln!("picture {}", output::place(&args.out));
    session.used("test", n);
    session.output.set("n", json!(n));
    session.output.set("feature_space", json!("z of these weights; not FID"));
    session.output.set("prior", json!(prior.quality));
    session.finish()
}

/// The default number of images of each kind.
const USUAL: usize = 200;
/// The number of images below which distances between sets are mostly chance.
const ENOUGH: usize = 50;

/// Returns the number of images of each kind: as requested, else as many as there are, up to
/// [`USUAL`].
fn how_many(asked: Option<u64>, train: usize, test: usize) -> Result<usize> {
    let (least, most) = (NEIGHBOURS + 1, test.min(train));
    if most < least {
        return Err(Error::failed(format!(
            "quality compares sets of at least {least} images, and the training set holds {train}, \
             the test set {test}; {TEST_SET_TOO_SMALL}"
        )));
    }
    let n = asked.map_or(most.min(USUAL), |n| n as usize);
    if n < least || n > most {
        return Err(Error::usage(format!(
            "-n {n}: must be between {least} and {} (the training set holds {} images, the test \
             set {})",
            grouped(most as u64),
            grouped(train as u64),
            grouped(test as u64)
        )));
    }
    Ok(n)
}

/// Prints and records the scores in the features of `inception`, compared with the test images.
fn by_inception(inception: &Inception, kinds: &[Measured], output: &mut Output) -> Result<()> {
    let name = if inception.is_published() { "FID" } else { "Frechet" };
    outln!("by Inception-v3");
    outln!(
        "  {:<16} {name:>8} {:>9} {:>15} {:>10} {:>7}",
        "",
        "KID",
        "Inception score",
        "precision",
        "recall"
    );
    let (real, mut rows) = (&kinds[0].looked, serde_json::Map::new());
    let compared = |kind: &&Measured| kind.kind.is_compared() && kind.kind != Kind::Test;
    for kind in kinds.iter().filter(compared) {
        let found = scores(&kind.looked, real)?;
        outln!(
            "  {:<16} {:>8.2} {:>9.5} {:>15.2} {:>10.1} {:>7.1}",
            kind.kind.name(),
            found.frechet,
            found.kid,
            found.inception_score,
            found.precision,
            found.recall
        );
        rows.insert(kind.kind.key().into(), json!(found));
    }
    let score = inception_score(real);
    outln!("  {:<16} {:>8} {:>9} {score:>15.2}", Kind::Test.name(), "-", "-");
    rows.insert(Kind::Test.key().into(), json!({ "inception_score": score }));
    let published = inception.is_published();
    output.set("inception", json!({ "sha256": inception.sha256, "is_fid": published, "beside": "test images", "scores": rows }));
    Ok(())
}

/// Returns the mean of `images`, in [-1, 1], resized to `side` pixels.
fn mean_image(images: &Images, side: usize) -> Result<Vec<f32>> {
    let mut sums = vec![0.0f64; bytes_of(images.side())];
    for i in 0..images.len() {
        sums.iter_mut().zip(images.image(i)?.iter()).for_each(|(sum, &p)| *sum += f64::from(p));
    }
    let pixels = sums.iter().map(|sum| (sum / images.len().max(1) as f64).round() as u8).collect();
    signed(&Images::new(images.side(), pixels, vec![0]), side)
}

/// Saves the picture: the first images of each kind that is shown.
fn save(out: &Path, kinds: &[Measured], n: usize, side: usize) -> Result<()> {
    let shown = n.min(SHOWN) * bytes_of(side);
    let rows = kinds.iter().filter(|measured| measured.kind.is_shown());
    let row = |kind: &'_ Measured| {
        (
            kind.kind.name(),
            kind.shown[..shown].chunks(bytes_of(side)).map(<[f32]>::to_vec).collect::<Vec<_>>(),
        )
    };
    let rows: Vec<_> = rows.map(row).collect();
    let rows: Vec<GridRow> = rows
        .iter()
        .map(|(label, images)| GridRow {
            label: Some(label),
            images: images.iter().map(Vec::as_slice).collect(),
        })
        .collect();
    save_table(out, &[], &rows, side, scale(side, LARGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_sets_are_used_whole_and_those_too_small_are_refused_with_their_sizes() {
        let n = |asked, train, test| how_many(asked, train, test).expect("enough");
        assert_eq!([n(None, 5000, 1000), n(None, 54, 6), n(Some(4), 54, 6)], [200, 6, 4]);
        let error =
            |asked, train, test| how_many(asked, train, test).expect_err("too few").to_string();
        assert!(
            error(None, 20, 2).contains("the training set holds 20, the test set 2"),
            "{}",
            error(None, 20, 2)
        );
        assert!(
            error(Some(200), 54, 6).contains("-n 200: must be between 4 and 6"),
            "{}",
            error(Some(200), 54, 6)
        );
        assert!(error(Some(3), 54, 6).contains("between 4 and 6"));
    }
}
