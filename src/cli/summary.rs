//! summary.json of a quickstart, filled in step by step: results of an earlier call are not
//! re-computed.

use crate::cli::output::write_json;
use serde_json::{Map, Value, json};
use soda::error::Result;
use soda::machine;
use soda::model::weights::WeightsFile;
use soda::run_dir::RunDir;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Reads summary.json in `folder`; null if it doesn't exist or can't be read.
pub fn read(folder: &Path) -> Value {
    let bytes = std::fs::read(path(folder)).unwrap_or_default();
    serde_json::from_slice(&bytes).ok().filter(Value::is_object).unwrap_or_default()
}

fn path(folder: &Path) -> PathBuf {
    folder.join("summary.json")
}

/// The fields that scores depend on: scores of an earlier call are valid if all of these are equal.
const MADE_OF: [&str; 6] = ["version", "weights", "data", "linear", "device", "adapter"];
/// The blocks and their names in messages.
const NAMES: [(&str, &str); 5] = [
    ("probe", "the score of the shipped weights"),
    ("reconstruction", "their picture"),
    ("baselines", "the scores of raw pixels and an untrained encoder"),
    ("train", "the training"),
    ("from_scratch", "its score and picture"),
];

/// summary.json, and the version an earlier call left.
pub struct Summary {
    folder: PathBuf,
    fields: Map<String, Value>,
    /// The file of an earlier call.
    before: Value,
    /// Whether the scores of the earlier call are still valid.
    same: bool,
    /// The blocks taken from the earlier call.
    kept: Vec<&'static str>,
    /// Whether there is anything new to write.
    changed: bool,
    started: Instant,
}

impl Summary {
    /// Opens the summary in `folder`. `head` holds the fields of every command's JSON and those
    /// that the scores depend on.
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

    /// Returns the block `key` of an earlier call if it is still valid, else the result of `make`,
    /// which is written at once.
    ///
    /// # Errors
    /// If `make` fails or the file can't be written.
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

    /// Like [`block`](Summary::block), for a block whose picture must exist too.
    ///
    /// # Errors
    /// See [`block`](Summary::block).
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

    /// Returns the block `key` of an earlier call.
    pub fn before(&self, key: &str) -> &Value {
        &self.before[key]
    }

    /// Discards the block `key` of an earlier call.
    pub fn forget(&mut self, key: &str) {
        self.before[key] = Value::Null;
    }

    /// Records once how many processor seconds the first score and picture took.
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

    /// Returns the training block of an earlier call if that training produced the newest weights
    /// of `run`.
    pub fn trained(&mut self, run: &RunDir) -> Option<Value> {
        let train = self.before["train"].clone();
        let weights = WeightsFile::open(&run.weights().ok()?).ok()?;
        (train["weights"]["sha256"] == weights.sha256).then(|| self.keep("train", train))
    }

    /// Sets the block `key` and returns it.
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

    /// Lists in words the results kept from an earlier call; `None` if there are none.
    pub fn kept(&self) -> Option<String> {
        let names: Vec<_> = NAMES
            .iter()
            .filter(|(key, _)| self.kept.contains(key))
            .map(|(_, name)| *name)
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Writes the file if anything in it is new, and returns its contents.
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

    /// Returns the processor seconds of this call and the earlier ones it builds on; `None` if the
    /// system doesn't report them.
    fn processor_seconds(&self) -> Option<f64> {
        machine::processor_seconds()
            .map(|now| rounded(self.of_earlier_calls("processor_seconds") + now))
    }

    /// Returns the value that `key` had reached before this call, 0 if this call starts from
    /// scratch.
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
    fn results_with_the_same_inputs_are_kept_and_no_others() {
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
        // The processor seconds of both calls add up.
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
