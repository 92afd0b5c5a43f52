//! The forward pass and the gradient of the input as one operation: every output pixel gathers a
//! small window of source pixels.
//!
//! ```text
//! forward      y[oy, ox]  = sum over (ky, kx) of x[oy s + ky - p, ox s + kx - p] w[ky, kx]
//! grad-input   dx[iy, ix] = sum over (ky, kx) of
//!                           dy[(iy + p - ky) / s, (ix + p - kx) / s] w[ky, kx]^T
//! ```
//!
//! where the second sum is over those (ky, kx) for which both divisions are exact.
//!
//! Input pixels with the same remainders mod s use the same taps, in consecutive source pixels. So
//! each of the s * s classes is a dense, smaller convolution, and no zero is multiplied. A task
//! copies a band of source rows, zero padded, into its thread's scratch buffer (unless there is no
//! padding); then the taps (kx, channel) of a row are contiguous and the innermost loop needs no
//! border checks. Every output is one sum in a fixed order, whatever the bands and threads.

mod axis;
mod pack;
mod plan;

pub(super) use axis::Axis;
pub(super) use plan::Gather;

use super::operands::Operands;
use super::tiles::{BLOCK, Pixels, gather_any, gather_dots};
use crate::kernels::simd::Path;
use plan::{Class, Cut};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::Cell;

thread_local! {
    // Taken out while in use, as a waiting thread may run a task of another convolution.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static WEIGHTS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl Gather {
    /// Computes out `[batch, rows, cols, out_channels]` from the operands.
    pub fn run(&self, path: Path, operands: &Operands, out: &mut [f32]) {
        if out.is_empty() {
            return;
        }
        let Operands { source, weights: w, bias, residual } = *operands;
        let lanes = path.lanes();
        let narrow = self.narrow(lanes);
        let padded =
            if narrow { self.out_channels } else { self.out_channels.next_multiple_of(lanes) };
        let mut padded_bias = vec![0.0; padded];
        if let Some(bias) = bias {
            padded_bias[..self.out_channels].copy_from_slice(bias);
        }
        let cut = self.cut();
        let classes = self.classes(&cut, padded);
        let mut weights = WEIGHTS.take();
        if narrow {
            self.pack_narrow(&w, &mut weights);
        } else {
            self.pack(lanes, &w, &mut weights);
        }

        let out_row = self.cols.out_len * self.out_channels;
        let out_image = self.rows.out_len * out_row;
        let tasks: Vec<_> = out
            .chunks_mut(cut.images * out_image)
            .enumerate()
            .flat_map(|(task, images)| {
                let band = if cut.images > 1 {
                    images.len()
                } else {
                    cut.rows * self.rows.out_step * out_row
                };
                images
                    .chunks_mut(band)
                    .enumerate()
                    .map(move |(band, out)| (task * cut.images, band * cut.rows, out))
            })
            .collect();
        tasks.into_par_iter().for_each(|(image, first_row, out)| {
            let images = out.len().div_ceil(out_image);
            let mut scratch = SCRATCH.take();
            let source = if cut.direct {
                &source[image * cut.source_image
                    + first_row * self.rows.source_step * cut.source_row..]
            } else {
                self.copy_band(&cut, source, (image, images, first_row), &mut scratch);
                &scratch
            };
            let weights = &weights;
            let from = image * out_image + first_row * self.rows.out_step * out_row;
            let residual = residual.map(|r| &r[from..][..out.len()]);
            let bias = &padded_bias;
            let band = Band {
                gather: self,
                cut: &cut,
                classes: &classes,
                source,
                weights,
                bias,
                residual,
                images,
                first_row,
                out,
            };
            path.run(band);
            SCRATCH.set(scratch);
        });
        WEIGHTS.set(weights);
    }

    /// Copies the source rows of a task into `scratch`, with zeros around them.
    fn copy_band(
        &self,
        cut: &Cut,
        source: &[f32],
        (image, images, first_row): (usize, usize, usize),
        scratch: &mut Vec<f32>,
    ) {
        let wanted = images * cut.source_image;
        if scratch.len() < wanted {
            scratch.resize(wanted, 0.0);
        }
        let source_row = self.cols.source_len * self.source_channels;
        let before = self.cols.before() * self.source_channels;
        let kept = source_row.min(cut.source_row - before);
        for (r, band_row) in scratch[..wanted].chunks_exact_mut(cut.source_row).enumerate() {
            let (image, r) = (image + r / cut.source_rows, r % cut.source_rows);
            match (first_row * self.rows.source_step + r).checked_sub(self.rows.before()) {
                Some(row) if row < self.rows.source_len => {
                    band_row[..before].fill(0.0);
                    band_row[before..][..kept].copy_from_slice(
                        &source[(image * self.rows.source_len + row) * source_row..][..kept],
                    );
                    band_row[before + kept..].fill(0.0);
                }
                _ => band_row.fill(0.0),
            }
        }
    }
}

/// One task: the outputs `out` of `images` images, from output row `first_row * out_step` on.
struct Band<'a> {
    gather: &'a Gather,
    cut: &'a Cut,
    classes: &'a [Class],
    source: &'a [f32],
    weights: &'a [f32],
    bias: &'a [f32],
    residual: Option<&'a [f32]>,
    images: usize,
    first_row: usize,
    out: &'a mut [f32],
}

impl WithSimd for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let channels = self.gather.out_channels;
        let vectors = channels.div_ceil(lanes);
        let narrow = self.gather.narrow(lanes);
        for vector in (0..vectors).step_by(BLOCK) {
            for class in self.classes {
                let rows = self
                    .gather
                    .rows
                    .count(class.phase_row)
                    .saturating_sub(self.first_row)
                    .min(self.cut.rows);
                let count = self.images * rows * class.cols;
                let steps = class.tap_rows * class.row_len;
                let pixels = Pixels {
                    source: &class.source[..count],
                    out: &class.out[..count],
                    tap_rows: class.tap_rows,
                    row_step: self.cut.source_row,
                    row_len: class.row_len,
                };
                if narrow {
                    let weights = &self.weights[class.weights..];
                    macro_rules! dots {
                        ($channels:literal) => {
                            if S::REGISTER_COUNT >= 32 {
                                gather_dots::<S, 6, $channels>(
                                    simd,
                                    &pixels,
                                    self.source,
                                    weights,
                                    self.bias,
                                    self.residual,
                                    self.out,
                                )
                            } else {
                                gather_dots::<S, 3, $channels>(
                                    simd,
                                    &pixels,
                                    self.source,
                                    weights,
                                    self.bias,
                                    self.residual,
                                    self.out,
                                )
                            }
                        };
                    }
                    match channels {
                        1 => dots!(1),
                        2 => dots!(2),
                        3 => dots!(3),
                        _ => dots!(4),
                    }
                    continue;
                }
                let block = BLOCK.min(vectors - vector) * lanes;
                let first = vector * lanes;
                let weights = &self.weights[class.weights + steps * first..][..steps * block];
                let bias = &self.bias[first..][..block];
                let residual = self.residual.map(|r| &r[first..]);
                let out = (&mut self.out[first..], block.min(channels - first));
                gather_any(simd, &pixels, self.source, weights, bias, residual, out);
            }
        }
    }
}
