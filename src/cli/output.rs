//! What every command's JSON has in common.

use super::Common;
use crate::data::Dataset;
use crate::device::Selected;
use crate::error::{Error, Result};
use crate::files;
use crate::machine;
use crate::model::weights::WeightsFile;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Instant;

/// The JSON of one command, filled in as it goes.
pub struct Output {
    fields: Map<String, Value>,
    started: Instant,
}

impl Output {
    /// {command, version, commit}.
    pub fn new(command: &str) -> Self {
        let mut output = Self { fields: Map::new(), started: Instant::now() };
        output.set("command", json!(command));
        output.set("version", json!(env!("CARGO_PKG_VERSION")));
        output.set("commit", json!(machine::commit()));
        output
    }

    /// Sets one field.
    pub fn set(&mut self, key: &str, value: Value) {
        self.fields.insert(key.into(), value);
    }

    /// Sets every field of `block`.
    pub fn merge(&mut self, block: Value) {
        if let Value::Object(block) = block {
            self.fields.extend(block);
        }
    }

    /// {device, adapter}.
    pub fn device(&mut self, device: &Selected) {
        self.set("device", json!(device.backend));
        self.set("adapter", json!(device.name));
    }

    /// {weights {path, sha256}}.
    pub fn weights(&mut self, weights: &WeightsFile) {
        self.set("weights", json!({ "path": weights.path, "sha256": weights.sha256 }));
    }

    /// {data {name, split, n, sha256}}.
    pub fn data(&mut self, data: &Dataset, split: &str, n: usize) {
        self.set("data", json!({ "name": data.name, "split": split, "n": n, "sha256": data.sha256 }));
    }

    /// The fields so far, with the seconds since the start.
    pub fn finish(&mut self) -> Value {
        let seconds = (self.started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        self.set("seconds", json!(seconds));
        Value::Object(self.fields.clone())
    }

    /// Writes `--json`, if asked for.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&mut self, common: &Common) -> Result<()> {
        let value = self.finish();
        common.json.as_deref().map_or(Ok(()), |path| write_json(path, &value))
    }
}

/// Writes `value` to `path`, indented.
///
/// # Errors
/// If the file can't be written.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut text =
        serde_json::to_vec_pretty(value).map_err(|e| Error::failed(format!("cannot encode {}: {e}", path.display())))?;
    text.push(b'\n');
    files::create_parent(path)?;
    files::write_atomically(path, &text)
}

/// "42.1 % +- 0.3" for a mean and its spread.
pub fn with_spread((mean, spread): (f64, f64)) -> String {
    format!("{mean:.1} % +- {spread:.1}")
}
