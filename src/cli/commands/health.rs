//! `soda health`: measures of the representation by itself.

use crate::cli::args::{Common, PrecisionArgs, WeightsArgs, count, images};
use crate::cli::device;
use crate::cli::fitted::frozen;
use crate::cli::output::{self, ENOUGH_TO_SCORE, Holds, Output, TEST_SET_TOO_SMALL};
use serde_json::json;
use soda::error::{Error, Result};
use soda::eval::alignment_uniformity::{alignment, purity, separation, uniformity};
use soda::eval::calibration::{Verdicts, verdicts};
use soda::eval::features::{Augmented, FeatureKind};
use soda::eval::knn::Rule;
use soda::eval::latent_statistics::statistics;
use soda::eval::linear::LinearProbe;
use soda::eval::probe::trained;
use soda::progress::{say, warn};
use soda::report::heatmap::{Heatmap, save_heatmap};
use soda::units::grouped;
use std::path::{Path, PathBuf};

/// The number of neighbours that purity considers, if there are enough images.
const NEIGHBOURS: usize = 10;
/// The largest number of classes in the picture.
const DRAWN: usize = 100;

/// Arguments of `soda health`.
#[derive(clap::Args)]
#[command(
    after_help = "Alignment and uniformity (Wang and Isola 2020) are measured on z normalised to \
                  length 1; alignment is between two views of an image, each cropped with \
                  probability 0.65 (and then mirrored with probability 0.5), as in `soda probe \
                  --train-views online`. The probe is that of the protocol `linear` with seed 0, \
                  trained on images and mirror images."
)]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Number of nearest test images for purity (default: 10, or fewer for small classes).
    #[arg(long, allow_negative_numbers = true, value_parser = count::<u64>(1..=1000))]
    k: Option<u64>,
    /// Output picture: the confusion matrix of a linear probe.
    #[arg(long, value_name = "FILE", default_value = "confusion.png")]
    out: PathBuf,
}

/// Measures the z of the test images, and a linear probe on it.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("health");
    let weights = args.weights.open()?;
    // Fail before the work if the picture can't be written.
    output::prepare("--out", &args.out, Holds::Picture)?;
    let device = device::selected(common)?;
    let dataset = images::open(common, &weights)?;
    dataset.require_classes("health")?;
    let (n, train_images, classes) =
        (dataset.test.len(), dataset.train.len(), dataset.classes.len());
    if n < 2 {
        return Err(Error::failed(format!(
            "health compares test images, and the test set holds {n}; {TEST_SET_TOO_SMALL}"
        )));
    }
    let k = neighbours(args.k, n, classes)?;
    say(&format!(
        "measuring the health of {} on {}, {}",
        weights.path.display(),
        device.describe(),
        dataset.describe()
    ));
    let model = args.precision.model(&weights, &device, &mut output)?;
    let config = &weights.config;

    let frozen = frozen(&weights, &model, &dataset, &device);
    let test = frozen.test(&FeatureKind::Z)?;
    let all: Vec<usize> = (0..dataset.test.len()).collect();
    let mut views = Augmented::new(&dataset.test, &all, &config.data);
    let [one, other] =
        [views.encode(&model, 0, &device.device)?, views.encode(&model, 1, &device.device)?];
    let aligned = alignment(&one.values, &other.values, test.dim)?;
    let separate = separation(&test.values, test.dim)?;
    let uniform = uniformity(&test.values, test.dim)?;
    let stats = statistics(&test.values, test.dim)?;
    let pure = purity(&test, k)?;

    let train = frozen.train(&FeatureKind::Z, true)?;
    let probe = trained(&config.probe, &dataset, train_images, 2);
    let probe = LinearProbe::trained(&train, classes, &probe, 0, "linear probe")?;
    let top1 = probe.score(&test)?.top1;
    let found = verdicts(&probe.logits(&test), &test.labels, classes);
    draw_confusion(&args.out, &found, &dataset.classes)?;

    if n < ENOUGH_TO_SCORE {
        warn(&format!(
            "warning: with {n} test images, purity, accuracy and calibration are mostly chance; \
             {TEST_SET_TOO_SMALL}"
        ));
    }
    let c = &found.calibration;
    outln!("z of {} test images:", grouped(test.rows() as u64));
    outln!(
        "  alignment   {aligned:.3}   (squared distance between two views of an image; between \
         different images {separate:.3})"
    );
    outln!("  uniformity  {uniform:.3}  (0: all in one point, -4: spread over the whole sphere)");
    outln!("  rank        {}", stats.rank_in_words());
    let neighbours =
        if k == 1 { "nearest neighbours".into() } else { format!("{k} nearest neighbours") };
    outln!("  purity      {pure:.1} % of the {neighbours} have the class of the image");
    outln!(
        "linear probe: accuracy {top1:.1} %, mean confidence {:.1} %, expected calibration error \
         {:.1} %; picture {}",
        c.confidence,
        c.ece,
        output::place(&args.out)
    );
    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, "test", test.rows());
    output.set("alignment", json!(aligned));
    output.set("separation", json!(separate));
    output.set("uniformity", json!(uniform));
    output.set("effective_rank", json!(stats.effective_rank()));
    output.set("purity", json!({ "k": k, "same_class": pure }));
    output.set("top1", json!(top1));
    output.set("classes", json!(dataset.classes));
    output.set("confusion", json!(found.confusion));
    output.set("calibration", json!(found.calibration));
    output.set("out", json!(args.out));
    output.write(common)
}

/// Returns the number of neighbours that purity considers: `asked`, or the default for `n` images
/// of `classes` classes.
fn neighbours(asked: Option<u64>, n: usize, classes: usize) -> Result<usize> {
    match asked {
        Some(k) if k as usize >= n => Err(Error::usage(format!(
            "--k {k}: must be between 1 and {} (the test set holds {} images)",
            grouped(n as u64 - 1),
            grouped(n as u64)
        ))),
        Some(k) => Ok(k as usize),
        None => {
            let rule = Rule { k: NEIGHBOURS + 1, temperature: None };
            Ok(rule.among(n, classes).k.saturating_sub(1).max(1))
        }
    }
}

/// Draws the confusion matrix of `found`; of many `classes`, the most confused.
fn draw_confusion(out: &Path, found: &Verdicts, classes: &[String]) -> Result<()> {
    let shown = found.most_confused(DRAWN);
    let names: Vec<String> = shown.iter().map(|&class| classes[class].clone()).collect();
    let share = |&class: &usize| {
        let row = &found.confusion[class];
        let rows = row.iter().sum::<usize>().max(1) as f64;
        shown.iter().map(|&other| 100.0 * row[other] as f64 / rows).collect::<Vec<_>>()
    };
    let of = match shown.len() == classes.len() {
        true => String::new(),
        false => {
            format!("; the {DRAWN} most confused of {} classes", grouped(classes.len() as u64))
        }
    };
    let heatmap = Heatmap {
        title: format!("Confusion matrix of the linear probe (% of each true class{of})"),
        row_title: "true class".into(),
        column_title: "predicted class".into(),
        rows: names.clone(),
        columns: names,
        values: shown.iter().flat_map(share).collect(),
        range: (0.0, 100.0),
    };
    save_heatmap(out, &heatmap)
}
