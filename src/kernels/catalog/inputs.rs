//! Inputs of the catalogue's cases: named tensors of sampled values.

use crate::error::{Error, Result};
use crate::rng::{self, Purpose};
use burn::tensor::{Device, FloatDType, Gradients, Tensor, TensorData, f16};

/// Samples the values of all inputs.
fn normal(stream: u64, count: usize) -> Vec<f32> {
    rng::normal(&mut rng::stream(7, Purpose::Test, stream), count)
}

/// Samples standard normal values from stream number `stream`: the same values on every device.
pub fn random<const D: usize>(shape: [usize; D], stream: u64, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(normal(stream, shape.iter().product()), shape), device)
}

/// One input of a case: its name, and how its values are sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Its name, such as "gamma".
    pub name: &'static str,
    /// Its shape: one, two or four axes.
    pub shape: Vec<usize>,
    /// Whether it is a feature map, over NHWC memory.
    image: bool,
    /// Whether gradients are taken with respect to it.
    pub learns: bool,
    mean: f32,
    deviation: f32,
    square: bool,
    /// Its values, if they aren't sampled.
    given: Option<Vec<f32>>,
    /// A replacement for its first value.
    pub poison: Option<f32>,
}

impl Input {
    fn new(name: &'static str, shape: &[usize]) -> Self {
        Self {
            name,
            shape: shape.to_vec(),
            image: false,
            learns: true,
            mean: 0.0,
            deviation: 1.0,
            square: false,
            given: None,
            poison: None,
        }
    }

    /// Returns a feature map `[B, C, H, W]` over NHWC memory.
    pub fn image(name: &'static str, shape: [usize; 4]) -> Self {
        Self { image: true, ..Self::new(name, &shape) }
    }

    /// Returns a weight of four axes, stored in the order of its axes.
    pub fn weight(name: &'static str, shape: [usize; 4]) -> Self {
        Self::new(name, &shape)
    }

    /// Returns an input of two axes.
    pub fn matrix(name: &'static str, shape: [usize; 2]) -> Self {
        Self::new(name, &shape)
    }

    /// Returns an input of one axis.
    pub fn vector(name: &'static str, n: usize) -> Self {
        Self::new(name, &[n])
    }

    /// Returns a vector of exactly these values, without a gradient.
    pub fn given(name: &'static str, values: &[f32]) -> Self {
        Self { learns: false, given: Some(values.to_vec()), ..Self::new(name, &[values.len()]) }
    }

    /// Sets the mean and standard deviation of its values. (The defaults are 0 and 1.)
    pub fn about(self, mean: f32, deviation: f32) -> Self {
        Self { mean, deviation, ..self }
    }

    /// Squares every sampled value.
    pub fn squared(self) -> Self {
        Self { square: true, ..self }
    }

    /// Makes it a constant, without a gradient.
    pub fn constant(self) -> Self {
        Self { learns: false, ..self }
    }

    /// Returns whether it is a feature map, over NHWC memory.
    pub fn is_map(&self) -> bool {
        self.image
    }

    /// Samples its tensor on `device` from stream number `stream`, tracked if it `learns`. The
    /// values of feature maps and weights of four axes are of `kind`.
    pub fn draw(&self, stream: u64, device: &Device, learns: bool, kind: Numbers) -> Value {
        let finish = |values: f32| if self.square { values * values } else { values };
        let mut values = self.given.clone().unwrap_or_else(|| {
            let values = normal(stream, self.shape.iter().product());
            values.into_iter().map(|v| finish(self.mean + self.deviation * v)).collect()
        });
        if let (Some(poison), Some(first)) = (self.poison, values.first_mut()) {
            *first = poison;
        }
        if kind != Numbers::F32 && self.shape.len() == 4 {
            values.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
        }
        let value = match self.shape[..] {
            [n] => Value::Vector(Tensor::from_data(TensorData::new(values, [n]), device)),
            [n, m] => Value::Matrix(Tensor::from_data(TensorData::new(values, [n, m]), device)),
            [b, c, h, w] if self.image => Value::Map(
                Tensor::from_data(TensorData::new(values, [b, h, w, c]), device)
                    .permute([0, 3, 1, 2]),
            ),
            [a, b, c, d] => {
                Value::Map(Tensor::from_data(TensorData::new(values, [a, b, c, d]), device))
            }
            _ => unreachable!("inputs have one, two or four axes"),
        };
        let value = match value {
            Value::Map(x) if self.image && kind == Numbers::Stored => {
                Value::Map(x.cast(FloatDType::F16))
            }
            other => other,
        };
        if learns { value.require_grad() } else { value }
    }
}

/// The precision of the values of feature maps and convolution weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// f32.
    F32,
    /// Rounded to f16, stored as f32.
    Halves,
    /// Rounded to f16, with feature maps stored as f16.
    Stored,
}

/// A tensor of one, two or four axes.
#[derive(Clone, Debug)]
pub enum Value {
    /// One axis.
    Vector(Tensor<1>),
    /// Two axes.
    Matrix(Tensor<2>),
    /// Four axes.
    Map(Tensor<4>),
}

impl From<Tensor<1>> for Value {
    fn from(tensor: Tensor<1>) -> Self {
        Self::Vector(tensor)
    }
}

impl From<Tensor<2>> for Value {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Matrix(tensor)
    }
}

impl From<Tensor<4>> for Value {
    fn from(tensor: Tensor<4>) -> Self {
        Self::Map(tensor)
    }
}

impl Value {
    fn require_grad(self) -> Self {
        match self {
            Self::Vector(x) => Self::Vector(x.detach().require_grad()),
            Self::Matrix(x) => Self::Matrix(x.detach().require_grad()),
            Self::Map(x) => Self::Map(x.detach().require_grad()),
        }
    }

    /// Reads its values back, in the order of its axes.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn numbers(self) -> Result<Vec<f32>> {
        fn read<const D: usize>(x: Tensor<D>) -> Result<Vec<f32>> {
            x.try_into_vec_as().map_err(|e| Error::device("testing its kernels", &e))
        }
        match self {
            Self::Vector(x) => read(x),
            Self::Matrix(x) => read(x),
            Self::Map(x) => read(x),
        }
    }

    /// Reads the values of its gradient back. Without a gradient there are none, which fails every
    /// comparison.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn gradient(&self, gradients: &Gradients) -> Result<Vec<f32>> {
        let gradient = match self {
            Self::Vector(x) => x.grad(gradients).map(Self::Vector),
            Self::Matrix(x) => x.grad(gradients).map(Self::Matrix),
            Self::Map(x) => x.grad(gradients).map(Self::Map),
        };
        gradient.map_or(Ok(Vec::new()), Self::numbers)
    }

    /// Removes it from autodiff.
    pub fn inner(self) -> Self {
        match self {
            Self::Vector(x) => Self::Vector(x.without_autodiff()),
            Self::Matrix(x) => Self::Matrix(x.without_autodiff()),
            Self::Map(x) => Self::Map(x.without_autodiff()),
        }
    }
}

/// The inputs of one call, by name. An operation takes them out, so that it owns those that it
/// updates in place.
#[derive(Clone, Debug, Default)]
pub struct Inputs(Vec<(&'static str, Value)>);

impl Inputs {
    /// Makes the inputs from `values`.
    pub fn new(values: Vec<(&'static str, Value)>) -> Self {
        Self(values)
    }

    fn take(&mut self, name: &str) -> Value {
        let at = self
            .0
            .iter()
            .position(|(other, _)| *other == name)
            .unwrap_or_else(|| panic!("there is no input {name}"));
        self.0.remove(at).1
    }

    /// Takes out a tensor of one axis.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn vector(&mut self, name: &str) -> Tensor<1> {
        match self.take(name) {
            Value::Vector(x) => x,
            other => panic!("{name} is not a vector: {other:?}"),
        }
    }

    /// Takes out a tensor of two axes.
    ///
    /// # Panics
    /// As [`Inputs::vector`].
    pub fn matrix(&mut self, name: &str) -> Tensor<2> {
        match self.take(name) {
            Value::Matrix(x) => x,
            other => panic!("{name} is not a matrix: {other:?}"),
        }
    }

    /// Takes out a tensor of four axes.
    ///
    /// # Panics
    /// As [`Inputs::vector`].
    pub fn map(&mut self, name: &str) -> Tensor<4> {
        match self.take(name) {
            Value::Map(x) => x,
            other => panic!("{name} is not a feature map: {other:?}"),
        }
    }

    /// Takes out a tensor of four axes, if there is one of this name.
    pub fn optional_map(&mut self, name: &str) -> Option<Tensor<4>> {
        self.has(name).then(|| self.map(name))
    }

    /// Takes out a tensor of one axis, if there is one of this name.
    pub fn optional_vector(&mut self, name: &str) -> Option<Tensor<1>> {
        self.has(name).then(|| self.vector(name))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| *other == name)
    }

    /// Returns copies of all inputs except `names`.
    pub fn without(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|(name, _)| !names.contains(name)).cloned().collect())
    }

    /// Adds inputs.
    pub fn extend(&mut self, values: impl IntoIterator<Item = (&'static str, Value)>) {
        self.0.extend(values);
    }

    /// Iterates over all inputs.
    pub fn iter(&self) -> impl Iterator<Item = &(&'static str, Value)> {
        self.0.iter()
    }
}
