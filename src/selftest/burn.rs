//! The Burn operations that networks and training use, as cases of the self test: Burn's kernels
//! have been wrong on adapters too.

use crate::kernels::catalog::{
    Case, Input, Inputs, Operation, Suite, Tolerance, Tolerances, Value,
};
use crate::kernels::shader::Filled;
use crate::model::waves;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};

/// Burn's operations, in addition to the catalogue of our own kernels.
pub(super) struct BurnOperations;

/// Values at which exponentials and divisions reach the limits of f32.
const LARGE: [f32; 8] = [-1000.0, -100.0, -88.0, -30.0, 30.0, 88.0, 100.0, 1000.0];

impl Operation for BurnOperations {
    fn name(&self) -> &'static str {
        "burn"
    }

    fn cases(&self, suite: Suite) -> Vec<Case> {
        if suite != Suite::SelfTest {
            return Vec::new();
        }
        let matrix = || Input::matrix("x", [32, 96]);
        let case = |variant: &str, inputs: Vec<Input>, run: fn(&mut Inputs) -> Value| {
            let shape = inputs[0].shape.clone();
            let run = move |inputs: &mut Inputs| vec![("the value", run(inputs))];
            Case::new("burn", &shape, inputs, Tolerances::SELF_TEST, run).variant(variant)
        };
        // Vulkan guarantees 2^-11 for the sine and cosine of an angle within a turn; the rounding
        // of the angle itself adds to that.
        let rough = Tolerances {
            cpu: Tolerance::new(0.0, 1e-5),
            wgsl: Tolerance::new(0.0, 1.0 / 2048.0 + 1e-5),
        };
        let two = |second: [usize; 2]| vec![matrix(), Input::matrix("y", second)];
        vec![
            case("mean", vec![matrix()], |i| i.matrix("x").mean().into()),
            case("mean of rows", vec![matrix()], |i| i.matrix("x").mean_dim(1).into()),
            case("cat", two([32, 32]), |i| {
                Tensor::cat(vec![i.matrix("x"), i.matrix("y")], 1).into()
            }),
            case("broadcast add", two([32, 1]), |i| (i.matrix("x") + i.matrix("y")).into()),
            case("broadcast multiply", two([1, 96]), |i| (i.matrix("x") * i.matrix("y")).into()),
            case("square", vec![matrix()], |i| i.matrix("x").square().into()),
            case("silu", vec![matrix()], |i| silu(i.matrix("x")).into()),
            case("silu, large", vec![Input::given("x", &LARGE)], |i| silu(i.vector("x")).into()),
            case("clamp", vec![matrix()], |i| i.matrix("x").clamp(-1.0, 1.0).into()),
            // Timesteps at the first level, in the middle and at the last, at all frequencies of
            // the time embedding.
            case("waves", vec![Input::given("t", &[1.0, 500.0, 792.0, 1000.0])], |i| {
                let t = i.vector("t");
                waves(t.clone().unsqueeze_dim::<2>(1) * frequencies(&t.device())).into()
            })
            .tolerances(rough),
            case("permuted copy", vec![Input::image("x", [4, 8, 6, 10])], |i| {
                // Read in an order other than that in memory.
                i.map("x").permute([0, 2, 3, 1]).reshape([4 * 6 * 10, 8]).into()
            }),
        ]
    }

    fn shaders(&self) -> Vec<Filled> {
        Vec::new()
    }
}

/// Returns frequencies from 1 down to 1e-4 radians per level, `[1, 32]`.
fn frequencies(device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..32).map(|i| 10f64.powf(-4.0 * f64::from(i) / 31.0) as f32).collect();
    Tensor::<1>::from_data(values.as_slice(), device).unsqueeze()
}
