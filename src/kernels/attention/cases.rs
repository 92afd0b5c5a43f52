//! The catalogue cases of attention.

use super::{attention, backward_work, forward_work, wgsl};
use crate::kernels::catalog::{Case, Input, Layer, Operation, Pass, Suite, Tolerances};
use crate::kernels::shader::Filled;

/// Attention in the catalogue; see [`super`].
pub struct AttentionOperation;

/// Returns a case with q, k and v `[B, C, H, W]` of standard deviation `deviation`.
fn case(shape: [usize; 4], deviation: f32, tolerances: Tolerances) -> Case {
    let [b, c, h, w] = shape;
    let inputs = vec![Input::image("qkv", [b, 3 * c, h, w]).about(0.0, deviation)];
    let apart = if deviation == 1.0 { String::new() } else { format!(", {deviation} apart") };
    Case::new("attention", &shape, inputs, tolerances, |inputs| {
        vec![("the value", attention(inputs.map("qkv")).into())]
    })
    .variant(format!("1 head{apart}"))
    .passes(vec![
        Pass { name: "forward", learns: vec![], work: forward_work(shape) },
        Pass { name: "backward", learns: vec!["qkv"], work: backward_work(shape) },
    ])
}

impl Operation for AttentionOperation {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cases(&self, suite: Suite) -> Vec<Case> {
        match suite {
            Suite::SelfTest => {
                let cases = [[2, 128, 16, 16], [2, 256, 4, 4]]
                    .map(|shape| case(shape, 1.0, Tolerances::SELF_TEST));
                // Scores of up to 200 have rounding errors of 1e-5, which their exponentials
                // propagate.
                cases
                    .into_iter()
                    .chain([case([1, 64, 8, 8], 7.0, Tolerances::both(1e-3, 1e-5))])
                    .collect()
            }
            // Exponentials by our own polynomial or by the driver; sums of up to 257 values in a
            // different order.
            Suite::Test => {
                let tolerances = Tolerances::both(1e-5, 1e-6);
                test()
                    .into_iter()
                    .map(|(shape, deviation)| case(shape, deviation, tolerances))
                    .collect()
            }
            Suite::Bench { batch } => vec![case([batch, 64, 16, 16], 1.0, Tolerances::SELF_TEST)],
        }
    }

    fn shaders(&self) -> Vec<Filled> {
        // Few and many channels over small and large images, and the sizes of the cases, padded to
        // multiples of four.
        let mut sizes: Vec<[usize; 2]> = [4, 64, 128, 256, 512]
            .into_iter()
            .flat_map(|channels| [1, 8, 16, 32, 64, 256].map(|pixels| [channels, pixels]))
            .collect();
        sizes.extend(test().into_iter().map(|([_, channels, height, width], _)| {
            [channels.next_multiple_of(4), height * width]
        }));
        wgsl::shaders(&sizes)
    }

    fn launched(&self, layers: &[Layer], _batch: usize) -> Vec<Filled> {
        let of = |layer: &Layer| match *layer {
            Layer::Attention { channels, side } => Some(wgsl::launched(channels, side * side)),
            _ => None,
        };
        layers.iter().filter_map(of).flatten().collect()
    }
}

/// Returns the shapes and deviations of the test cases: the networks' sizes; channels that aren't a
/// multiple of four; one pixel; a row of pixels; more channels than a workgroup has sums; weights
/// that are nearly all in one pixel.
fn test() -> Vec<([usize; 4], f32)> {
    vec![
        ([2, 64, 16, 16], 1.0),
        ([2, 64, 16, 16], 2.0),
        ([2, 256, 4, 4], 1.0),
        ([1, 256, 16, 16], 1.0),
        ([3, 16, 4, 4], 1.0),
        ([3, 16, 4, 4], 2.0),
        ([1, 128, 8, 8], 1.0),
        ([1, 5, 3, 7], 2.0),
        ([1, 33, 9, 8], 2.0),
        ([2, 6, 5, 5], 1.0),
        ([1, 130, 6, 7], 1.0),
        ([1, 300, 5, 3], 1.0),
        ([2, 8, 1, 1], 1.0),
        ([2, 8, 1, 1], 2.0),
        ([1, 12, 1, 257], 1.0),
        ([1, 72, 11, 13], 1.0),
        ([2, 64, 16, 16], 4.0),
    ]
}
