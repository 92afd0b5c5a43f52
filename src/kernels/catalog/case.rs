//! One call of an operation: its sizes, inputs, results, what is tolerated, and what it costs.

use super::{Input, Inputs, Numbers, Tolerances, Value, random};
use crate::error::Result;
use crate::kernels::launch::Work;
use crate::kernels::vjp::vjp;
use burn::tensor::Device;

/// What cases are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Of a user's adapter against the CPU backend: the networks' sizes, few images, seconds in
    /// all.
    SelfTest,
    /// Against the reference, on every backend: the networks' sizes and odd ones.
    Test,
    /// To be timed.
    Bench {
        /// Images at once.
        batch: usize,
    },
}

/// Named results: values and gradients.
pub type Results = Vec<(String, Vec<f32>)>;

/// Computes an operation: the first result is the one that gradients start from.
type Run = Box<dyn Fn(&mut Inputs) -> Vec<(&'static str, Value)> + Send + Sync>;

/// A direction of a case, to be timed.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// "forward", "grad_input"; empty where an operation has one only.
    pub name: &'static str,
    /// Names of the inputs whose gradients it computes; none: the forward pass.
    pub learns: Vec<&'static str>,
    /// What it costs.
    pub work: Work,
}

/// One call of an operation.
pub struct Case {
    /// The operation or the variety of it: "group_norm".
    pub kernel: &'static str,
    /// Shape of the input, `[B, C, H, W]` or `[N]`.
    pub shape: Vec<usize>,
    /// What else matters: "3x3 to 64".
    pub variant: Option<String>,
    /// What it takes.
    pub inputs: Vec<Input>,
    /// What is tolerated.
    pub tolerances: Tolerances,
    /// Its directions.
    pub passes: Vec<Pass>,
    /// The inputs that results of the same name replace, as an optimizer's do.
    pub in_place: Vec<&'static str>,
    run: Run,
}

impl Case {
    /// Makes a case with nothing to be timed.
    pub fn new(
        kernel: &'static str,
        shape: &[usize],
        inputs: Vec<Input>,
        tolerances: Tolerances,
        run: impl Fn(&mut Inputs) -> Vec<(&'static str, Value)> + Send + Sync + 'static,
    ) -> Self {
        let run = Box::new(run);
        Self {
            kernel,
            shape: shape.to_vec(),
            variant: None,
            inputs,
            tolerances,
            passes: Vec::new(),
            in_place: Vec::new(),
            run,
        }
    }

    /// Tolerates something else.
    pub fn tolerances(self, tolerances: Tolerances) -> Self {
        Self { tolerances, ..self }
    }

    /// Says what else matters.
    pub fn variant(self, variant: impl Into<String>) -> Self {
        Self { variant: Some(variant.into()), ..self }
    }

    /// Adds directions to be timed.
    pub fn passes(self, passes: Vec<Pass>) -> Self {
        Self { passes, ..self }
    }

    /// Says that the operation works on these inputs in place.
    pub fn in_place(self, names: &[&'static str]) -> Self {
        Self { in_place: names.to_vec(), ..self }
    }

    /// Returns "2x128x16x16, 3x3 to 128".
    pub fn size(&self) -> String {
        let shape: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let variant = self.variant.as_ref().map_or(String::new(), |v| format!(", {v}"));
        shape.join("x") + &variant
    }

    /// Returns "conv2d 2x128x16x16, 3x3 to 128".
    pub fn name(&self) -> String {
        format!("{} {}", self.kernel, self.size())
    }

    /// Draws its inputs on `device`, those that `learns` accepts tracked.
    pub fn draw(&self, device: &Device, learns: impl Fn(&Input) -> bool) -> Inputs {
        self.draw_of(Numbers::F32, device, learns)
    }

    fn draw_of(&self, kind: Numbers, device: &Device, learns: impl Fn(&Input) -> bool) -> Inputs {
        let draw = |(i, input): (usize, &Input)| {
            (input.name, input.draw(100 + i as u64, device, learns(input), kind))
        };
        Inputs::new(self.inputs.iter().enumerate().map(draw).collect())
    }

    /// Computes it once.
    pub fn run(&self, inputs: &mut Inputs) -> Vec<(&'static str, Value)> {
        (self.run)(inputs)
    }

    /// Returns its results on `device`, and the gradients of all inputs that learn, given a random
    /// gradient of the first result.
    ///
    /// # Errors
    /// If the device was lost or has too little memory.
    pub fn results(&self, device: &Device) -> Result<Results> {
        self.results_of(Numbers::F32, device)
    }

    /// As [`Case::results`], of feature maps and convolution weights whose numbers are of `kind`,
    /// and the gradient of the result too.
    ///
    /// # Errors
    /// As [`Case::results`].
    pub fn results_of(&self, kind: Numbers, device: &Device) -> Result<Results> {
        let learns = self.inputs.iter().any(|input| input.learns);
        let device = if learns { device.clone().autodiff() } else { device.clone() };
        let inputs = self.draw_of(kind, &device, |input| input.learns);
        let outputs = self.run(&mut inputs.clone());
        let gradients = learns.then(|| {
            let y = outputs[0].1.clone();
            match y {
                Value::Vector(y) => vjp(y.clone(), random(y.dims(), 99, &device).detach()),
                Value::Matrix(y) => vjp(y.clone(), random(y.dims(), 99, &device).detach()),
                Value::Map(y) => {
                    let [b, c, h, w] = y.dims();
                    let dy = Input::image("dy", [b, c, h, w]).draw(99, &device, false, kind);
                    let Value::Map(dy) = dy else { unreachable!("a feature map") };
                    vjp(y, dy.detach())
                }
            }
        });
        let mut results = Vec::new();
        for (name, value) in outputs {
            results.push((name.to_owned(), value.inner().numbers()?));
        }
        if let Some(gradients) = gradients {
            let learning = self.inputs.iter().zip(inputs.iter()).filter(|(input, _)| input.learns);
            for (_, (name, value)) in learning {
                results.push((format!("the gradient of {name}"), value.gradient(&gradients)?));
            }
        }
        Ok(results)
    }
}
