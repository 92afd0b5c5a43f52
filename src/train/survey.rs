//! The state of runs, read from their directories. Nothing is changed there, and damage is
//! reported, not fatal.

use super::checkpoint;
use crate::run_dir::{COMPLETE, Evaluation, Failure, RunDir, Start};
use serde::Serialize;
use std::path::Path;
use std::time::SystemTime;

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A process is training it.
    Training,
    /// It has reached its end.
    Finished,
    /// It can be resumed from its newest checkpoint.
    Stopped,
    /// A step gave values that aren't finite.
    Broken,
    /// It was started, but no checkpoint has been written.
    NoCheckpoint,
}

/// A run at a glance.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Its directory.
    pub run: RunDir,
    /// Its state.
    pub state: State,
    /// The step of its newest checkpoint; while it is training, of its log.
    pub step: u64,
    /// The number of images seen by then.
    pub images: u64,
    /// The number of steps in its recipe.
    pub planned: Option<u64>,
    /// The loss of the last row of its log.
    pub loss: Option<f64>,
    /// The scores with the best k-NN, if any were taken.
    pub best: Option<Evaluation>,
    /// Its first call of training, which records the weights that it started from.
    pub first: Option<Start>,
    /// Its last call, which records the location of the data.
    pub last: Option<Start>,
    /// The time when it was last started or saved.
    pub newest: Option<SystemTime>,
    /// What is wrong with it, one sentence each.
    pub wrong: Vec<String>,
}

/// Surveys the runs directly below `folder`, the newest first.
///
/// # Errors
/// If the folder can't be read.
pub fn below(folder: &Path) -> std::io::Result<Vec<Survey>> {
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let run = RunDir::new(entry?.path());
        if is_run(&run) {
            runs.push(Survey::of(run));
        }
    }
    runs.sort_by(|a, b| (b.newest, &a.run.path).cmp(&(a.newest, &b.run.path)));
    Ok(runs)
}

/// Checks whether anything in the directory of `run` shows that it is a run.
pub fn is_run(run: &RunDir) -> bool {
    run.exists() || run.starts().exists() || run.path.join("checkpoints").is_dir()
}

impl Survey {
    /// Surveys `run`.
    pub fn of(run: RunDir) -> Self {
        let mut wrong = Vec::new();
        let mut tell = |e: crate::error::Error| wrong.push(e.to_string());
        let found = run.found_checkpoints().map_err(&mut tell).unwrap_or_default();
        let newest = run.checkpoints().last().map(|step| run.checkpoint(*step));
        let position =
            newest.as_ref().and_then(|path| checkpoint::position(path).map_err(&mut tell).ok());
        let truncated = newest.as_ref().map(|path| checkpoint::truncated(path));
        let truncated = truncated.and_then(|found| found.map_err(&mut tell).ok().flatten());
        let config = run.read_config().map_err(&mut tell).ok();
        let metrics = run.read_metrics().map_err(&mut tell).unwrap_or_default();
        let failure = std::fs::symlink_metadata(run.failure()).is_ok();
        let described = crate::files::read(&run.failure())
            .ok()
            .and_then(|json| serde_json::from_slice::<Failure>(&json).ok());
        wrong.extend(truncated);
        if newest.is_none() && !found.is_empty() {
            wrong.push("no checkpoint is whole".into());
        }
        if let Some(Failure { step, what, .. }) = described {
            wrong.push(format!("{what} at step {step}"));
        }
        let starts = run.read_starts();
        if starts.is_empty() {
            wrong.push("starts.jsonl doesn't record how it was started".into());
        }
        let planned = config.map(|config| config.train.steps as u64);
        let finished = position.clone().is_some_and(|mut position| {
            planned.into_iter().for_each(|steps| position.replan(steps, false));
            position.finished
        });
        let state = match &newest {
            _ if run.trained_by().is_some() => State::Training,
            _ if failure => State::Broken,
            _ if finished => State::Finished,
            Some(_) => State::Stopped,
            None => State::NoCheckpoint,
        };
        let row = metrics.rows.last();
        let (mut step, mut images) =
            position.map_or((0, 0), |position| (position.step, position.images));
        if let Some(row) = row.filter(|row| state == State::Training && row.step > step) {
            (step, images) = (row.step, row.images);
        }
        let changed = |path: &Path| std::fs::metadata(path).and_then(|found| found.modified()).ok();
        Self {
            state,
            step,
            images,
            planned,
            loss: row.map(|row| row.loss),
            best: metrics
                .evaluations
                .into_iter()
                .reduce(|best, e| if e.knn > best.knn { e } else { best }),
            newest: changed(&run.starts())
                .max(newest.and_then(|path| changed(&path.join(COMPLETE)))),
            first: starts.first().cloned(),
            last: starts.last().cloned(),
            wrong,
            run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::run_dir::{Metrics, Row, json_line};
    use crate::train::checkpoint::Position;
    use std::time::{Duration, UNIX_EPOCH};

    /// Makes a run of 10 steps in `folder`, with a checkpoint for each of `steps`, whose time is
    /// its step in seconds.
    fn run(folder: &Path, name: &str, steps: &[u64]) -> RunDir {
        let run = RunDir::new(folder.join(name));
        let config = Config::load(Path::new("configs/quick.toml"), &["train.steps=10".into()])
            .expect("a recipe");
        run.create(&config).expect("writable");
        for &step in steps {
            let position = Position {
                step,
                images: 8 * step,
                updates: step,
                seconds: 1.0,
                progress: step as f64 / 10.0,
                loss_first: None,
                finished: step == 10,
                planned: 10,
                data_sha256: "ab".into(),
                continued: None,
            };
            std::fs::create_dir_all(run.checkpoint(step)).expect("writable");
            std::fs::write(run.checkpoint(step).join("state.json"), json_line(&position))
                .expect("writable");
            let complete =
                std::fs::File::create(run.checkpoint(step).join(COMPLETE)).expect("writable");
            complete.set_modified(UNIX_EPOCH + Duration::from_secs(step)).expect("a date");
        }
        let row = |step| Row {
            step,
            images: 8 * step,
            loss: 0.5,
            grad_norm: 1.0,
            lr: 1e-3,
            images_per_s: 9.0,
            seconds: 1.0,
            loss_scale: None,
            left_out: None,
            pool_bytes: None,
            pool_bytes_used: None,
        };
        let score = |step, knn| Evaluation {
            step,
            images: 8 * step,
            knn,
            linear: 20.0,
            n_train: 9,
            n_validation: 9,
        };
        let metrics = Metrics {
            rows: vec![row(2), row(9)],
            evaluations: vec![score(2, 31.0), score(9, 30.0)],
        };
        std::fs::write(run.metrics(), metrics.to_jsonl()).expect("writable");
        run
    }

    #[test]
    fn each_state_is_recognised_and_the_newest_run_comes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        run(at, "finished", &[5, 10]);
        run(at, "stopped", &[5]);
        run(at, "bare", &[]);
        let broken = run(at, "broken", &[4]);
        std::fs::write(broken.failure(), r#"{"step":6,"lr":0.1,"what":"the loss is NaN"}"#)
            .expect("writable");
        let busy = run(at, "busy", &[3]);
        let lock = busy.lock().expect("free");
        std::fs::create_dir(at.join("no run")).expect("writable");
        let runs = below(at).expect("readable");
        let name = |survey: &Survey| {
            survey.run.path.file_name().expect("a name").to_string_lossy().into_owned()
        };
        let told: Vec<_> = runs
            .iter()
            .map(|survey| (name(survey), survey.state, survey.step, survey.images))
            .collect();
        let want = [
            ("finished", State::Finished, 10, 80),
            ("stopped", State::Stopped, 5, 40),
            ("broken", State::Broken, 4, 32),
            // Its log is ahead of its checkpoint.
            ("busy", State::Training, 9, 72),
            ("bare", State::NoCheckpoint, 0, 0),
        ];
        assert_eq!(
            told,
            want.map(|(name, state, step, images)| (name.to_owned(), state, step, images))
        );
        assert!(
            runs[2].wrong.iter().any(|what| what == "the loss is NaN at step 6"),
            "{:?}",
            runs[2].wrong
        );
        assert_eq!(
            (runs[0].planned, runs[0].loss, runs[0].best.as_ref().map(|e| e.knn)),
            (Some(10), Some(0.5), Some(31.0))
        );
        drop(lock);
        assert_eq!(Survey::of(busy).state, State::Stopped);
        // With more steps in its recipe the same checkpoint is no longer the end.
        let longer = Config::load(Path::new("configs/quick.toml"), &["train.steps=20".into()])
            .expect("a recipe");
        let finished = RunDir::new(at.join("finished"));
        finished.create(&longer).expect("writable");
        assert_eq!(Survey::of(finished).state, State::Stopped);
    }

    #[test]
    fn damaged_files_are_named_and_the_rest_is_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        type Harm = fn(&RunDir) -> std::path::PathBuf;
        let harms: [Harm; 5] = [
            |run| run.config(),
            |run| run.metrics(),
            |run| run.starts(),
            |run| run.checkpoint(5).join("state.json"),
            |run| run.checkpoint(5).join("ema.safetensors"),
        ];
        for (i, harm) in harms.into_iter().enumerate() {
            let run = run(folder.path(), &i.to_string(), &[5]);
            let path = harm(&run);
            std::fs::write(&path, "{no\nno\n").expect("writable");
            let survey = Survey::of(run);
            let name = path.file_name().expect("a name").to_string_lossy();
            assert!(
                survey.wrong.iter().any(|what| what.contains(&*name)),
                "{name}: {:?}",
                survey.wrong
            );
            assert_eq!(survey.state, State::Stopped, "{name}");
        }
        let halves = run(folder.path(), "halves", &[5]);
        std::fs::remove_file(halves.checkpoint(5).join(COMPLETE)).expect("there");
        let survey = Survey::of(halves);
        assert!(
            survey.state == State::NoCheckpoint
                && survey.wrong.iter().any(|what| what.contains("no checkpoint is whole"))
        );
    }
}
