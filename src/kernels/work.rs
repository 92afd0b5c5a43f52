//! The cost of a call of an operation, as its own formulas give it.

use burn::backend::wgpu::CubeTensor;

/// The memory traffic and arithmetic of one call: the minimum of bytes read and written, and the
/// floating-point operations of the direct algorithm (a multiply-add counts as two; 0 for
/// memory-bound operations).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// The bytes read and written.
    pub bytes: f64,
    /// The floating-point operations.
    pub operations: f64,
}

impl Work {
    /// Returns the work of reading or writing tensors of `counts` f32 values, without arithmetic.
    pub fn floats(counts: &[usize]) -> Self {
        Self { bytes: 4.0 * counts.iter().sum::<usize>() as f64, operations: 0.0 }
    }

    /// Returns the same work on `buffers`, whose elements may have other sizes than four bytes.
    pub(super) fn stored(self, buffers: &[&CubeTensor]) -> Self {
        let sizes =
            buffers.iter().map(|tensor| (tensor.meta.shape().num_elements(), tensor.dtype.size()));
        let (count, bytes) =
            sizes.fold((0, 0), |(count, bytes), (n, size)| (count + n, bytes + n * size));
        Self { bytes: self.bytes * bytes as f64 / (size_of::<f32>() * count) as f64, ..self }
    }
}
