//! The optimizer in the catalogue.

use super::norm::squares_work;
use super::{Options, Parameter, adamw, forward_work, norm, wgsl};
use crate::kernels::catalog::{
    Case, Input, Inputs, Layer, Operation, Pass, Suite, Tolerance, Tolerances, Value,
};
use crate::kernels::shader::Filled;
use burn::tensor::Tensor;

/// The operations of [`super`].
pub struct AdamWOperation;

/// Returns a parameter of `n` values, its gradient, and the factors of an update.
fn inputs(n: usize) -> Vec<Input> {
    let options =
        Options { lr: 1e-2, weight_decay: 0.05, betas: [0.9, 0.95], update: 3, ema_decay: 0.97 };
    let vector = |name| Input::vector(name, n).constant();
    vec![
        vector("weight"),
        vector("first").about(0.0, 0.1),
        vector("second").about(0.0, 0.1).squared(),
        vector("average"),
        vector("grad"),
        Input::given("factors", &options.factors()),
    ]
}

/// Returns the results of an update, named like the inputs that they replace.
fn updated(inputs: &mut Inputs, clip: Tensor<1>, grad: Tensor<1>) -> Vec<(&'static str, Value)> {
    let parameter = Parameter {
        weight: inputs.vector("weight"),
        first: inputs.vector("first"),
        second: inputs.vector("second"),
        average: inputs.vector("average"),
    };
    let Parameter { weight, first, second, average } =
        adamw(parameter, grad, clip, inputs.vector("factors"));
    vec![
        ("weight", weight.into()),
        ("first", first.into()),
        ("second", second.into()),
        ("average", average.into()),
    ]
}

/// Returns the case of clip, AdamW and EMA for one tensor of `n` values.
fn update(n: usize, clip: f32, tolerances: Tolerances) -> Case {
    let inputs = inputs(n).into_iter().chain([Input::given("clip", &[clip])]).collect();
    Case::new("adamw", &[n], inputs, tolerances, |inputs| {
        let (clip, grad) = (inputs.vector("clip"), inputs.vector("grad"));
        updated(inputs, clip, grad)
    })
    .variant("with EMA")
    .passes(vec![Pass { name: "", learns: vec![], work: forward_work(n) }])
    .in_place(&["weight", "first", "second", "average"])
}

/// Returns the case of the norm of tensors of `n`, 7 and 64 values.
fn norms(n: usize, tolerances: Tolerances) -> Case {
    let inputs = [("a", n, 1.0), ("b", 7, 1.0), ("c", 64, 3.0)];
    let inputs =
        inputs.map(|(name, n, deviation)| Input::vector(name, n).about(0.0, deviation).constant());
    Case::new("norm", &[n], inputs.into(), tolerances, |inputs| {
        vec![("the norm", norm(["a", "b", "c"].map(|name| inputs.vector(name)).into()).into())]
    })
    .passes(vec![Pass { name: "", learns: vec![], work: squares_work(n + 7 + 64) }])
}

/// Returns the case of the norm of more tensors than one launch takes, of which some can't be read
/// four values at a time.
fn norm_of_many(tolerances: Tolerances) -> Case {
    const LENGTHS: [usize; 11] = [20_000, 8, 40_000, 4, 64, 12, 100, 7, 16, 5, 9];
    let name = |i: usize| &"abcdefghijk"[i..=i];
    let inputs = LENGTHS
        .into_iter()
        .enumerate()
        .map(|(i, n)| Input::vector(name(i), n).about(0.0, 1.0 + i as f32).constant());
    Case::new("norm", &[LENGTHS.iter().sum()], inputs.collect(), tolerances, move |inputs| {
        vec![(
            "the norm",
            norm((0..LENGTHS.len()).map(|i| inputs.vector(name(i))).collect()).into(),
        )]
    })
    .variant("of eleven tensors")
    .passes(vec![Pass { name: "", learns: vec![], work: squares_work(LENGTHS.iter().sum()) }])
}

/// Returns the case of both: an update clipped by the norm of its gradient and another tensor.
fn clipped(n: usize, tolerances: Tolerances) -> Case {
    let inputs = inputs(n).into_iter().chain([Input::vector("other", 7).constant()]).collect();
    Case::new("adamw", &[n], inputs, tolerances, |inputs| {
        let grad = inputs.vector("grad");
        let norm = norm(vec![grad.clone(), inputs.vector("other")]);
        let mut results = updated(inputs, norm.clone().recip(), grad);
        results.push(("the norm", norm.into()));
        results
    })
    .variant("clipped by the norm")
}

impl Operation for AdamWOperation {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cases(&self, suite: Suite) -> Vec<Case> {
        match suite {
            Suite::SelfTest => vec![clipped(100_004, Tolerances::SELF_TEST)],
            Suite::Test => {
                // A handful of roundings; WGSL's division and square root may be off by a few ulp.
                let updates = Tolerances {
                    cpu: Tolerance::new(1e-6, 1e-7),
                    wgsl: Tolerance::new(1e-5, 1e-5),
                };
                // Burn adds up 100,075 values in f32.
                let sums = Tolerances::both(1e-5, 0.0);
                let both = |n| [update(n, 0.7, updates), norms(n, sums)];
                [1, 15, 1_000, 100_003, 100_004]
                    .into_iter()
                    .flat_map(both)
                    .chain([norm_of_many(sums)])
                    .collect()
            }
            Suite::Bench { .. } => vec![update(1 << 20, 1.0, Tolerances::SELF_TEST)],
        }
    }

    fn shaders(&self) -> Vec<Filled> {
        wgsl::shaders()
    }

    fn launched(&self, _layers: &[Layer], _batch: usize) -> Vec<Filled> {
        wgsl::launched()
    }
}
