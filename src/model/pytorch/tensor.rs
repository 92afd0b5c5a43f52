//! What a checkpoint says of its tensors, and how their numbers are found.

use std::rc::Rc;

/// Number types of tensors.
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
    /// Integers or truth values, of so many bytes.
    Whole(u64),
}

impl Dtype {
    /// Bytes of one number.
    pub fn size(self) -> u64 {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Whole(size) => size,
        }
    }
}

/// Where a tensor's numbers lie: in the archive's entry data/KEY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// See above.
    pub key: Rc<str>,
    /// Their type.
    pub dtype: Dtype,
    /// How many there are.
    pub count: u64,
}

/// A tensor: numbers of a storage, those of index (i, j, ..) at `offset` + i * strides\[0\] + j *
/// strides\[1\] + ..
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Where they lie.
    pub storage: Storage,
    /// Of the first one.
    pub offset: u64,
    /// Lengths of its dimensions.
    pub shape: Vec<usize>,
    /// As many.
    pub strides: Vec<usize>,
}

impl Tensor {
    /// How many numbers it has; `None` where that overflows.
    fn count(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |n, side| n.checked_mul(*side as u64))
    }

    /// Whether all of its numbers lie in its storage, and are no more than it holds.
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

    /// Its numbers, row by row, out of those of its storage.
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
