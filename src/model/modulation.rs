//! Modulation of residual blocks by t and z. Each passes through SiLU (once for all blocks) and a
//! linear layer of each block that gives every channel a scale and a shift.
//!
//! With layer modulation (SODA) z is divided into m + 1 sections, where m is the number of
//! resolutions. For m = 4 and a z of 128 they have 26, 26, 26, 25 and 25 dimensions:
//!
//! ```text
//! section       0        1        2        3        4
//! side         32       16        8        4        4             (of images of 32 x 32 pixels)
//!            down 0 - down 1 - down 2 - down 3 - middle
//!                                                  |
//!             up 0  -  up 1  -  up 2  -  up 3  - - +
//! ```
//!
//! Section i modulates the residual blocks of down stage i and of up stage i, which have the same
//! side; the last section modulates the two blocks of the middle. The paper pairs the stages of
//! both paths; which section belongs to which pair is our choice.
//!
//! Without layer modulation every stage receives all of z. Each stage can then be given a z of its
//! own, concatenated side by side, which is how images are mixed (as StyleGAN mixes styles: Karras
//! et al. 2019, section 3.1).

use super::constant::constant;
use crate::config::AdaGnScale;
use crate::kernels::linear::dense;
use crate::kernels::silu::silu_parts;
use burn::nn::Linear;
use burn::tensor::Tensor;
use std::ops::Range;

/// z, divided among the stages of the denoiser.
#[derive(Clone, Debug)]
pub struct ZSections {
    /// The sections after SiLU.
    sections: Vec<Tensor<2>>,
}

impl ZSections {
    /// Applies SiLU to `z` `[B, Z]` and splits it into `sections`, which cover it. A single section
    /// goes to every stage; of a `z` `[B, S Z]`, each of the S stages (the finest first, the middle
    /// last) gets its own.
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

    /// Returns the section that modulates the blocks of down stage and up stage `stage` (0 is the
    /// finest), `[B, its length]`.
    pub fn stage(&self, stage: usize) -> &Tensor<2> {
        &self.sections[if self.sections.len() == 1 { 0 } else { stage }]
    }

    /// Returns the section that modulates the blocks of the middle.
    pub fn middle(&self) -> &Tensor<2> {
        self.sections.last().expect("at least one section")
    }
}

/// Maps `activated` `[B, from]`, an embedding after its SiLU, to `[B, 2C]`, scale ‖ shift, with
/// the 1 of "1 + scale" already added.
pub fn scale_shift(linear: &Linear, activated: Tensor<2>, convention: AdaGnScale) -> Tensor<2> {
    let offset = (convention == AdaGnScale::OnePlus).then(|| {
        let [[batch, _], [_, both]] = [activated.dims(), linear.weight.dims()];
        let ones = (0..both).map(|i| if i < both / 2 { 1.0 } else { 0.0 });
        constant(ones.collect(), batch, &activated.device())
    });
    dense(linear, activated, offset)
}
