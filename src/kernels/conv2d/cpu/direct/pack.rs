//! Packs the weights in the order in which the tiles read them.

use super::axis::Axis;
use super::plan::Gather;
use crate::kernels::conv2d::cpu::operands::Weights;
use crate::kernels::conv2d::cpu::tiles::BLOCK;
use rayon::prelude::*;

impl Gather {
    /// Packs the weights as [class][block of output channels][tap row][tap column][source
    /// channel][output channel of the block], with the output channels padded with zeros to whole
    /// vectors.
    pub(super) fn pack(&self, lanes: usize, weights: &Weights, packed: &mut Vec<f32>) {
        let (out_stride, source_stride) = weights.strides();
        let kernel = |axis: &Axis| axis.phases.iter().map(|p| p.taps.len()).sum::<usize>();
        let width = kernel(&self.cols);
        let padded = self.out_channels.next_multiple_of(lanes);
        packed.resize(kernel(&self.rows) * width * self.source_channels * padded, 0.0);
        let mut rest = packed.as_mut_slice();
        for row_phase in &self.rows.phases {
            for col_phase in &self.cols.phases {
                let taps: Vec<_> = row_phase
                    .taps
                    .iter()
                    .flat_map(|r| col_phase.taps.iter().map(move |c| r * width + c))
                    .collect();
                let steps = taps.len() * self.source_channels;
                if steps == 0 {
                    continue;
                }
                let class = rest.split_off_mut(..steps * padded).expect("room for every class");
                class.par_chunks_mut(steps * BLOCK * lanes).enumerate().for_each(
                    |(block, packed)| {
                        let nb = packed.len() / steps;
                        let valid = nb.min(self.out_channels - block * BLOCK * lanes);
                        if valid < nb {
                            packed.fill(0.0);
                        }
                        let w = &weights.values[block * BLOCK * lanes * out_stride..];
                        // A few source channels at a time, whose weights stay in the first-level
                        // cache while the taps are sorted.
                        for first in (0..self.source_channels).step_by(16) {
                            for (t, tap) in taps.iter().enumerate() {
                                for i in first..self.source_channels.min(first + 16) {
                                    let packed =
                                        &mut packed[(t * self.source_channels + i) * nb..][..valid];
                                    let w = w[i * source_stride + tap..].iter().step_by(out_stride);
                                    packed.iter_mut().zip(w).for_each(|(packed, w)| *packed = *w);
                                }
                            }
                        }
                    },
                );
            }
        }
    }

    /// Packs the weights as [class][tap row][output channel][tap column][source channel].
    pub(super) fn pack_narrow(&self, weights: &Weights, packed: &mut Vec<f32>) {
        let (out_stride, source_stride) = weights.strides();
        let width = self.cols.phases.iter().map(|p| p.taps.len()).sum::<usize>();
        packed.clear();
        for row_phase in &self.rows.phases {
            for col_phase in &self.cols.phases {
                for row in &row_phase.taps {
                    for o in 0..self.out_channels {
                        for col in &col_phase.taps {
                            let w = &weights.values[o * out_stride + row * width + col..];
                            packed
                                .extend(w.iter().step_by(source_stride).take(self.source_channels));
                        }
                    }
                }
            }
        }
    }
}
