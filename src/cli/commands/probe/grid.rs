//! `soda probe --grid`: scores of the denoiser's blocks by noise level.

use super::{Args, Common};
use crate::cli::args::{count, images};
use crate::cli::device;
use crate::cli::output::{self, Holds, Output};
use indicatif::HumanCount;
use serde_json::json;
use soda::error::{Error, Result};
use soda::eval::features::FeatureKind;
use soda::eval::grid::{Grid, Scan, default_times, scan};
use soda::eval::method::Method;
use soda::eval::probe::{Protocol, Split, TrainViews};
use soda::model::shipped;
use soda::progress::say;
use soda::report::heatmap::{Heatmap, save_heatmap};
use soda::shell::{continued, quoted};
use std::path::{Path, PathBuf};

/// Flags that a scan has no use for. clap drops the `requires` of a flag where what it requires
/// conflicts with another one, so they are refused with each flag of the scan.
const OTHERS: [&str; 8] = [
    "features",
    "split",
    "fraction",
    "train_views",
    "baselines",
    "whiten",
    "epochs",
    "features_from",
];

/// Flags of the scan.
#[derive(clap::Args)]
pub struct GridArgs {
    /// Score every decoder block at several noise levels, as in DDAE. Uses the selection split and
    /// saves a heat map.
    #[arg(long, conflicts_with_all = OTHERS)]
    grid: bool,
    /// Noise levels of --grid (default: seven, more closely spaced near 0).
    #[arg(long, value_name = "T,..", value_delimiter = ',', allow_negative_numbers = true, value_parser = count::<usize>(..), requires = "grid", conflicts_with_all = OTHERS)]
    times: Vec<usize>,
    /// Number of training images for --grid; half as many held-out images are used for evaluation.
    #[arg(long, value_name = "N", default_value_t = 1000, allow_negative_numbers = true, value_parser = count::<u64>(20..), requires = "grid", conflicts_with_all = OTHERS)]
    limit: u64,
    /// Output picture of --grid: a heat map.
    #[arg(long, value_name = "FILE", default_value = "grid.png", requires = "grid", conflicts_with_all = OTHERS)]
    out: PathBuf,
}

impl GridArgs {
    pub fn asked(&self) -> bool {
        self.grid
    }
}

/// Scans the denoiser's blocks.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("probe");
    let weights = args.weights.open()?;
    weights.require_denoiser()?;
    let config = &weights.config;
    let mut times = if args.grid.times.is_empty() {
        default_times(config.diffusion.steps)
    } else {
        args.grid.times.clone()
    };
    times.sort_unstable();
    times.dedup();
    for &t in &times {
        let kind = FeatureKind::Denoiser { block: "middle".into(), t };
        kind.check(config).map_err(|e| Error::usage(format!("--times {t}: {e}")))?;
    }
    output::prepare("--out", &args.grid.out, Holds::Picture)?;
    let device = device::selected(common)?;
    let dataset = images::open(common, &weights)?;
    say(&format!(
        "scanning {} on {}, {}",
        weights.path.display(),
        device.describe(),
        dataset.describe()
    ));
    let model = args.precision.model(&weights, &device, &mut output)?;
    let standard = Protocol::new(args.protocol.parse()?, Split::Selection, args.seeds);
    let protocol = Protocol { views: TrainViews::Plain, ..standard };
    let wanted = Scan { protocol: &protocol, times: &times, limit: args.grid.limit as usize };
    let grid = scan(&model, config, &dataset, &wanted, &device.device, |t| {
        say(&format!("noise level {t} done"))
    })?;
    let best = grid.best();
    print(&grid, &protocol);
    save_heatmap(&args.grid.out, &picture(&grid, &protocol))?;

    let report = to_report(protocol.method, &best.features, &weights.path, common);
    outln!("Heat map: {}. For the result on the test set: {report}", output::place(&args.grid.out));
    output.device(&device);
    output.weights(&weights);
    output.data(&dataset, "selection", grid.n_test);
    output.merge(json!(grid));
    output.merge(json!({
        "protocol": protocol.method,
        "features": "denoiser",
        "train_views": protocol.views,
        "split": protocol.split,
        "split_seed": 0,
        "seeds": protocol.seeds,
        "best": best,
        "report": report,
    }));
    output.write(common)
}

fn print(grid: &Grid, protocol: &Protocol) {
    let (train, held_out) = (HumanCount(grid.n_train as u64), HumanCount(grid.n_test as u64));
    outln!(
        "{} on the denoiser's blocks: trained on {train} training images, scored on {held_out} \
         held-out ones; top-1 in per cent",
        protocol.method
    );
    let line = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|c| format!("{c:>7}")).collect();
        outln!("  {name:<9}{cells}");
    };
    line("block", grid.times.iter().map(|t| format!("@{t}")).collect());
    for (block, cells) in grid.blocks.iter().zip(grid.cells.chunks_exact(grid.times.len())) {
        line(block, cells.iter().map(|c| format!("{:.1}", c.point.score.top1)).collect());
    }
    let best = grid.best();
    outln!(
        "Best: {} with {:.1} %; z of the same images: {:.1} %",
        best.features,
        best.point.score.top1,
        grid.z.score.top1
    );
}

fn picture(grid: &Grid, protocol: &Protocol) -> Heatmap {
    let values: Vec<f64> = grid.cells.iter().map(|c| c.point.score.top1).collect();
    let fold = |f: fn(f64, f64) -> f64, start| values.iter().copied().fold(start, f);
    Heatmap {
        title: format!(
            "{}, top-1 on {} held-out images",
            protocol.method,
            HumanCount(grid.n_test as u64)
        ),
        row_title: "block of the denoiser".into(),
        column_title: "noise level t".into(),
        rows: grid.blocks.clone(),
        columns: grid.times.iter().map(usize::to_string).collect(),
        range: (fold(f64::min, f64::INFINITY), fold(f64::max, 0.0)),
        values,
    }
}

/// Returns the command that scores `features` on the test set.
fn to_report(method: Method, features: &str, weights: &Path, common: &Common) -> String {
    // The shipped weights are in the program; their file needn't exist here.
    let weights = if weights == Path::new(shipped::PATH) { Path::new("shipped") } else { weights };
    format!(
        "soda probe --protocol {method} --features {} --weights {}{}",
        quoted(features),
        quoted(weights),
        continued(&common.data_flags())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_report_takes_any_path() {
        let data = Common { data: Some("my data".into()), ..Common::default() };
        let words = |weights: &str, common: &Common| {
            let command = to_report(Method::Knn, "middle@50", Path::new(weights), common);
            shlex::split(&command).expect("whole quotes")
        };
        assert_eq!(words(shipped::PATH, &Common::default())[6..], ["--weights", "shipped"]);
        assert_eq!(
            words("it's/a w.safetensors", &data)[2..],
            [
                "--protocol",
                "knn",
                "--features",
                "middle@50",
                "--weights",
                "it's/a w.safetensors",
                "--data",
                "my data"
            ]
        );
    }
}
