//! The catalogue cases of AdaGN.

use super::{
    Activation, AdaGnOptions, Dropout, ada_gn, backward_work, forward_work, group_norm, wgsl,
};
use crate::kernels::catalog::{Case, Input, Layer, Operation, Pass, Suite, Tolerances};
use crate::kernels::shader::Filled;

/// AdaGN in the catalogue; see [`super`].
pub struct AdaGnOperation;

/// The parameters of one call.
#[derive(Clone, Copy)]
struct Call {
    /// `[B, C, H, W]`.
    shape: [usize; 4],
    groups: usize,
    activation: Activation,
    dropout: Option<Dropout>,
    modulated: bool,
}

const SMALL: Call = Call {
    shape: [2, 8, 4, 4],
    groups: 2,
    activation: Activation::Silu,
    dropout: None,
    modulated: true,
};
const DROPOUT: Dropout = Dropout { p: 0.3, key: [7, 9] };

impl Call {
    fn sized(batch: usize, channels: usize, height: usize, width: usize, groups: usize) -> Self {
        Self { shape: [batch, channels, height, width], groups, ..SMALL }
    }

    fn case(self, tolerances: Tolerances) -> Case {
        let Self { shape, groups, activation, dropout, modulated } = self;
        let [b, c, ..] = shape;
        // With a mean of 3, a variance that isn't centred shows.
        let mut inputs = vec![Input::image("h", shape).about(3.0, 2.0)];
        if modulated {
            inputs.extend(
                [("t", 0.7), ("z", 0.6)]
                    .map(|(name, mean)| Input::matrix(name, [b, 2 * c]).about(mean, 0.5)),
            );
        }
        inputs.extend(
            [("gamma", 1.0), ("beta", 0.2)]
                .map(|(name, mean)| Input::vector(name, c).about(mean, 0.5)),
        );
        let options = AdaGnOptions { groups, eps: 1e-5, activation, dropout };
        let learns = inputs.iter().map(|input| input.name).collect();
        let kernel = if modulated { "ada_gn" } else { "group_norm" };
        let silu = if activation == Activation::Silu { ", SiLU" } else { "" };
        let dropped = dropout.map_or(String::new(), |d| format!(", dropout {}", d.p));
        Case::new(kernel, &shape, inputs, tolerances, move |inputs| {
            let (h, gamma, beta) = (inputs.map("h"), inputs.vector("gamma"), inputs.vector("beta"));
            let y = match modulated {
                true => ada_gn(h, inputs.matrix("t"), inputs.matrix("z"), gamma, beta, options),
                false => group_norm(h, gamma, beta, options),
            };
            vec![("the value", y.into())]
        })
        .variant(format!("{groups} groups{silu}{dropped}"))
        .passes(vec![
            Pass { name: "forward", learns: vec![], work: forward_work(shape) },
            Pass { name: "backward", learns, work: backward_work(shape) },
        ])
    }
}

impl Operation for AdaGnOperation {
    fn name(&self) -> &'static str {
        "ada_gn"
    }

    fn cases(&self, suite: Suite) -> Vec<Case> {
        let (calls, tolerances) = match suite {
            Suite::SelfTest => {
                let mut cases: Vec<Case> =
                    self_test().into_iter().map(|call| call.case(Tolerances::SELF_TEST)).collect();
                cases.push(large());
                return cases;
            }
            // Sums over up to 12,288 values in a different order: errors of a few 1e-6 relative to
            // the largest entry.
            Suite::Test => (test(), Tolerances::both(1e-5, 1e-5)),
            Suite::Bench { batch } => {
                let sizes = [[64, 32], [128, 16], [256, 8]];
                (
                    sizes.map(|[c, side]| Call::sized(batch, c, side, side, 32)).to_vec(),
                    Tolerances::SELF_TEST,
                )
            }
        };
        calls.into_iter().map(|call| call.case(tolerances)).collect()
    }

    fn shaders(&self) -> Vec<Filled> {
        // [channels, channels per group, pixels]: the networks' sizes at image sides of 32, 40 and
        // 64, odd sizes, and those of the cases.
        let mut sizes = vec![
            [32, 1, 1024],
            [64, 2, 256],
            [64, 2, 6400],
            [128, 4, 400],
            [128, 4, 1024],
            [128, 4, 1600],
            [128, 4, 4096],
            [256, 8, 25],
            [256, 8, 100],
            [384, 12, 64],
            [512, 16, 16],
            [15, 3, 9],
            [17, 1, 35],
        ];
        let cases = self_test().into_iter().chain(test()).chain([Call::sized(2, 64, 8, 8, 32)]);
        sizes.extend(cases.map(|Call { shape: [_, c, h, w], groups, .. }| [c, c / groups, h * w]));
        wgsl::shaders(&sizes)
    }

    fn launched(&self, layers: &[Layer], _batch: usize) -> Vec<Filled> {
        let of = |layer: &Layer| match *layer {
            Layer::AdaGn { channels, groups, side } => {
                Some(wgsl::launched([channels, channels / groups, side * side]))
            }
            _ => None,
        };
        layers.iter().filter_map(of).flatten().collect()
    }
}

/// Returns calls of the networks' sizes.
fn self_test() -> Vec<Call> {
    let dropout = Some(Dropout { p: 0.1, key: [3, 4] });
    [(128, 32, true), (384, 8, true), (256, 4, true), (128, 16, false)]
        .map(|(channels, side, modulated)| Call {
            modulated,
            dropout: dropout.filter(|_| modulated),
            ..Call::sized(2, channels, side, side, 32)
        })
        .to_vec()
}

/// Returns a case with SiLU of values up to a thousand, where exponentials overflow.
fn large() -> Case {
    let mut case =
        Call { modulated: false, ..Call::sized(2, 64, 8, 8, 32) }.case(Tolerances::SELF_TEST);
    let gamma =
        case.inputs.iter_mut().find(|input| input.name == "gamma").expect("an input of group_norm");
    *gamma = Input::vector("gamma", 64).about(0.0, 300.0);
    let variant = case.variant.take().unwrap_or_default();
    case.variant(variant + ", large")
}

/// Returns calls of odd sizes: pixels that aren't a multiple of the workgroup, one channel per
/// group, batch 1, groups larger than the cache, more channels per group than invocations, and
/// every switch.
fn test() -> Vec<Call> {
    vec![
        SMALL,
        Call { activation: Activation::None, ..SMALL },
        Call { modulated: false, ..SMALL },
        Call { modulated: false, activation: Activation::None, ..SMALL },
        Call { dropout: Some(DROPOUT), ..SMALL },
        Call { dropout: Some(DROPOUT), activation: Activation::None, modulated: false, ..SMALL },
        Call::sized(1, 17, 7, 5, 17),
        Call::sized(3, 15, 3, 3, 5),
        Call::sized(1, 6, 1, 1, 3),
        Call::sized(2, 300, 2, 3, 1),
        Call::sized(2, 520, 2, 2, 1),
        Call::sized(1, 24, 32, 32, 2),
        Call::sized(1, 64, 32, 32, 1),
        Call::sized(2, 16, 32, 32, 16),
        Call::sized(3, 128, 4, 4, 32),
        Call::sized(2, 33, 13, 11, 3),
        // 3 channels per group leave invocations idle; fewer pixels than lanes.
        Call::sized(1, 24, 4, 4, 8),
        Call { dropout: Some(DROPOUT), ..Call::sized(1, 8, 32, 32, 1) },
    ]
}
