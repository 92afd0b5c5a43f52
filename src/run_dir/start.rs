//! The rows of starts.jsonl.

use serde::{Deserialize, Serialize};

/// A row of starts.jsonl: one invocation of training, and what it ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The time, in UTC (RFC 3339).
    pub time: String,
    /// The step that it resumed after; 0 for a new run.
    pub step: u64,
    /// The SHA-256 of the weights file that a new run started from; `None` for random weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The name of that file: `shipped`, or its absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_name: Option<String>,
    /// Images seen by the training that produced those weights, and by any that it started from;
    /// where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_images: Option<u64>,
    /// The command line, where there is one.
    pub command: Vec<String>,
    /// Version of the program.
    pub version: String,
    /// Commit that it was built from, where known.
    pub commit: Option<String>,
    /// `cpu`, `vulkan`, `metal`, `dx12` or `gl`.
    pub device: String,
    /// The name of the adapter or of the CPU.
    pub adapter: String,
    /// The adapter's driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// See [`crate::machine::describe`].
    pub machine: serde_json::Value,
    /// Name of the data.
    pub data: String,
    /// Location of the data: the absolute path of its folder, or `bundled`. Older versions didn't
    /// record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_location: Option<String>,
    /// The options with which its images were read.
    #[serde(default, skip_serializing_if = "crate::data::Options::are_default")]
    pub data_options: crate::data::Options,
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// Number of training images.
    pub images: usize,
}

impl Start {
    /// Returns what the results of training depend on down to the last digit: the adapter and its
    /// driver, or the CPU.
    pub fn place(&self) -> String {
        let Self { device, adapter, .. } = self;
        let more = self
            .driver
            .as_deref()
            .or_else(|| self.machine["cpu"].as_str().filter(|_| device == "cpu"));
        more.map_or_else(
            || format!("{device} {adapter}"),
            |more| format!("{device} {adapter} ({more})"),
        )
    }
}
