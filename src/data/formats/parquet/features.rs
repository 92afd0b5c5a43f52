//! The class names that the Hugging Face hub stores in a file.

use ::parquet::file::metadata::FileMetaData;
use serde_json::Value;

/// Returns the class names of the column `label`, or `None` if there are none.
pub fn classes(described: &FileMetaData, label: &str) -> Option<Vec<String>> {
    let pairs = described.key_value_metadata()?;
    let text = pairs.iter().find(|pair| pair.key == "huggingface")?.value.as_deref()?;
    let all: Value = serde_json::from_str(text).ok()?;
    let feature = all.pointer("/info/features")?.get(label)?;
    if feature.get("_type")?.as_str()? != "ClassLabel" {
        return None;
    }
    feature.get("names")?.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}
