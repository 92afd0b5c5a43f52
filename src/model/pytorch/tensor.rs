//! Descriptions of a checkpoint's tensors, and how their values are found.

use std::rc::Rc;

/// The data type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// torch.float32
    F32,
    /// torch.float64
    F64,
    /// torch.float16
    F16,
    /// torch.bfloat16
    Bf16,
    /// Integers or booleans of this many bytes.
    Whole(u64),
}

impl Dtype {
    /// Returns the size of one element in bytes.
    pub fn size(self) -> u64 {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Whole(size) => size,
        }
    }
}

/// The storage of a tensor's values: the archive's entry data/KEY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The key of the storage, KEY above.
    pub key: Rc<str>,
    /// The type of its values.
    pub dtype: Dtype,
    /// The number of its values.
    pub count: u64,
}

/// A tensor: values of a storage, where the value with index (i, j, ..) is at `offset` +
/// i * strides\[0\] + j * strides\[1\] + ..
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The storage of its values.
    pub storage: Storage,
    /// The offset of the first value.
    pub offset: u64,
    /// The lengths of its dimensions.
    pub shape: Vec<usize>,
    /// The strides, one per dimension.
    pub strides: Vec<usize>,
}

impl Tensor {
    /// Returns the number of values; `None` if it overflows.
    fn count(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |n, side| n.checked_mul(*side as u64))
    }

    /// Checks whether all values lie within the storage and are no more than it holds.
    pub(super) fn fits(&self) -> bool {
        let steps = self.shape.iter().zip(&self.strides);
        let last =
            steps.filter(|(side, _)| **side > 0).try_fold(self.offset, |last, (side, stride)| {
                last.checked_add((*side as u64 - 1).checked_mul(*stride as u64)?)
            });
        match self.count() {
            Some(0) => true,
            Some(count) => {
                count <= self.storage.count && last.is_some_and(|last| last < self.storage.count)
            }
            None => false,
        }
    }

    /// Returns its values, row by row, from those of its storage.
    pub(super) fn gather(&self, stored: &[f32]) -> Vec<f32> {
        let mut places = vec![self.offset as usize];
        if self.count() == Some(0) {
            return Vec::new();
        }
        for (side, stride) in self.shape.iter().zip(&self.strides) {
            places = places
                .iter()
                .flat_map(|place| (0..*side).map(move |i| place + i * stride))
                .collect();
        }
        places.into_iter().map(|place| stored[place]).collect()
    }
}
