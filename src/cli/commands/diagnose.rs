//! `soda diagnose`: how much z helps the denoiser, and how z is spread.

use crate::cli::args::{Common, PrecisionArgs, WeightsArgs, count, images};
use crate::cli::device;
use crate::cli::fitted::frozen;
use crate::cli::output::{self, Holds, Output, TEST_SET_TOO_SMALL};
use serde_json::json;
use soda::bench::table::digits;
use soda::error::{Error, Result};
use soda::eval::features::FeatureKind;
use soda::eval::latent_statistics::{LatentStats, outliers, statistics};
use soda::eval::loss::{Bin, Losses, by_time};
use soda::progress::say;
use soda::report::plot::{CurveStyle, Series, save_curve};
use soda::units::{grouped, tenths};
use std::path::PathBuf;

/// The default number of test images.
const USUAL: usize = 200;

/// Arguments of `soda diagnose`.
#[derive(clap::Args)]
#[command(after_help = "Losses are measured on the plain test images. `no z` is z masked as for \
                        classifier-free guidance.")]
pub struct Args {
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Number of test images, from the start of the set (default: 200, or all if fewer).
    #[arg(short, long, allow_negative_numbers = true, value_parser = count::<usize>(..))]
    n: Option<usize>,
    /// Number of ranges of noise levels.
    #[arg(long, default_value_t = 10, allow_negative_numbers = true, value_parser = count::<usize>(..))]
    bins: usize,
    /// Output picture: how much of the loss z explains, by noise level.
    #[arg(long, value_name = "FILE", default_value = "diagnosis.png")]
    out: PathBuf,
    /// Seed of timesteps and noise.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = count::<u64>(..))]
    seed: u64,
}

/// Measures how much z helps the denoiser, and how z is spread.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("diagnose");
    let weights = args.weights.open()?;
    weights.require_denoiser()?;
    let device = device::selected(common)?;
    let dataset = images::open(common, &weights)?;
    let most = dataset.test.len();
    if most < 2 {
        return Err(Error::failed(format!(
            "diagnose also denoises each test image with the z of another one, and the test set \
             holds {most}; {TEST_SET_TOO_SMALL}"
        )));
    }
    let n = args.n.unwrap_or(most.min(USUAL));
    if n < 2 || n > most {
        return Err(Error::usage(format!(
            "-n {n}: must be between 2 (images are also denoised with another image's z) and \
             {} (the size of the test set)",
            grouped(most as u64)
        )));
    }
    if args.bins == 0 || args.bins > weights.config.diffusion.steps {
        return Err(Error::usage(format!(
            "--bins {}: must be between 1 and {} (the noise levels of these weights)",
            args.bins, weights.config.diffusion.steps
        )));
    }
    output::prepare("--out", &args.out, Holds::Picture)?;
    say(&format!(
        "diagnosing {} on {}, {}",
        weights.path.display(),
        device.describe(),
        dataset.describe()
    ));
    let model = args.precision.model(&weights, &device, &mut output)?;
    let indices = dataset.test.spread(n);
    let images = dataset.test.select(&indices);
    let z = frozen(&weights, &model, &dataset, &device).test(&FeatureKind::Z)?;
    let own = z.select(&indices);
    let measured = (&images, &own.values[..]);
    let (all, bins) =
        by_time(&model, &weights.config, measured, args.bins, args.seed, &device.device)?;
    let stats = statistics(&z.values, z.dim)?;

    let diffusion = &weights.config.diffusion;
    outln!("mean squared error on {}, by t of {}:", diffusion.prediction.name(), diffusion.steps);
    outln!("  {:>11} {:>9} {:>9} {:>9} {:>12}", "t", "own z", "other z", "no z", "explained");
    for Bin { t: [first, last], losses } in &bins {
        print_row(&format!("{first}-{last}"), losses);
    }
    print_row("all", &all);
    let apart = outliers(&z.values, &stats);
    let words = in_words(&all, &stats, apart);
    words.iter().for_each(|line| outln!("{line}"));
    let middle = |bin: &Bin| (bin.t[0] + bin.t[1]) as f64 / 2.0;
    let series = |name, of: fn(&Losses) -> f64| Series {
        name,
        points: bins.iter().map(|bin| (middle(bin), of(&bin.losses))).collect(),
    };
    let curves = [
        series("own z", Losses::explained),
        series("another image's z", Losses::explained_by_another),
    ];
    let style = CurveStyle { reach: Some((0.0, 0.0)), ..Default::default() };
    save_curve(
        &args.out,
        "How much of the loss z explains",
        "noise level t",
        "% of the loss without z",
        &curves,
        style,
    )?;
    outln!("picture {}", output::place(&args.out));

    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, "test", n);
    output.set("prediction", json!(weights.config.diffusion.prediction));
    output.set("loss", json!(all));
    output.set("explained", json!(all.explained()));
    let of_bin = |Bin { t, losses: l @ Losses { own, shuffled, none } }: &Bin| {
        let [explained, other] = [l.explained(), l.explained_by_another()];
        json!({ "t": t, "own": own, "shuffled": shuffled, "none": none, "explained": explained, "explained_by_another": other })
    };
    output.set("bins", bins.iter().map(of_bin).collect());
    output.set("z", json!({ "effective_rank": stats.effective_rank(), "variance": stats.variance, "shares": stats.shares(), "outliers": apart }));
    output.set("findings", json!(words));
    output.write(common)
}

fn print_row(name: &str, losses: &Losses) {
    let Losses { own, shuffled, none } = losses;
    outln!(
        "  {name:>11} {own:>9.4} {shuffled:>9.4} {none:>9.4} {:>10} %",
        tenths(losses.explained())
    );
}

/// Warns of a z that hardly varies in more than one or two directions: its effective rank is `rank`,
/// of at most `most`.
fn collapsed(rank: f64, most: usize) -> Option<String> {
    // A tenth of the directions is no sign of it: photographs vary in few themselves.
    (rank < f64::min(3.0, 0.1 * most as f64)).then(|| {
        "warning: z has collapsed: it hardly varies in more than one or two directions".into()
    })
}

/// Describes the results in sentences.
fn in_words(losses: &Losses, stats: &LatentStats, apart: f64) -> Vec<String> {
    let (explained, dim, rank) = (losses.explained(), stats.dim, stats.rank_in_words());
    let mut words = vec![if explained < 1.0 {
        format!(
            "warning: the denoiser hardly uses z, which explains only {} % of its \
             loss; train longer, or with a schedule that spends more steps at medium noise levels",
            tenths(explained)
        )
    } else {
        let wrong = 100.0 * (losses.shuffled / losses.own - 1.0);
        format!(
            "z explains {} % of the denoiser's loss; with another image's z the loss is {} % \
             higher",
            tenths(explained),
            tenths(wrong)
        )
    }];
    let range =
        |pick: fn(f64, f64) -> f64, from: f64| stats.variance.iter().copied().fold(from, pick);
    let (least, most) = (range(f64::min, f64::INFINITY), range(f64::max, 0.0));
    words.push(format!(
        "z of {} test images has an effective rank of {rank}; the variances of its dimensions \
         range from {} to {}",
        grouped(stats.n as u64),
        digits(least),
        digits(most)
    ));
    words.extend(collapsed(stats.effective_rank(), stats.largest_rank()));
    if apart > 0.0 {
        words.push(format!(
            "warning: z of {apart:.1} % of the images lies far from all others (more than 5 times \
             the median distance), because the encoder learns too fast; lower \
             train.encoder_lr_ratio"
        ));
    }
    let mean = stats.total_variance() / dim as f64;
    let still = stats.variance.iter().filter(|v| **v < 1e-3 * mean).count();
    // With few images, a dimension may hardly vary by chance.
    if still > 0 && stats.n > dim {
        words.push(format!(
            "warning: {still} of {dim} dimensions of z hardly vary (less than a thousandth of the \
             mean variance)"
        ));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::collapsed;

    #[test]
    fn z_has_collapsed_if_it_varies_in_one_or_two_of_many_directions() {
        assert!(collapsed(1.4, 128).expect("a warning").starts_with("warning: z has collapsed"));
        assert_eq!([collapsed(11.1, 128), collapsed(18.2, 128)], [None, None]);
        // Three images span two directions: that one of them prevails is chance.
        assert_eq!(collapsed(1.0, 2), None);
    }
}
