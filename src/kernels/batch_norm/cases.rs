//! The catalogue cases of batch normalisation.

use super::{backward_work, batch_norm, forward_work, wgsl};
use crate::kernels::catalog::{Case, Input, Inputs, Layer, Operation, Pass, Suite, Tolerances};
use crate::kernels::shader::Filled;
use burn::module::{Param, RunningState};
use burn::nn::BatchNorm;
use burn::tensor::Tensor;

/// Batch normalisation in the catalogue; see [`super`].
pub struct BatchNormOperation;

/// The parameters of one call.
#[derive(Clone, Copy)]
struct Call {
    /// `[B, C, H, W]`.
    shape: [usize; 4],
    relu: bool,
    residual: bool,
}

impl Call {
    /// Returns the name of the variant, such as "residual, ReLU".
    fn variant(self) -> String {
        let parts = [(self.residual, "residual"), (self.relu, "ReLU")];
        let named: Vec<_> =
            parts.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect();
        if named.is_empty() { "alone".into() } else { named.join(", ") }
    }

    /// Returns the inputs that have gradients, with x of the given mean and deviation, and the
    /// running statistics.
    fn inputs(self, mean: f32, deviation: f32) -> Vec<Input> {
        let [_, c, ..] = self.shape;
        let mut inputs = vec![Input::image("x", self.shape).about(mean, deviation)];
        inputs.extend(self.residual.then(|| Input::image("residual", self.shape)));
        inputs.extend(
            [("gamma", 1.0), ("beta", 0.0)]
                .map(|(name, mean)| Input::vector(name, c).about(mean, 1.0)),
        );
        inputs.push(Input::vector("running_mean", c).constant());
        inputs.push(Input::vector("running_variance", c).squared().constant());
        inputs
    }

    /// Returns the case in training: the value, every gradient and the running statistics.
    fn training(self, inputs: Vec<Input>, tolerances: Tolerances) -> Case {
        let Self { shape, relu, residual } = self;
        let learns = inputs.iter().filter(|input| input.learns).map(|input| input.name).collect();
        Case::new("batch_norm", &shape, inputs, tolerances, move |inputs| {
            // On an autodiff device, to use the batch's statistics even where no gradient is
            // wanted.
            let x = inputs.map("x");
            let x = if x.device().is_autodiff() { x } else { Tensor::from_inner(x) };
            let norm = layer(inputs, |vector| {
                if vector.device().is_autodiff() { vector } else { Tensor::from_inner(vector) }
            });
            let y = batch_norm(&norm, x, residual.then(|| inputs.map("residual")), relu);
            let [mean, variance] =
                [norm.running_mean, norm.running_var].map(|state| state.value_sync());
            vec![
                ("the value", y.into()),
                ("the running mean", mean.into()),
                ("the running variance", variance.into()),
            ]
        })
        .variant(self.variant())
        .passes(vec![
            Pass { name: "forward", learns: vec![], work: forward_work(shape) },
            Pass { name: "backward", learns, work: backward_work(shape) },
        ])
    }

    /// Returns the case in inference, by the running statistics.
    fn inference(self, inputs: Vec<Input>, tolerances: Tolerances) -> Case {
        let Self { shape, relu, residual } = self;
        let inputs = inputs.into_iter().map(Input::constant).collect();
        Case::new("batch_norm", &shape, inputs, tolerances, move |inputs| {
            let x = inputs.map("x");
            let mut norm = layer(inputs, |vector| vector);
            // Variances near 0 would amplify every rounding error.
            norm.running_var = RunningState::new(norm.running_var.value() + 0.1);
            vec![(
                "the value",
                batch_norm(&norm, x, residual.then(|| inputs.map("residual")), relu).into(),
            )]
        })
        .variant(format!("{}, inference", self.variant()))
    }
}

/// Returns the layer made of the vectors among `inputs`, each passed through `change`.
fn layer(inputs: &mut Inputs, change: impl Fn(Tensor<1>) -> Tensor<1>) -> BatchNorm {
    let mut vector = |name| change(inputs.vector(name));
    BatchNorm {
        gamma: Param::from_tensor(vector("gamma")),
        beta: Param::from_tensor(vector("beta")),
        training: Param::from_bool(true),
        running_mean: RunningState::new(vector("running_mean")),
        running_var: RunningState::new(vector("running_variance")),
        momentum: 0.1,
        epsilon: 1e-5,
    }
}

impl Operation for BatchNormOperation {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cases(&self, suite: Suite) -> Vec<Case> {
        match suite {
            Suite::SelfTest => [([4, 64, 32, 32], false), ([4, 512, 4, 4], true)]
                .map(|(shape, residual)| Call { shape, relu: true, residual })
                .map(|call| call.training(call.inputs(0.0, 1.0), Tolerances::SELF_TEST))
                .into(),
            Suite::Test => test().into_iter().flat_map(both).collect(),
            Suite::Bench { batch } => {
                let call = Call { shape: [batch, 64, 32, 32], relu: true, residual: false };
                vec![call.training(call.inputs(0.0, 1.0), Tolerances::SELF_TEST)]
            }
        }
    }

    fn shaders(&self) -> Vec<Filled> {
        // One channel; fewer channels than invocations, not a power of two; the networks' sizes;
        // more channels than invocations; the sizes of the cases.
        let mut channels = vec![1, 17, 32, 64, 128, 256, 512, 1_001, 2_048];
        channels.extend(test().into_iter().map(|call| call.shape[1]));
        wgsl::shaders(&channels)
    }

    fn launched(&self, layers: &[Layer], _batch: usize) -> Vec<Filled> {
        let of = |layer: &Layer| {
            if let Layer::BatchNorm { channels } = *layer {
                Some(wgsl::launched(channels))
            } else {
                None
            }
        };
        layers.iter().filter_map(of).flatten().collect()
    }
}

/// Returns `call` in training and in inference.
fn both(call: Call) -> [Case; 2] {
    let [b, _, h, w] = call.shape;
    // Sums of up to 4,551 values in a different order. A single pixel has no variance: then a * x
    // and a * mean, which the CPU kernel subtracts, are in the thousands (a = gamma / sqrt(eps) =
    // 316 gamma), with rounding errors of some 1e-4.
    let tolerances = Tolerances::both(1e-5, if b * h * w == 1 { 5e-4 } else { 1e-5 });
    [
        call.training(call.inputs(3.0, 2.0), tolerances),
        call.inference(call.inputs(0.0, 1.0), tolerances),
    ]
}

/// Returns calls of odd sizes: channels that aren't a multiple of four, one image, one pixel, more
/// channels than invocations (one or four at a time), several blocks of pixels and a remainder.
fn test() -> Vec<Call> {
    let call = |shape, relu, residual| Call { shape, relu, residual };
    vec![
        call([4, 16, 8, 8], true, false),
        call([2, 5, 3, 7], true, false),
        call([3, 33, 4, 4], false, false),
        call([1, 8, 5, 5], true, false),
        call([2, 24, 9, 8], true, true),
        call([3, 6, 4, 4], false, true),
        call([1, 7, 1, 1], true, false),
        call([1, 8, 1, 1], true, true),
        call([2, 1_040, 2, 3], true, true),
        call([1, 261, 3, 5], true, false),
        call([3, 4, 37, 41], true, true),
        call([2, 64, 33, 31], true, false),
    ]
}
