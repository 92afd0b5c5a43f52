//! One dimension of a gather: which source positions each output reads.

/// One phase of an axis: outputs `out_step * a + phase` read the source from
/// `source_step * a + first` on, with the kernel positions `taps`.
pub(super) struct Phase {
    pub(super) first: isize,
    pub(super) taps: Vec<usize>,
}

/// One dimension of the gather: a phase for each remainder mod `out_step`.
pub(in crate::kernels::conv2d::cpu) struct Axis {
    pub(super) source_len: usize,
    pub(super) out_len: usize,
    pub(super) source_step: usize,
    pub(super) out_step: usize,
    pub(super) phases: Vec<Phase>,
}

impl Axis {
    /// Returns the axis of a forward convolution from `source_len` to `out_len` positions.
    pub fn forward(
        source_len: usize,
        out_len: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Self {
        let phases = vec![Phase { first: -(padding as isize), taps: (0..kernel).collect() }];
        Self { source_len, out_len, source_step: stride, out_step: 1, phases }
    }

    /// Returns the axis of its gradient, from `source_len` outputs back to `out_len` inputs.
    pub fn backward(
        source_len: usize,
        out_len: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Self {
        let phase = |p: usize| {
            let taps: Vec<_> = (0..kernel)
                .rev()
                .filter(|k| (p + padding + kernel * stride - k).is_multiple_of(stride))
                .collect();
            let first = taps
                .first()
                .map_or(0, |k| ((p + padding) as isize - *k as isize) / stride as isize);
            Phase { first, taps }
        };
        Self {
            source_len,
            out_len,
            source_step: 1,
            out_step: stride,
            phases: (0..stride).map(phase).collect(),
        }
    }

    /// Returns the number of outputs of a phase.
    pub(super) fn count(&self, phase: usize) -> usize {
        self.out_len.saturating_sub(phase).div_ceil(self.out_step)
    }

    /// Returns the number of zeros needed before the source.
    pub(super) fn before(&self) -> usize {
        self.phases.iter().map(|p| -p.first).max().unwrap_or(0).max(0) as usize
    }

    /// Returns the number of padded source positions that `count` outputs of each phase read.
    pub(super) fn span(&self, count: usize) -> usize {
        let end =
            self.phases.iter().map(|p| p.first + p.taps.len() as isize).max().unwrap_or(0).max(0)
                as usize;
        (count - 1) * self.source_step + end + self.before()
    }
}
