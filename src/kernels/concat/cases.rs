//! Concatenation in the catalogue.

use super::{concat, wgsl, work};
use crate::kernels::catalog::{Case, Input, Layer, Operation, Pass, Suite, Tolerances};
use crate::kernels::shader::Filled;

/// The operation of [`super`].
pub struct ConcatOperation;

/// Returns the case for these sizes: batch, channels of both operands, height, width.
fn case([b, c_a, c_b, h, w]: [usize; 5], tolerances: Tolerances) -> Case {
    let inputs = vec![Input::image("a", [b, c_a, h, w]), Input::image("b", [b, c_b, h, w])];
    let whole = [b, c_a + c_b, h, w];
    Case::new("concat", &[b, c_a, h, w], inputs, tolerances, |inputs| {
        vec![("the value", concat(inputs.map("a"), inputs.map("b")).into())]
    })
    .variant(format!("and {c_b} channels"))
    .passes(vec![
        Pass { name: "forward", learns: vec![], work: work(whole) },
        Pass { name: "backward", learns: vec!["a", "b"], work: work(whole) },
    ])
}

impl Operation for ConcatOperation {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn cases(&self, suite: Suite) -> Vec<Case> {
        match suite {
            Suite::SelfTest => vec![case([2, 128, 64, 8, 8], Tolerances::SELF_TEST)],
            // Values are moved, not computed: the tolerance is for the negative control.
            Suite::Test => {
                test().into_iter().map(|sizes| case(sizes, Tolerances::both(1e-6, 0.0))).collect()
            }
            Suite::Bench { batch } => vec![case([batch, 128, 64, 16, 16], Tolerances::SELF_TEST)],
        }
    }

    fn shaders(&self) -> Vec<Filled> {
        // One channel; fewer channels than invocations, not a power of two; the networks' sizes;
        // more channels than invocations; the sizes of the cases.
        let mut channels =
            vec![[1, 1], [5, 12], [32, 32], [128, 64], [256, 256], [1_000, 1], [1_024, 1_024]];
        channels.extend(test().map(|[_, c_a, c_b, ..]| [c_a, c_b]));
        wgsl::shaders(&channels)
    }

    fn launched(&self, layers: &[Layer], _batch: usize) -> Vec<Filled> {
        let of = |layer: &Layer| {
            if let Layer::Concat { channels } = layer {
                Some(wgsl::launched(channels))
            } else {
                None
            }
        };
        layers.iter().filter_map(of).flatten().collect()
    }
}

/// Returns the sizes to test: the networks' sizes; parts that aren't multiples of four; one pixel;
/// more channels than invocations, one or four at a time; several blocks of pixels and a remainder.
fn test() -> [[usize; 5]; 8] {
    [
        [2, 16, 32, 8, 8],
        [3, 5, 1, 3, 7],
        [9, 33, 7, 9, 4],
        [1, 4, 8, 1, 1],
        [1, 3, 2, 1, 1],
        [1, 700, 588, 3, 2],
        [2, 200, 121, 2, 3],
        [2, 8, 4, 23, 31],
    ]
}
