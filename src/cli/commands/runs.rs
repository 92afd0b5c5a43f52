//! `soda runs`: the list of runs.

mod table;

use crate::cli::args::{Common, weights};
use crate::cli::output::Output;
use indicatif::{DecimalBytes, HumanCount, HumanDuration};
use serde_json::{Value, json};
use soda::error::{Error, Result};
use soda::run_dir::RunDir;
use soda::train::survey::{State, Survey, below, is_run};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use table::{Column, render};

/// Arguments of `soda runs`.
#[derive(clap::Args)]
#[command(
    after_help = "The newest run comes first. k-NN and linear are the best scores on held-out \
                  training images during training (train.evaluate_every). Nothing is changed."
)]
pub struct Args {
    /// Folder of the runs, or one run directory.
    #[arg(value_name = "DIR", default_value = "runs")]
    folder: PathBuf,
}

/// Lists the runs.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("runs");
    let itself = RunDir::new(&args.folder);
    let runs = if is_run(&itself) { vec![Survey::of(itself)] } else { found(&args.folder)? };
    let runs: Vec<Listed> = runs.into_iter().map(Listed::of).collect();
    output.set("folder", json!(args.folder));
    output.set("runs", runs.iter().map(Listed::to_json).collect());
    // Written before anything is printed, because the reader of the output may be gone.
    output.write(common)?;
    if runs.is_empty() {
        outln!("no runs in {}; `soda train` starts one", args.folder.display());
        return Ok(());
    }
    out!("{}", render(&columns(&runs)));
    for listed in &runs {
        for what in &listed.survey.wrong {
            outln!("{}: {what}", table::harmless(&listed.name));
        }
    }
    Ok(())
}

/// Surveys the runs in `folder`; the default folder may not exist yet.
fn found(folder: &Path) -> Result<Vec<Survey>> {
    match below(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound && folder == Path::new("runs") => Ok(Vec::new()),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            let what = if folder.exists() { "is not a folder" } else { "does not exist" };
            let folder = folder.display();
            Err(Error::usage(format!("{folder} {what}; name a folder that holds runs")))
        }
        found => found.map_err(|e| Error::io("read", folder, &e)),
    }
}

/// A row of the list.
struct Listed {
    survey: Survey,
    name: String,
    /// The name of the weights it started from.
    from: Option<String>,
    /// The name of the run that it cools down.
    cools: Option<String>,
    /// The size on disk.
    bytes: u64,
    /// The time since it was last started or saved.
    age: Option<Duration>,
}

impl Listed {
    fn of(survey: Survey) -> Self {
        let path = &survey.run.path;
        let name = path
            .file_name()
            .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        let from = survey.first.as_ref().and_then(weights::began_with);
        let cools =
            cooled(&name).filter(|_| survey.run.read_starts().iter().any(weights::cools_down));
        let age = survey.newest.map(|newest| newest.elapsed().unwrap_or_default());
        Self { from, cools: cools.map(str::to_owned), bytes: size(path), age, name, survey }
    }

    fn to_json(&self) -> Value {
        let Survey { run, state, step, images, planned, loss, best, first, last, wrong, .. } =
            &self.survey;
        let from = first.as_ref().filter(|start| start.from.is_some());
        json!({
            "name": self.name,
            "path": run.path.display().to_string(),
            "state": state,
            "trained_by": run.trained_by(),
            "step": step,
            "planned_steps": planned,
            "images": images,
            "loss": loss,
            "best": best,
            "cooldown_of": self.cools,
            "from": from.map(|start| json!({ "name": self.from, "sha256": start.from, "images": start.from_images })),
            "data": last.as_ref().map(|start| json!({
                "name": start.data, "location": start.data_location, "sha256": start.data_sha256,
            })),
            "started": first.as_ref().map(|start| &start.time),
            "command": first.as_ref().map(|start| &start.command),
            "bytes": self.bytes,
            "age_s": self.age.map(|age| age.as_secs()),
            "wrong": wrong,
        })
    }

    /// Returns "17,496/80,000", or "80,000" if all steps are done.
    fn steps(&self) -> String {
        let Survey { step, planned, .. } = self.survey;
        let of = planned
            .filter(|planned| *planned != step)
            .map_or(String::new(), |n| format!("/{}", HumanCount(n)));
        format!("{}{of}", HumanCount(step))
    }

    /// Returns a short name of what it started from: the run that it cools down, else weights.
    fn from(&self) -> String {
        let weights = || self.from.as_deref().map_or(String::new(), short);
        self.cools.clone().unwrap_or_else(weights)
    }

    /// Returns a short name of the data.
    fn data(&self) -> String {
        let Some(start) = &self.survey.last else { return String::new() };
        match start.data_location.as_deref() {
            Some(soda::data::BUNDLED) => "bundled".into(),
            _ => start.data.strip_prefix("images of ").unwrap_or(&start.data).into(),
        }
    }
}

fn columns(runs: &[Listed]) -> Vec<Column> {
    let cells = |of: &dyn Fn(&Listed) -> String| runs.iter().map(of).collect::<Vec<_>>();
    let score = |of: fn(&soda::run_dir::Evaluation) -> f64| {
        cells(&|run| {
            run.survey.best.as_ref().map_or(String::new(), |best| format!("{:.1}", of(best)))
        })
    };
    let state = |run: &Listed| match run.survey.state {
        State::Training => "training now",
        State::Finished => "finished",
        State::Stopped => "stopped",
        State::Broken => "broken",
        State::NoCheckpoint => "no checkpoint",
    };
    vec![
        Column::text("run", cells(&|run| run.name.clone())),
        Column::word("state", cells(&|run| state(run).into())),
        Column::number("steps", cells(&|run| run.steps())),
        Column::number("images", cells(&|run| HumanCount(run.survey.images).to_string())),
        Column::number(
            "loss",
            cells(&|run| run.survey.loss.map_or(String::new(), |loss| format!("{loss:.3}"))),
        ),
        Column::number("k-NN", score(|e| e.knn)),
        Column::number("linear", score(|e| e.linear)),
        Column::text("from", cells(&|run| run.from())),
        Column::text("data", cells(&|run| run.data())),
        Column::number("size", cells(&|run| DecimalBytes(run.bytes).to_string())),
        Column::number(
            "age",
            cells(&|run| run.age.map_or(String::new(), |age| format!("{:#}", HumanDuration(age)))),
        ),
    ]
}

/// Returns a short name of a weights file: that of its run, else its own.
fn short(from: &str) -> String {
    let path = Path::new(from);
    let run = path
        .ancestors()
        .nth(2)
        .filter(|folder| folder.ends_with("checkpoints"))
        .and_then(Path::parent);
    let named = run.and_then(Path::file_name).or(path.file_stem());
    named.map_or_else(|| from.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Returns the name of the run whose cooldown would be called `name`: DIR for DIR-cooldown-STEP.
fn cooled(name: &str) -> Option<&str> {
    let (run, step) = name.rsplit_once("-cooldown-")?;
    step.parse::<u64>().is_ok().then_some(run)
}

/// Returns the size of all files in `folder`, in bytes; links are not followed.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_name_of_their_run_or_their_own() {
        for (from, name) in [
            ("/a/my run/checkpoints/step_4/ema.safetensors", "my run"),
            ("/a/w.safetensors", "w"),
            ("shipped", "shipped"),
        ] {
            assert_eq!(short(from), name);
        }
    }

    #[test]
    fn a_cooldown_is_named_after_its_run() {
        assert_eq!(cooled("c1-cooldown-3"), Some("c1"));
        assert_eq!(cooled("c1-cooldown-3-cooldown-5"), Some("c1-cooldown-3"));
        assert_eq!(["c1", "c1-cooldown-x"].map(cooled), [None; 2]);
    }

    #[test]
    fn a_size_counts_files_at_any_depth_once() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("a/b")).expect("writable");
        for (name, bytes) in [("x", 5), ("a/y", 7), ("a/b/z", 11)] {
            std::fs::write(folder.path().join(name), vec![0; bytes]).expect("writable");
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/loop")).expect("a link");
        assert_eq!((size(folder.path()), size(&folder.path().join("none"))), (23, 0));
    }
}
