//! The images a command works on: those of `--data`; otherwise those the run was trained on, if the
//! weights belong to a run; otherwise the default data.

use crate::cli::args::Common;
use soda::data::{self, Dataset, Layout, Options};
use soda::error::{Error, Result};
use soda::model::weights::WeightsFile;
use soda::progress::{say, warn};
use soda::run_dir::RunDir;
use soda::train::checkpoint;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Options for reading images, for every command.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Taking {
    /// Meaning of the top-level folders: splits (train, test) or classes. Default: splits if all
    /// are named like splits.
    #[arg(long, global = true, value_name = "splits|classes", value_parser = layout)]
    layout: Option<Layout>,
    /// Fraction of each class held out as the test set, if the data has none (default: 0.1).
    #[arg(long, global = true, value_name = "SHARE", allow_negative_numbers = true, value_parser = share)]
    split_ratio: Option<f64>,
    /// Skip and count unreadable images, instead of stopping with a list of them.
    #[arg(long, global = true)]
    pub skip_unreadable: bool,
}

impl Taking {
    /// Returns the options as the data module takes them.
    pub fn options(&self) -> Options {
        Options {
            layout: self.layout,
            split_ratio: self.split_ratio,
            skip_unreadable: self.skip_unreadable,
        }
    }
}

/// Returns the flags that ask for `options`, as words of a command line.
pub fn flags(options: &Options) -> Vec<OsString> {
    let mut words = Vec::new();
    if let Some(layout) = options.layout {
        let name = if layout == Layout::Splits { "splits" } else { "classes" };
        words.extend(["--layout".into(), name.into()]);
    }
    if let Some(share) = options.split_ratio {
        words.extend(["--split-ratio".into(), share.to_string().into()]);
    }
    words.extend(options.skip_unreadable.then(|| "--skip-unreadable".into()));
    words
}

fn layout(text: &str) -> std::result::Result<Layout, String> {
    match text {
        "splits" => Ok(Layout::Splits),
        "classes" => Ok(Layout::Classes),
        _ => Err("expected splits or classes".into()),
    }
}

fn share(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("expected a fraction above 0 and below 1".into()),
    }
}

impl Common {
    /// Returns `--data` and the flags on how it is read, as words of a command line.
    pub fn data_flags(&self) -> Vec<OsString> {
        let named = self.data.iter().flat_map(|data| ["--data".into(), data.into()]);
        named.chain(flags(&self.taking.options())).collect()
    }
}

/// Opens the data that `--data` names, or the default data, and prints its warnings.
///
/// # Errors
/// See [`data::open`].
pub fn named(common: &Common, side: usize) -> Result<Dataset> {
    let asked = common.taking.options();
    let opened = data::open(place(common).as_deref(), side, &asked);
    let opened = opened.map_err(|e| named_by(common.data.as_deref(), e))?;
    unused(&asked, &opened.options, &opened.origin).iter().for_each(|warning| warn(warning));
    told(opened)
}

/// Returns a sentence about each option of `asked` that had no effect on how `origin` was read,
/// which are those that `used` lacks.
pub fn unused(asked: &Options, used: &Options, origin: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if asked.layout.is_some() && used.layout.is_none() {
        warnings.push(format!("--layout is not used: {origin} is not a folder of image files"));
    }
    if asked.split_ratio.is_some() && used.split_ratio.is_none() {
        warnings.push(format!("--split-ratio is not used: {origin} has a test set of its own"));
    }
    warnings
}

/// The place that `--data` names, else `$SODA_DATA`.
pub fn place(common: &Common) -> Option<PathBuf> {
    common.data.clone().or_else(environment)
}

/// Adds to `error` that the place comes from the environment, where the call names no `place`.
pub fn named_by(place: Option<&Path>, error: Error) -> Error {
    match (place, environment(), &error) {
        (None, Some(_), Error::Usage(_)) => Error::usage(format!("SODA_DATA: {error}")),
        (None, Some(_), _) => Error::failed(format!("SODA_DATA: {error}")),
        _ => error,
    }
}

fn environment() -> Option<PathBuf> {
    std::env::var_os("SODA_DATA").filter(|place| !place.is_empty()).map(PathBuf::from)
}

fn told(dataset: Dataset) -> Result<Dataset> {
    dataset.inventory.warnings.iter().for_each(|warning| warn(warning));
    Ok(dataset)
}

/// Opens the images for `weights`.
///
/// # Errors
/// If they can't be opened, or without `--data` if the run's own data is gone or has changed.
pub fn open(common: &Common, weights: &WeightsFile) -> Result<Dataset> {
    of_run(common, RunDir::of_weights(&weights.path).as_ref(), weights.config.data.side)
}

/// Like [`open`], for `run` and images of `side` x `side` pixels.
///
/// # Errors
/// See [`open`].
pub fn of_run(common: &Common, run: Option<&RunDir>, side: usize) -> Result<Dataset> {
    match run.filter(|_| common.data.is_none()).and_then(Own::of) {
        None => named(common, side),
        Some(own) => {
            own.check(&common.taking.options())?;
            told(own.open(side)?)
        }
    }
}

/// Opens the images of a rank other than 0: those of `--data`, else those at rank 0's `location`,
/// with rank 0's `options`.
///
/// # Errors
/// See [`data::open`].
pub fn of_rank(common: &Common, location: &str, options: &Options, side: usize) -> Result<Dataset> {
    match &common.data {
        Some(named) => data::open(Some(named), side, options),
        None => data::reopen(location, side, options),
    }
}

/// A run's record of its data.
struct Own {
    run: PathBuf,
    sha256: String,
    /// Its location; `None` in runs of older versions.
    location: Option<String>,
    /// The options it was read with.
    options: Options,
    /// The side in pixels at which the run reads it; `None` if its recipe can't be read.
    side: Option<usize>,
}

impl Own {
    /// Reads the record in the newest start of `run`, else in its newest checkpoint.
    fn of(run: &RunDir) -> Option<Self> {
        let noted = run
            .read_starts()
            .pop()
            .map(|start| (start.data_sha256, start.data_location, start.data_options));
        let saved = || checkpoint::position(&run.checkpoint(*run.checkpoints().last()?)).ok();
        let (sha256, location, options) =
            noted.or_else(|| Some((saved()?.data_sha256, None, Options::default())))?;
        let side = run.read_config().ok().map(|config| config.data.side);
        Some(Self { run: run.path.clone(), sha256, location, options, side })
    }

    /// Checks that the flags don't ask for another division into sets. (Images that couldn't be
    /// read were left out of the recorded data, or there were none.)
    fn check(&self, asked: &Options) -> Result<()> {
        let flag = if asked.layout.is_some() && asked.layout != self.options.layout {
            "--layout"
        } else if asked.split_ratio.is_some() && asked.split_ratio != self.options.split_ratio {
            "--split-ratio"
        } else {
            return Ok(());
        };
        Err(Error::usage(format!(
            "{flag}: the data of {} is divided as it was for training; to divide it differently, \
             name it with --data",
            self.run.display()
        )))
    }

    fn open(&self, side: usize) -> Result<Dataset> {
        let dataset = match &self.location {
            Some(location) => self.at(location, side)?,
            None => self.found(side)?,
        };
        say(&format!("using the run's own data, {}; --data selects other data", dataset.origin));
        Ok(dataset)
    }

    /// Opens the data at `location`, and checks that it has not changed.
    fn at(&self, location: &str, side: usize) -> Result<Dataset> {
        let run = self.run.display();
        if location != data::BUNDLED && !Path::new(location).exists() {
            return Err(Error::usage(format!(
                "{run} was trained on the data in {location}, which isn't there now; name the data \
                 with --data DIR"
            )));
        }
        let dataset = data::reopen(location, side, &self.options).map_err(|e| {
            Error::usage(format!(
                "the data that {run} was trained on can't be opened: {e}; name other data with \
                 --data DIR"
            ))
        })?;
        // The checksum of files of any size is that of their images at the run's side.
        let is_same = dataset.sha256 == self.sha256
            || match self.side.filter(|own| *own != side) {
                Some(own) => data::reopen(location, own, &self.options)?.sha256 == self.sha256,
                None => false,
            };
        if !is_same {
            return Err(Error::usage(format!(
                "{location} has changed since {run} was trained on it (checksum {:.16}.. then, \
                 {:.16}.. now); name the data to use with --data DIR",
                self.sha256, dataset.sha256
            )));
        }
        Ok(dataset)
    }

    /// Returns the default data if it is the run's, else the bundled subset if that is.
    fn found(&self, side: usize) -> Result<Dataset> {
        let found = data::open(environment().as_deref(), side, &self.options)?;
        if found.sha256 == self.sha256 {
            return Ok(found);
        }
        let bundled = data::bundled()?.at(side)?;
        if bundled.sha256 == self.sha256 {
            return Ok(bundled);
        }
        Err(Error::usage(format!(
            "{} was not trained on {}; name its data with --data DIR",
            self.run.display(),
            found.describe()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        taking: Taking,
    }

    #[test]
    fn flags_ask_for_the_options_that_they_are_made_from() {
        for layout in [None, Some(Layout::Splits), Some(Layout::Classes)] {
            for split_ratio in [None, Some(0.25)] {
                for skip_unreadable in [false, true] {
                    let options = Options { layout, split_ratio, skip_unreadable };
                    let words = [vec!["soda".into()], flags(&options)].concat();
                    assert_eq!(Line::parse_from(words).taking.options(), options);
                }
            }
        }
    }

    #[test]
    fn options_without_an_effect_are_named() {
        let asked =
            Options { layout: Some(Layout::Classes), split_ratio: Some(0.3), ..Options::default() };
        assert_eq!(unused(&asked, &asked, "d"), [""; 0]);
        assert_eq!(unused(&Options::default(), &Options::default(), "d"), [""; 0]);
        let warnings = unused(&asked, &Options::default(), "d");
        assert!(
            warnings.len() == 2
                && warnings[0].starts_with("--layout is not used: d ")
                && warnings[1].starts_with("--split-ratio is not used: d "),
            "{warnings:?}"
        );
    }

    #[test]
    fn the_data_of_a_run_is_not_divided_differently() {
        let recorded = Options { split_ratio: Some(0.2), ..Options::default() };
        let own = Own {
            run: "r".into(),
            sha256: String::new(),
            location: None,
            options: recorded,
            side: None,
        };
        for fine in [Options::default(), recorded] {
            own.check(&fine).expect("what was recorded");
        }
        let ratio = Options { split_ratio: Some(0.3), ..Options::default() };
        let layout = Options { layout: Some(Layout::Classes), ..Options::default() };
        for (asked, flag) in [(ratio, "--split-ratio: "), (layout, "--layout: ")] {
            let error = own.check(&asked).expect_err("another division").to_string();
            assert!(error.starts_with(flag) && error.contains("--data"), "{error}");
        }
    }

    #[test]
    fn a_run_that_recorded_only_a_checksum_finds_the_bundled_subset_and_refuses_other_data() {
        let sha256 = data::bundled().expect("the subset").sha256;
        let own = |sha256: &str| Own {
            run: "it's a run".into(),
            sha256: sha256.into(),
            location: None,
            options: Options::default(),
            side: None,
        };
        assert_eq!(own(&sha256).open(32).expect("found").sha256, sha256);
        let error = own("another").open(32).expect_err("nowhere");
        assert!(error.exit_code() == 2 && error.to_string().contains("--data DIR"), "{error}");
    }
}
