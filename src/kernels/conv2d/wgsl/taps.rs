//! The source pixels that each output of a convolution is computed from, as the shaders describe
//! them: positions and taps.

use crate::kernels::conv2d::shape::ConvShape;

/// The number of taps of the largest kernel that the shaders accept, 7x7.
pub(super) const MOST_TAPS: usize = 49;
/// The number of taps that most info blocks have room for, 4x4.
pub(super) const FEW_TAPS: usize = 16;

/// One tap: the offset at which it reads, from the position times the stride, and the index of the
/// packed weight that it multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    pub row: i32,
    pub col: i32,
    pub weight: usize,
}

/// A grid of output pixels, `out_stride * position + first`, that the same taps reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub rows: usize,
    pub cols: usize,
    /// Row and column of the first output pixel.
    pub first: [usize; 2],
    /// Output pixels from one position to the next.
    pub out_stride: usize,
    /// Source pixels from one position to the next.
    pub source_stride: usize,
    pub taps: Vec<Tap>,
}

impl Grid {
    /// Returns the taps in the form of the info blocks.
    pub fn info<const TAPS: usize>(&self) -> [[i32; 4]; TAPS] {
        std::array::from_fn(|i| {
            self.taps.get(i).map_or([0; 4], |tap| [tap.row, tap.col, tap.weight as i32, 0])
        })
    }
}

/// Returns the grid of all outputs of the forward pass.
pub(super) fn forward(shape: &ConvShape) -> Grid {
    let offset = |k: usize| k as i32 - shape.padding as i32;
    let taps = (0..shape.kernel * shape.kernel).map(|weight| {
        let [row, col] = [weight / shape.kernel, weight % shape.kernel].map(offset);
        Tap { row, col, weight }
    });
    Grid {
        rows: shape.out_height(),
        cols: shape.out_width(),
        first: [0, 0],
        out_stride: 1,
        source_stride: shape.stride,
        taps: taps.collect(),
    }
}

/// Returns the grids of all pixels of the input's gradient (whose source is the gradient of the
/// output) or of the result of a transposed convolution: one grid for each parity of the pixel,
/// which is one at stride 1. The weights are packed in reverse.
pub(super) fn transposed(shape: &ConvShape) -> Vec<Grid> {
    let s = shape.stride;
    // Tap k of output o reads input s * o + k - padding. So input s * p + first is read by the
    // outputs p + (first + padding - k) / s.
    let axis = |first: usize| {
        let reaches =
            (0..shape.kernel).map(move |k| (k, (first + shape.padding) as i32 - k as i32));
        reaches
            .filter(|(_, d)| d.rem_euclid(s as i32) == 0)
            .map(|(k, d)| (k, d.div_euclid(s as i32)))
            .collect::<Vec<_>>()
    };
    let grid = |first: [usize; 2]| {
        let (rows, cols) = (axis(first[0]), axis(first[1]));
        let last = shape.kernel * shape.kernel - 1;
        let taps = rows.iter().flat_map(|&(i, row)| {
            cols.iter().map(move |&(j, col)| Tap {
                row,
                col,
                weight: last - (i * shape.kernel + j),
            })
        });
        Grid {
            rows: (shape.height - first[0]).div_ceil(s),
            cols: (shape.width - first[1]).div_ceil(s),
            first,
            out_stride: s,
            source_stride: 1,
            taps: taps.collect(),
        }
    };
    let firsts = (0..s * s)
        .map(|i| [i / s, i % s])
        .filter(|first| first[0] < shape.height && first[1] < shape.width);
    firsts.map(grid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(kernel: usize, stride: usize) -> ConvShape {
        ConvShape {
            batch: 1,
            c_in: 1,
            c_out: 1,
            height: 5,
            width: 4,
            kernel,
            stride,
            padding: (kernel - 1) / 2,
        }
    }

    /// Returns every pair (output, input) that `grids` connect, with its weight index, sorted.
    fn pairs(
        grids: &[Grid],
        reversed: Option<usize>,
        source: [usize; 2],
    ) -> Vec<([i32; 2], [i32; 2], usize)> {
        let mut all = Vec::new();
        for grid in grids {
            for position in 0..grid.rows * grid.cols {
                let at = [position / grid.cols, position % grid.cols];
                let out = [0, 1].map(|i| (at[i] * grid.out_stride + grid.first[i]) as i32);
                for tap in &grid.taps {
                    let from = [(0, tap.row), (1, tap.col)]
                        .map(|(i, o)| (at[i] * grid.source_stride) as i32 + o);
                    if (0..2).all(|i| (0..source[i] as i32).contains(&from[i])) {
                        all.push(match reversed {
                            Some(last) => (from, out, last - tap.weight),
                            None => (out, from, tap.weight),
                        });
                    }
                }
            }
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn the_gradient_connects_the_pairs_of_the_forward_pass() {
        for (kernel, stride) in [(3, 1), (3, 2), (1, 1), (1, 2), (4, 2), (7, 1), (7, 2)] {
            let shape = shape(kernel, stride);
            let outputs = [shape.out_height(), shape.out_width()];
            let forward = pairs(&[forward(&shape)], None, [shape.height, shape.width]);
            let grads = transposed(&shape);
            assert_eq!(grads.iter().map(|g| g.rows * g.cols).sum::<usize>(), 20);
            assert_eq!(
                pairs(&grads, Some(kernel * kernel - 1), outputs),
                forward,
                "kernel {kernel}, stride {stride}"
            );
            assert!(forward.len() >= outputs[0] * outputs[1]);
        }
    }
}
