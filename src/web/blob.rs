//! The page's tensors in one block of bytes, with the offset of each.

use burn::tensor::f16;
use bytemuck::Pod;
use serde::Serialize;
use std::collections::BTreeMap;

/// The element type of a stored tensor.
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

/// The description of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// The type of its elements.
    #[serde(rename = "type")]
    pub store: Store,
    /// Its offset in bytes, a multiple of 8.
    pub offset: usize,
}

/// Tensors as little-endian bytes.
#[derive(Clone, Debug, Default)]
pub struct Blob {
    /// The data of all tensors.
    pub bytes: Vec<u8>,
    /// Their descriptions, by name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Blob {
    /// Adds a tensor, as f16 if every value is exact in it, else as f32.
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

    /// Adds a tensor rounded to f16.
    pub fn halves(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let halves: Vec<u16> = values.iter().map(|v| f16::from_f32(*v).to_bits()).collect();
        self.add(name, shape, Store::F16, &halves);
    }

    /// Adds a vector of f64.
    pub fn doubles(&mut self, name: &str, values: &[f64]) {
        self.add(name, &[values.len()], Store::F64, values);
    }

    /// Adds a tensor of bytes.
    pub fn bytes(&mut self, name: &str, shape: &[usize], values: &[u8]) {
        self.add(name, shape, Store::U8, values);
    }

    fn add<T: Pod>(&mut self, name: &str, shape: &[usize], store: Store, values: &[T]) {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}: elements of its shape");
        let offset = self.bytes.len();
        self.tensors.insert(name.to_owned(), Tensor { shape: shape.to_vec(), store, offset });
        // Little-endian, like every machine that this program runs on.
        self.bytes.extend_from_slice(bytemuck::cast_slice(values));
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_stored_as_f16_where_that_is_exact() {
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
