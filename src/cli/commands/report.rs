//! `soda report`: a one-page report on a run. Each part is produced by the corresponding command,
//! which the page names.

mod comparison;
mod health;
mod pictures;
mod repeat;
mod scores;
mod subcommands;
mod training;
mod words;

use crate::cli::args::{Common, images};
use crate::cli::device;
use crate::cli::output::{self, Holds, Output};
use repeat::repeat;
use serde_json::json;
use soda::data::Dataset;
use soda::error::{Error, Result};
use soda::files;
use soda::model::weights::WeightsFile;
use soda::progress::say;
use soda::report::html::{Page, render};
use soda::run_dir::RunDir;
use std::path::PathBuf;
use subcommands::{Finished, Subcommands};

/// Arguments of `soda report`.
#[derive(clap::Args)]
#[command(
    after_help = "The page works offline, can be printed, and is readable on a phone. Results and \
                  pictures are re-computed for the newest weights of the run and kept in \
                  DIR/report; on two processor cores and the full CIFAR-10 that takes ten to \
                  twenty minutes."
)]
pub struct Args {
    /// Run directory.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Page to write (default: DIR/report.html).
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the page.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("report");
    let run = RunDir::new(&args.run);
    run.require()?;
    let out = args.out.clone().unwrap_or_else(|| args.run.join("report.html"));
    output::prepare("--out", &out, Holds::Text)?;
    let weights = WeightsFile::open(&run.weights()?)?;
    // Fail before anything is overwritten if the device or the data can't be opened.
    device::selected(common)?;
    let dataset = data_of(&run, &weights, common)?;
    let subcommands = Subcommands {
        run: &args.run,
        common,
        weights: &weights.sha256,
        images: dataset.test.len(),
        classes: dataset.classes.len(),
        folder: args.run.join("report"),
    };
    files::create_dir(&subcommands.folder)?;

    let probes = subcommands.probes();
    let training = training::section(&run, &weights.config, &probes, &subcommands.folder)?;
    let facts = training::facts(&run, &weights.config, &probes)?;
    let mut sections = vec![training, scores::section(&probes), subcommands.health()];
    sections.extend(subcommands.pictures());
    sections.push(repeat(&run, &weights, common)?);
    let missing: Vec<&String> = sections.iter().flat_map(|s| &s.missing).collect();
    for reason in &missing {
        say(&format!("left out: {reason}"));
    }
    let name = args
        .run
        .file_name()
        .map_or_else(|| args.run.display().to_string(), |n| n.to_string_lossy().into_owned());
    output.set("missing", json!(missing));
    let page = Page {
        title: format!("SODA run {name}"),
        lead: training::lead(&run, &weights.config)?,
        facts,
        sections,
    };
    files::write_atomically(&out, render(&page).as_bytes())?;
    outln!("{}", output::place(&out));
    output.weights(&weights);
    output.set("run", json!(args.run));
    output.set("out", json!(out));
    output.write(common)
}

/// Opens the data the run was trained on.
///
/// # Errors
/// If `--data` names other data, or none can be opened.
fn data_of(run: &RunDir, weights: &WeightsFile, common: &Common) -> Result<Dataset> {
    let dataset = images::of_run(common, Some(run), weights.config.data.side)?;
    let starts = run.read_starts();
    let trained =
        weights.trained().map(|t| t.data_sha256).or(starts.last().map(|s| s.data_sha256.clone()));
    match trained.is_none_or(|sha| sha == dataset.sha256) {
        true => Ok(dataset),
        false => Err(Error::usage(format!(
            "{} was not trained on {}; leave --data out to use its own data, or name that data",
            run.path.display(),
            dataset.describe()
        ))),
    }
}

impl Subcommands<'_> {
    /// Runs the probes of z, with baselines where they are cheap.
    fn probes(&self) -> Vec<(&'static str, Finished)> {
        // Baselines only under `linear` and `knn`: logistic regression on 3,072 pixels takes
        // minutes.
        let protocols =
            [("linear", true), ("linear-full", false), ("knn", true), ("knn-lightly", false)];
        let run = |(p, baselines)| {
            let words =
                format!("probe --protocol {p}{}", if baselines { " --baselines" } else { "" });
            (p, self.run(&format!("probe_{p}"), &words, false))
        };
        protocols.into_iter().map(run).collect()
    }
}
