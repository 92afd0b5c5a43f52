//! SiLU in the catalogue.

use super::{silu_parts, wgsl, work};
use crate::kernels::catalog::{Case, Input, Operation, Pass, Suite, Tolerances};
use crate::kernels::shader::Filled;
use std::ops::Range;

/// The operation of [`super`].
pub struct SiluOperation;

fn case(shape: [usize; 2], part: Range<usize>, tolerances: Tolerances) -> Case {
    // Values up to about 40 in magnitude, where 1 + exp(-v) rounds to 1 or to exp(-v).
    let x = Input::matrix("x", shape).about(0.0, 12.0).constant();
    let cost = work(shape[0], part.len());
    let of = format!("{} to {}", part.start, part.end);
    Case::new("silu", &shape, vec![x], tolerances, move |inputs| {
        let [y] = <[_; 1]>::try_from(silu_parts(inputs.matrix("x"), std::slice::from_ref(&part)))
            .expect("one part");
        vec![("the value", y.into())]
    })
    .variant(of)
    .passes(vec![Pass { name: "", learns: vec![], work: cost }])
}

impl Operation for SiluOperation {
    fn name(&self) -> &'static str {
        "silu"
    }

    fn cases(&self, suite: Suite) -> Vec<Case> {
        // A few roundings of f32.
        let close = Tolerances::both(1e-6, 1e-6);
        match suite {
            Suite::SelfTest => vec![case([2, 128], 26..52, Tolerances::SELF_TEST)],
            // A whole row, one element, the end of a row, several workgroups.
            Suite::Test => {
                [([3, 64], 0..64), ([1, 5], 2..3), ([5, 130], 101..130), ([70, 128], 26..52)]
                    .map(|(shape, part)| case(shape, part, close))
                    .into()
            }
            Suite::Bench { batch } => vec![case([batch, 128], 0..128, close)],
        }
    }

    fn shaders(&self) -> Vec<Filled> {
        wgsl::shaders()
    }
}
