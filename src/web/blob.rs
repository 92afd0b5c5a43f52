//! The page's tensors, one behind the other, and where each of them lies.

use burn::tensor::f16;
use bytemuck::Pod;
use serde::Serialize;
use std::collections::BTreeMap;

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// 16-bit floats.
    F16,
    /// 32-bit floats.
    F32,
    /// 64-bit floats.
    F64,
    /// Bytes.
    U8,
}

/// Where a tensor lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tensor {
    /// Its sizes.
    pub shape: Vec<usize>,
    /// What its numbers are.
    #[serde(rename = "type")]
    pub store: Store,
    /// Bytes before it, a multiple of 8.
    pub offset: usize,
}

/// Tensors in bytes, little-endian.
#[derive(Clone, Debug, Default)]
pub struct Blob {
    /// All of them.
    pub bytes: Vec<u8>,
    /// By name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Blob {
    /// Adds numbers: as 16-bit floats where that loses nothing.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let halves: Vec<f16> = values.iter().map(|v| f16::from_f32(*v)).collect();
        match halves
            .iter()
            .zip(values)
            .all(|(half, value)| half.to_f32().to_bits() == value.to_bits())
        {
            true => self.add(
                name,
                shape,
                Store::F16,
                &halves.iter().map(|half| half.to_bits()).collect::<Vec<u16>>(),
            ),
            false => self.add(name, shape, Store::F32, values),
        }
    }

    /// Adds numbers as 16-bit floats, rounded.
    pub fn halves(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let halves: Vec<u16> = values.iter().map(|v| f16::from_f32(*v).to_bits()).collect();
        self.add(name, shape, Store::F16, &halves);
    }

    /// Adds 64-bit floats.
    pub fn doubles(&mut self, name: &str, values: &[f64]) {
        self.add(name, &[values.len()], Store::F64, values);
    }

    /// Adds bytes.
    pub fn bytes(&mut self, name: &str, shape: &[usize], values: &[u8]) {
        self.add(name, shape, Store::U8, values);
    }

    fn add<T: Pod>(&mut self, name: &str, shape: &[usize], store: Store, values: &[T]) {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}: numbers of its shape");
        let offset = self.bytes.len();
        self.tensors.insert(name.to_owned(), Tensor { shape: shape.to_vec(), store, offset });
        // Little-endian, as every machine that this program runs on is.
        self.bytes.extend_from_slice(bytemuck::cast_slice(values));
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stored_in_16_bits_where_nothing_is_lost() {
        let mut blob = Blob::default();
        blob.floats("short", &[3], &[1.0, -0.5, 2048.0]);
        blob.floats("long", &[2], &[0.1, 1e6]);
        blob.doubles("double", &[0.1]);
        blob.bytes("bytes", &[1, 3], &[1, 2, 3]);
        let at = |name: &str| (blob.tensors[name].store, blob.tensors[name].offset);
        assert_eq!(at("short"), (Store::F16, 0));
        assert_eq!(at("long"), (Store::F32, 8));
        assert_eq!(at("double"), (Store::F64, 16));
        assert_eq!(at("bytes"), (Store::U8, 24));
        assert_eq!(blob.bytes[8..12], 0.1f32.to_le_bytes());
        assert_eq!(blob.bytes.len(), 32);
        assert_eq!(
            serde_json::to_value(&blob.tensors["short"]).unwrap(),
            serde_json::json!({ "shape": [3], "type": "f16", "offset": 0 })
        );
    }
}
