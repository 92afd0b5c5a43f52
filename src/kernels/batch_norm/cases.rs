//! Batch normalisation in the catalogue.

use super::{backward_work, batch_norm, forward_work, wgsl};
use crate::kernels::catalog::{Case, Input, Inputs, Layer, Operation, Pass, Suite, Tolerances};
use crate::kernels::shader::Filled;
use burn::module::{Param, RunningState};
use burn::nn::BatchNorm;
use burn::tensor::Tensor;

/// See [`super`].
pub struct BatchNormOperation;

/// One call.
#[derive(Clone, Copy)]
struct Call {
    /// `[B, C, H, W]`.
    shape: [usize; 4],
    relu: bool,
    residual: bool,
}

impl Call {
    /// "residual, ReLU".
    fn variant(self) -> String {
        let parts = [(self.residual, "residual"), (self.relu, "ReLU")];
        let named: Vec<_> =
            parts.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect();
        if named.is_empty() { "alone".into() } else { named.join(", ") }
    }

    /// What gradients are taken with respect to, x about `mean`, and the running statistics.
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

    /// In training: the value, every gradient, the running statistics.
    fn training(self, inputs: Vec<Input>, tolerances: Tolerances) -> Case {
        let Self { shape, relu, residual } = self;
        let learns = inputs.iter().filter(|input| input.learns).map(|input| input.name).collect();
        Case::new("batch_norm", &shape, inputs, tolerances, move |inputs| {
            // By the batch's statistics, whether gradients are wanted or not.
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

    /// By the running statistics.
    fn inference(self, inputs: Vec<Input>, tolerances: Tolerances) -> Case {
        let Self { shape, relu, residual } = self;
        let inputs = inputs.into_iter().map(Input::constant).collect();
        Case::new("batch_norm", &shape, inputs, tolerances, move |inputs| {
            let x = inputs.map("x");
            let mut norm = layer(inputs, |vector| vector);
            // Variances near 0 would make every rounding count.
            norm.running_var = RunningState::new(norm.running_var.value() + 0.1);
            vec![(
                "the value",
                batch_norm(&norm, x, residual.then(|| inputs.map("residual")), relu).into(),
            )]
        })
        .variant(format!("{}, inference", self.variant()))
    }
}

/// The layer of the vectors among `inputs`, each changed by `change`.
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
        // One channel; fewer than invocations, not a power of two; the networks' own; more than
        // invocations; those of the cases.
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

/// `call` in training and in inference.
fn both(call: Call) -> [Case; 2] {
    let [b, _, h, w] = call.shape;
    // Sums of up to 4,551 numbers in another order. One pixel has no variance: then a * x and a *
    // mean, which the CPU kernel subtracts, are thousands (a = gamma / sqrt(eps) = 316 gamma), with
    // roundings of some 1e-4.
    let tolerances = Tolerances::both(1e-5, if b * h * w == 1 { 5e-4 } else { 1e-5 });
    [
        call.training(call.inputs(3.0, 2.0), tolerances),
        call.inference(call.inputs(0.0, 1.0), tolerances),
    ]
}

/// Odd sizes: channels that aren't a multiple of four, one image, one pixel, more channels than
/// invocations (one or four at a time), several blocks of pixels and a rest.
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
