//! summary.json while a quickstart fills it in: what an earlier call left there isn't done again.

use crate::cli::output::write_json;
use serde_json::{Map, Value, json};
use soda::error::Result;
use soda::machine;
use soda::model::weights::WeightsFile;
use soda::run_dir::RunDir;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The file in `folder`; null where there is none that can be read.
pub fn read(folder: &Path) -> Value {
    let bytes = std::fs::read(path(folder)).unwrap_or_default();
    serde_json::from_slice(&bytes).ok().filter(Value::is_object).unwrap_or_default()
}

fn path(folder: &Path) -> PathBuf {
    folder.join("summary.json")
}

/// Scores are those of an earlier call where all of these are the same.
const MADE_OF: [&str; 6] = ["version", "weights", "data", "linear", "device", "adapter"];
/// Blocks, and what people call them.
const NAMES: [(&str, &str); 5] = [
    ("probe", "the score of the shipped weights"),
    ("reconstruction", "their picture"),
    ("baselines", "the scores of raw pixels and an untrained encoder"),
    ("train", "the training"),
    ("from_scratch", "its score and picture"),
];

/// summary.json, and what lay there before.
pub struct Summary {
    folder: PathBuf,
    fields: Map<String, Value>,
    /// The file of an earlier call.
    before: Value,
    /// Whether its scores are of the same things.
    same: bool,
    /// Blocks taken from it.
    kept: Vec<&'static str>,
    /// Whether there is anything to write.
    changed: bool,
    started: Instant,
}

impl Summary {
    /// That of `folder`; `head` says what the scores are made of, and holds what every command's
    /// JSON does.
    pub fn open(folder: &Path, head: Value) -> Self {
        let before = read(folder);
        let same = MADE_OF.iter().all(|key| before[key] == head[key]);
        let Value::Object(fields) = head else { unreachable!("a command's JSON is an object") };
        Self {
            folder: folder.to_owned(),
            fields,
            before,
            same,
            kept: Vec::new(),
            changed: false,
            started: Instant::now(),
        }
    }

    /// The block `key` of an earlier call, or what `make` gives; that is written at once.
    ///
    /// # Errors
    /// Those of `make`, and if the file can't be written.
    pub fn block(&mut self, key: &str, make: impl FnOnce() -> Result<Value>) -> Result<Value> {
        let before = self.before[key].clone();
        if self.same && before.is_object() {
            return Ok(self.keep(key, before));
        }
        let made = make()?;
        let made = self.set(key, made);
        self.write()?;
        Ok(made)
    }

    /// As [`block`](Summary::block), with a picture that must be there too.
    ///
    /// # Errors
    /// As [`block`](Summary::block).
    pub fn picture(
        &mut self,
        key: &str,
        picture: &Path,
        make: impl FnOnce() -> Result<Value>,
    ) -> Result<Value> {
        if !picture.exists() {
            self.forget(key);
        }
        self.block(key, make)
    }

    /// The block `key` of an earlier call.
    pub fn before(&self, key: &str) -> &Value {
        &self.before[key]
    }

    /// The block `key` of an earlier call is of no use.
    pub fn forget(&mut self, key: &str) {
        self.before[key] = Value::Null;
    }

    /// Notes what the first score and picture took, once.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn first(&mut self) -> Result<()> {
        let key = "processor_seconds_first";
        let before = self.before[key].clone();
        if !self.changed && before.is_number() {
            self.fields.insert(key.into(), before);
            return Ok(());
        }
        self.fields.insert(key.into(), json!(self.processor_seconds()));
        self.write().map(drop)
    }

    /// The training of an earlier call, where the newest weights of `run` are those that it ended
    /// with.
    pub fn trained(&mut self, run: &RunDir) -> Option<Value> {
        let train = self.before["train"].clone();
        let weights = WeightsFile::open(&run.weights().ok()?).ok()?;
        (train["weights"]["sha256"] == weights.sha256).then(|| self.keep("train", train))
    }

    /// Sets the block `key` and gives it.
    pub fn set(&mut self, key: &str, value: Value) -> Value {
        self.changed = true;
        self.fields.insert(key.into(), value.clone());
        value
    }

    fn keep(&mut self, key: &str, value: Value) -> Value {
        self.kept.extend(NAMES.iter().map(|(block, _)| *block).filter(|block| *block == key));
        self.fields.insert(key.into(), value.clone());
        value
    }

    /// What wasn't done again, in words.
    pub fn kept(&self) -> Option<String> {
        let names: Vec<_> = NAMES
            .iter()
            .filter(|(key, _)| self.kept.contains(key))
            .map(|(_, name)| *name)
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Writes the file, if anything in it is new, and gives what it holds.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&mut self) -> Result<Value> {
        if !self.changed && !self.kept.is_empty() {
            return Ok(self.before.clone());
        }
        let seconds = self.of_earlier_calls("seconds") + self.started.elapsed().as_secs_f64();
        self.fields.insert("seconds".into(), json!(rounded(seconds)));
        self.fields.insert("processor_seconds".into(), json!(self.processor_seconds()));
        let value = Value::Object(self.fields.clone());
        write_json(&path(&self.folder), &value)?;
        Ok(value)
    }

    /// Processor seconds of all calls that what is kept is of; null where the system doesn't tell.
    fn processor_seconds(&self) -> Option<f64> {
        machine::processor_seconds()
            .map(|now| rounded(self.of_earlier_calls("processor_seconds") + now))
    }

    /// What `key` had come to before this call, where that is gone on with.
    fn of_earlier_calls(&self, key: &str) -> f64 {
        self.before[key].as_f64().filter(|_| self.same).unwrap_or(0.0)
    }
}

fn rounded(seconds: f64) -> f64 {
    (10.0 * seconds).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_of_the_same_is_kept_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let picture = folder.path().join("p.png");
        let call = |weights: &str| {
            let mut made = Vec::new();
            let mut summary = Summary::open(
                folder.path(),
                json!({ "version": "1", "weights": { "sha256": weights } }),
            );
            let score = || {
                made.push("probe");
                Ok(json!({ "top1": weights }))
            };
            summary.block("probe", score).expect("made");
            let draw = || {
                made.push("picture");
                std::fs::write(&picture, "drawn").expect("writable");
                Ok(json!({ "psnr": 1 }))
            };
            summary.picture("reconstruction", &picture, draw).expect("drawn");
            summary.first().expect("written");
            (made, summary.write().expect("written"), summary.kept())
        };
        let (made, first, kept) = call("a");
        assert_eq!((made, kept), (vec!["probe", "picture"], None));
        assert_eq!(read(folder.path()), first);
        let (made, again, kept) = call("a");
        assert_eq!((made, again), (vec![], first.clone()));
        assert!(
            kept.is_some_and(|kept| kept.contains("score of the shipped weights, their picture"))
        );

        std::fs::remove_file(&picture).expect("there");
        let (made, drawn, _) = call("a");
        assert_eq!(made, ["picture"]);
        // The work of both calls.
        let spent = |summary: &Value| summary["processor_seconds"].as_f64().expect("known here");
        assert!(spent(&drawn) >= spent(&first), "{drawn} after {first}");
        let (made, other, _) = call("b");
        assert_eq!((made, &other["probe"]["top1"]), (vec!["probe", "picture"], &json!("b")));

        for damaged in ["", "[1]", "{\"probe\": "] {
            std::fs::write(path(folder.path()), damaged).expect("writable");
            assert_eq!(call("b").0, ["probe", "picture"], "{damaged:?}");
        }
    }
}
