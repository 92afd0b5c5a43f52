//! One call of an operation: its sizes, inputs, results, tolerances and cost.

use super::{Input, Inputs, Numbers, Tolerances, Value, random};
use crate::error::Result;
use crate::kernels::vjp::vjp;
use crate::kernels::work::Work;
use burn::tensor::Device;

/// The purpose of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Comparison of a user's adapter with the CPU backend: the networks' sizes, few images, a few
    /// seconds in total.
    SelfTest,
    /// Comparison with the reference, on every backend: the networks' sizes and odd ones.
    Test,
    /// Timing.
    Bench {
        /// The batch size.
        batch: usize,
    },
}

/// Named results: values and gradients.
pub type Results = Vec<(String, Vec<f32>)>;

/// A function that computes an operation. Gradients start from its first result.
type Run = Box<dyn Fn(&mut Inputs) -> Vec<(&'static str, Value)> + Send + Sync>;

/// A pass of a case (such as forward or backward) that is timed.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// Its name, such as "forward" or "grad_input"; empty if the operation has one pass only.
    pub name: &'static str,
    /// The names of the inputs whose gradients it computes; none for the forward pass.
    pub learns: Vec<&'static str>,
    /// Its cost.
    pub work: Work,
}

/// One call of an operation.
pub struct Case {
    /// The operation or its variety, such as "group_norm".
    pub kernel: &'static str,
    /// The shape of the input, `[B, C, H, W]` or `[N]`.
    pub shape: Vec<usize>,
    /// What else distinguishes the case, such as "3x3 to 64".
    pub variant: Option<String>,
    /// Its inputs.
    pub inputs: Vec<Input>,
    /// Its tolerances.
    pub tolerances: Tolerances,
    /// The passes that are timed.
    pub passes: Vec<Pass>,
    /// The inputs that are replaced by results of the same name, as an optimizer does.
    pub in_place: Vec<&'static str>,
    run: Run,
}

impl Case {
    /// Makes a case without timed passes.
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

    /// Sets other tolerances.
    pub fn tolerances(self, tolerances: Tolerances) -> Self {
        Self { tolerances, ..self }
    }

    /// Sets the variant.
    pub fn variant(self, variant: impl Into<String>) -> Self {
        Self { variant: Some(variant.into()), ..self }
    }

    /// Sets the passes that are timed.
    pub fn passes(self, passes: Vec<Pass>) -> Self {
        Self { passes, ..self }
    }

    /// Sets the inputs that the operation updates in place.
    pub fn in_place(self, names: &[&'static str]) -> Self {
        Self { in_place: names.to_vec(), ..self }
    }

    /// Returns its size, such as "2x128x16x16, 3x3 to 128".
    pub fn size(&self) -> String {
        let shape: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let variant = self.variant.as_ref().map_or(String::new(), |v| format!(", {v}"));
        shape.join("x") + &variant
    }

    /// Returns its name, such as "conv2d 2x128x16x16, 3x3 to 128".
    pub fn name(&self) -> String {
        format!("{} {}", self.kernel, self.size())
    }

    /// Samples its inputs on `device`. Those that `learns` accepts are tracked.
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

    /// Returns its results on `device` and the gradients of all inputs that learn, given a random
    /// gradient of the first result.
    ///
    /// # Errors
    /// If the device was lost or has too little memory.
    pub fn results(&self, device: &Device) -> Result<Results> {
        self.results_of(Numbers::F32, device)
    }

    /// Does what [`Case::results`] does, for feature maps and convolution weights whose values are
    /// of `kind`. So are the values of the result's gradient.
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
