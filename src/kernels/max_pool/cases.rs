//! Max-pooling in the catalogue.

use super::{backward_work, forward_work, max_pool, wgsl};
use crate::kernels::catalog::{Case, Input, Layer, Operation, Pass, Suite, Tolerances};
use crate::kernels::shader::Filled;

/// The operation of [`super`].
pub struct MaxPoolOperation;

/// The values of x.
#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    /// Normally distributed.
    Normal,
    /// The same, in NCHW memory.
    Nchw,
    /// Multiples of one half, so that windows have several maxima.
    Halves,
}

fn case(shape: [usize; 4], numbers: Numbers, tolerances: Tolerances) -> Case {
    let x =
        if numbers == Numbers::Nchw { Input::weight("x", shape) } else { Input::image("x", shape) };
    let case = Case::new("max_pool", &shape, vec![x], tolerances, move |inputs| {
        let x = inputs.map("x");
        let x = match numbers {
            // x - x is 0, with the gradient of x.
            Numbers::Halves => x.clone() - x.clone().detach() + (x.detach() * 2.0).round() * 0.5,
            _ => x,
        };
        vec![("the value", max_pool(x).into())]
    });
    let case = match numbers {
        Numbers::Normal => case,
        Numbers::Nchw => case.variant("NCHW memory"),
        Numbers::Halves => case.variant("halves"),
    };
    case.passes(vec![
        Pass { name: "forward", learns: vec![], work: forward_work(shape) },
        Pass { name: "backward", learns: vec!["x"], work: backward_work(shape) },
    ])
}

impl Operation for MaxPoolOperation {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn cases(&self, suite: Suite) -> Vec<Case> {
        // Values are moved, and up to four are added. (The tolerance is for the negative control.)
        let exact = Tolerances::both(1e-6, 0.0);
        match suite {
            Suite::SelfTest => {
                vec![
                    case([2, 64, 16, 16], Numbers::Normal, Tolerances::SELF_TEST),
                    case([2, 6, 9, 7], Numbers::Halves, Tolerances::SELF_TEST),
                ]
            }
            // Odd and even sides, a single row or column, channels that aren't a multiple of four.
            Suite::Test => {
                let sizes = [
                    [2, 64, 16, 16],
                    [3, 5, 9, 6],
                    [1, 17, 7, 12],
                    [2, 4, 1, 1],
                    [1, 3, 1, 8],
                    [2, 8, 5, 1],
                    [1, 1, 2, 2],
                    [1, 36, 23, 3],
                    [2, 130, 4, 5],
                ];
                let all = sizes
                    .into_iter()
                    .flat_map(|shape| [(shape, Numbers::Normal), (shape, Numbers::Halves)]);
                all.chain([([3, 5, 9, 6], Numbers::Nchw)])
                    .map(|(shape, numbers)| case(shape, numbers, exact))
                    .collect()
            }
            Suite::Bench { batch } => vec![case([batch, 64, 32, 32], Numbers::Normal, exact)],
        }
    }

    fn shaders(&self) -> Vec<Filled> {
        wgsl::shaders()
    }

    fn launched(&self, layers: &[Layer], _batch: usize) -> Vec<Filled> {
        let of = |layer: &Layer| {
            if let Layer::MaxPool { channels } = *layer {
                Some(wgsl::launched(channels))
            } else {
                None
            }
        };
        layers.iter().filter_map(of).flatten().collect()
    }
}
