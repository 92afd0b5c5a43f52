//! The mean over the pixels in the catalogue.

use super::{pixel_mean, wgsl, work};
use crate::kernels::catalog::{Case, Input, Operation, Pass, Suite, Tolerances};
use crate::kernels::shader::Filled;

/// The operation of [`super`].
pub struct PixelMeanOperation;

fn case(shape: [usize; 4], tolerances: Tolerances) -> Case {
    let x = Input::image("x", shape).about(0.5, 1.0).constant();
    Case::new("pixel_mean", &shape, vec![x], tolerances, |inputs| {
        vec![("the value", pixel_mean(inputs.map("x")).into())]
    })
    .passes(vec![Pass { name: "", learns: vec![], work: work(shape) }])
}

impl Operation for PixelMeanOperation {
    fn name(&self) -> &'static str {
        "pixel_mean"
    }

    fn cases(&self, suite: Suite) -> Vec<Case> {
        // Sums of up to a few hundred values, in another order.
        let close = Tolerances::both(1e-5, 1e-6);
        match suite {
            Suite::SelfTest => vec![case([2, 256, 4, 4], Tolerances::SELF_TEST)],
            // One pixel, odd sizes, several workgroups.
            Suite::Test => {
                [[2, 256, 4, 4], [3, 5, 1, 1], [1, 17, 7, 3], [70, 9, 2, 2], [1, 130, 16, 16]]
                    .map(|shape| case(shape, close))
                    .into()
            }
            Suite::Bench { batch } => vec![case([batch, 512, 4, 4], close)],
        }
    }

    fn shaders(&self) -> Vec<Filled> {
        wgsl::shaders()
    }
}
