//! How t and z reach a residual block: each through SiLU (once for all blocks) and a linear layer
//! of the block's own that gives every channel a scale and a shift.
//!
//! With layer modulation (SODA) z comes in m + 1 sections, m the number of resolutions:
//!
//! ```text
//! section       0        1        2        3        4            (m = 4, z of 128: 26, 26, 26, 25, 25 numbers)
//! side         32       16        8        4        4             (of images of 32 x 32 pixels)
//!            down 0 - down 1 - down 2 - down 3 - middle
//!                                                  |
//!             up 0  -  up 1  -  up 2  -  up 3  - - +
//! ```
//!
//! Section i modulates the residual blocks of down stage i and of up stage i, those of the same
//! side; the last one modulates the two of the middle. The paper pairs the stages of both paths;
//! which section belongs to which pair is our choice.
//!
//! Without it every stage has all of z. It can then be given a z of its own for each stage, side by
//! side, which is how images are mixed (as StyleGAN mixes styles: Karras et al. 2019, section 3.1).

use super::constant::constant;
use crate::config::AdaGnScale;
use crate::kernels::linear::dense;
use crate::kernels::silu::silu_parts;
use burn::nn::Linear;
use burn::tensor::Tensor;
use std::ops::Range;

/// z, shared out to the stages of the denoiser.
#[derive(Clone, Debug)]
pub struct SharedOut {
    /// After SiLU.
    sections: Vec<Tensor<2>>,
}

impl SharedOut {
    /// Cuts SiLU of `z` `[B, Z]` into `sections`, which cover it; a single one goes to every stage,
    /// and of a `z` `[B, S Z]` each of the S stages (the finest first, the middle last) gets its
    /// own.
    pub fn activated(z: Tensor<2>, sections: &[Range<usize>]) -> Self {
        let width = z.dims()[1];
        let sections = match sections {
            [whole] => silu_parts(
                z,
                &(0..width).step_by(whole.len()).map(|i| i..i + whole.len()).collect::<Vec<_>>(),
            ),
            several => silu_parts(z, several),
        };
        Self { sections }
    }

    /// What modulates the blocks of down stage and up stage `stage` (0 is the finest), `[B, its
    /// length]`.
    pub fn stage(&self, stage: usize) -> &Tensor<2> {
        &self.sections[if self.sections.len() == 1 { 0 } else { stage }]
    }

    /// What modulates the blocks of the middle.
    pub fn middle(&self) -> &Tensor<2> {
        self.sections.last().expect("at least one section")
    }
}

/// `activated` `[B, from]`, an embedding after its SiLU, to `[B, 2C]`, scale ‖ shift, with the 1 of
/// "1 + scale" already added.
pub fn scale_shift(linear: &Linear, activated: Tensor<2>, convention: AdaGnScale) -> Tensor<2> {
    let offset = (convention == AdaGnScale::OnePlus).then(|| {
        let [[batch, _], [_, both]] = [activated.dims(), linear.weight.dims()];
        let ones = (0..both).map(|i| if i < both / 2 { 1.0 } else { 0.0 });
        constant(ones.collect(), batch, &activated.device())
    });
    dense(linear, activated, offset)
}
