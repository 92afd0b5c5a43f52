//! Which images a command works on: those of `--data`; else those that the run was trained on, where the weights are a run's; else
//! those that are found without being named.

use super::Common;
use crate::data::{self, Dataset};
use crate::error::{Error, Result};
use crate::model::weights::WeightsFile;
use crate::progress::say;
use crate::run_dir::RunDir;
use crate::train::checkpoint;
use std::path::{Path, PathBuf};

/// The images for `weights`.
///
/// # Errors
/// If they can't be opened; `--data` isn't given and the run's own are gone, or no longer what they were.
pub fn open(common: &Common, weights: &WeightsFile) -> Result<Dataset> {
    of_run(common, RunDir::of_weights(&weights.path).as_ref(), weights.config.data.side)
}

/// As [`open`], for `run` and images of `side` pixels a side.
///
/// # Errors
/// See [`open`].
pub fn of_run(common: &Common, run: Option<&RunDir>, side: usize) -> Result<Dataset> {
    let named = common.data.as_deref();
    let own = run.filter(|_| named.is_none()).and_then(Own::of);
    own.map_or_else(|| data::open(named, side), |own| own.open(side))
}

/// What a run knows of its data.
struct Own {
    run: PathBuf,
    sha256: String,
    /// Where it lay; older versions didn't note it.
    location: Option<String>,
}

impl Own {
    /// What the newest start of `run` tells, else its newest checkpoint.
    fn of(run: &RunDir) -> Option<Self> {
        let noted = run.read_starts().pop().map(|start| (start.data_sha256, start.data_location));
        let saved = || checkpoint::position(&run.checkpoint(*run.checkpoints().last()?)).ok();
        let (sha256, location) = noted.or_else(|| Some((saved()?.data_sha256, None)))?;
        Some(Self { run: run.path.clone(), sha256, location })
    }

    fn open(&self, side: usize) -> Result<Dataset> {
        let dataset = match &self.location {
            Some(location) => self.at(location, side)?,
            None => self.found(side)?,
        };
        say(&format!("taking the run's own data, {}; --data takes others", dataset.origin));
        Ok(dataset)
    }

    /// What lies at `location` still.
    fn at(&self, location: &str, side: usize) -> Result<Dataset> {
        let run = self.run.display();
        if location != data::BUNDLED && !Path::new(location).exists() {
            return Err(Error::usage(format!(
                "{run} was trained on the data in {location}, which isn't there now; name the data with --data DIR"
            )));
        }
        let dataset = data::reopen(location, side).map_err(|e| {
            Error::usage(format!("the data that {run} was trained on can't be opened: {e}; other data is named with --data DIR"))
        })?;
        if dataset.sha256 != self.sha256 {
            return Err(Error::usage(format!(
                "{location} has changed since {run} was trained on it (checksum {:.16}.. then, {:.16}.. now); name the data to use with --data DIR",
                self.sha256, dataset.sha256
            )));
        }
        Ok(dataset)
    }

    /// What is found without being named, if it is the same data; else the bundled subset, if that is.
    fn found(&self, side: usize) -> Result<Dataset> {
        let found = data::open(None, side)?;
        if found.sha256 == self.sha256 {
            return Ok(found);
        }
        let bundled = data::bundled()?.at(side)?;
        if bundled.sha256 == self.sha256 {
            return Ok(bundled);
        }
        Err(Error::usage(format!(
            "{} was trained on other data than {}; name its data with --data DIR",
            self.run.display(),
            found.describe()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_only_noted_a_checksum_finds_the_bundled_subset_and_refuses_other_data() {
        let sha256 = data::bundled().expect("the subset").sha256;
        let own = |sha256: &str| Own { run: "it's a run".into(), sha256: sha256.into(), location: None };
        assert_eq!(own(&sha256).open(32).expect("found").sha256, sha256);
        let error = own("another").open(32).expect_err("nowhere");
        assert!(error.exit_code() == 2 && error.to_string().contains("--data DIR"), "{error}");
    }
}
