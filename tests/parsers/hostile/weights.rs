//! Weights in safetensors files.

use super::{config, folder, refused};
use crate::common::program::TINY;
use crate::memory;
use burn::tensor::Device;
use serde_json::{Value, json};
use soda::error::Error;
use soda::model::weights::{self, WeightsFile};
use std::path::Path;

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

fn tensor(dtype: &str, shape: &[u64], from: u64, to: u64) -> Value {
    json!({ "dtype": dtype, "shape": shape, "data_offsets": [from, to] })
}

fn open_weights(bytes: &[u8]) -> Result<WeightsFile, Error> {
    WeightsFile::parse(Path::new("w.safetensors"), bytes)
}

#[test]
fn weights_whose_header_lies_are_refused() {
    let _alone = memory::alone();
    let refused = |bytes: Vec<u8>, part: &str| {
        refused(bytes.len(), &["w.safetensors", "not a usable safetensors file", part], || {
            open_weights(&bytes)
        });
    };
    for claimed in [u64::MAX, 1 << 63, 4 << 30, 100_000_001, 3] {
        refused([&claimed.to_le_bytes()[..], b"{}"].concat(), "header");
    }
    // 4 GB of values in a file of a few bytes; more than any integer can count.
    refused(
        safetensors(&json!({ "a": tensor("F32", &[1 << 30], 0, 4 << 30) }).to_string(), 16),
        "",
    );
    refused(safetensors(&json!({ "a": tensor("F32", &[1 << 30], 0, 16) }).to_string(), 16), "");
    refused(
        safetensors(&json!({ "a": tensor("F32", &[1 << 40, 1 << 40], 0, 16) }).to_string(), 16),
        "",
    );
    // Overlapping, with a gap, reversed.
    for (from, to) in [(4, 12), (12, 20), (16, 8)] {
        let header = json!({ "a": tensor("F32", &[2], 0, 8), "b": tensor("F32", &[2], from, to) });
        refused(safetensors(&header.to_string(), 20), "");
    }
    for dtype in ["I64", "F64", "BF16", "BOOL"] {
        let size = if dtype.ends_with("64") {
            8
        } else {
            dtype.len() as u64 / 4 * 2 - u64::from(dtype == "BOOL")
        };
        refused(
            safetensors(&json!({ "b": tensor(dtype, &[1], 0, size) }).to_string(), size as usize),
            &format!("b is {dtype}"),
        );
    }
    let list = safetensors(&"[".repeat(1 << 20), 0);
    super::refused(list.len(), &["w.safetensors", "is not a weights file"], || open_weights(&list));
    refused(safetensors(&format!("{{\"a\":{}", "[".repeat(1 << 20)), 0), "");
}

#[test]
fn weights_that_are_not_finite_are_refused_by_the_tensors_name() {
    let _alone = memory::alone();
    let folder = folder();
    let config = config(&TINY);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let path = folder.path().join("w.safetensors");
        let tensors = vec![
            ("fine".to_owned(), vec![2], vec![1.0, 2.0]),
            ("encoder.stem".to_owned(), vec![3], vec![0.0, 1.0, bad]),
        ];
        weights::write(&path, &tensors, weights::metadata(&config)).expect("written");
        refused(1000, &["w.safetensors", "encoder.stem holds", "at 2"], || {
            WeightsFile::open(&path)
        });
    }
    // The same in half precision: infinity, and a NaN.
    for bad in [0x7c00u16, 0xfe01] {
        let header = json!({ "half": tensor("F16", &[2], 0, 4) }).to_string();
        let mut bytes = safetensors(&header, 4);
        let end = bytes.len();
        bytes[end - 2..].copy_from_slice(&bad.to_le_bytes());
        refused(bytes.len(), &["w.safetensors", "half holds", "at 1"], || open_weights(&bytes));
    }
}

#[test]
fn a_recipe_within_weights_takes_no_memory_for_the_networks_that_it_claims() {
    let _alone = memory::alone();
    let largest = config(&[
        "model.z_dim=1048576",
        "model.encoder.base=4096",
        "model.unet.base=16384",
        "model.unet.multipliers=[16, 16, 16, 16, 16, 16]",
        "model.unet.blocks=64",
        "model.unet.groups=512",
        "model.unet.final_groups=256",
    ]);
    let text = largest.to_toml();
    let header =
        json!({ "__metadata__": { "config": text }, "a": tensor("F32", &[2], 0, 8) }).to_string();
    let bytes = safetensors(&header, 8);
    let device = Device::flex();
    refused(bytes.len(), &["w.safetensors", "holds 2 values", "another network"], || {
        open_weights(&bytes)?.model(&device)
    });
    // Larger networks aren't a valid recipe.
    let header = header.replace("blocks = 64", "blocks = 1000000");
    let bytes = safetensors(&header, 8);
    refused(bytes.len(), &["w.safetensors", "model.unet.blocks = 1000000", "at most 64"], || {
        open_weights(&bytes)?.model(&device)
    });
}

#[test]
fn many_empty_tensors_take_memory_in_proportion() {
    let _alone = memory::alone();
    let tensors: serde_json::Map<String, Value> =
        (0..50_000).map(|i| (i.to_string(), tensor("F32", &[0], 0, 0))).collect();
    let bytes = safetensors(&Value::from(tensors).to_string(), 0);
    refused(bytes.len(), &["w.safetensors", "holds no recipe"], || open_weights(&bytes));
}
