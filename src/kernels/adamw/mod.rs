//! One update of a parameter by AdamW (Loshchilov and Hutter 2019), and of its exponential moving average, in one pass over
//! memory, in place: by a WGSL kernel on wgpu devices, by several threads on the CPU backend. And the norm of all gradients, by
//! which they are clipped.
//!
//! g = clip * grad,  m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
//! w = (1 - lr * decay) w - (lr / c1) m / (sqrt(v / c2) + eps),  c1 = 1 - beta1^n,  c2 = 1 - beta2^n
//! average = d * average + (1 - d) w

mod cpu;
pub mod wgsl;

use crate::kernels::choice::{cpu_kernels, references};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, backend_extension};
use burn::tensor::{Tensor, assert_shape};

/// Added to the root of the second moment (PyTorch's default).
const EPSILON: f64 = 1e-8;

/// A parameter and what is kept of its history; all `[N]`, without autodiff.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// w.
    pub weight: Tensor<1>,
    /// m, the running mean of the gradient.
    pub first: Tensor<1>,
    /// v, the running mean of its square.
    pub second: Tensor<1>,
    /// The exponential moving average of w.
    pub average: Tensor<1>,
}

/// The constants of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Learning rate.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decays of the moments.
    pub betas: [f64; 2],
    /// Number of this update, n, from 1.
    pub update: i32,
    /// Decay of the average, d.
    pub ema_decay: f64,
}

impl Options {
    /// c1 and c2: what makes up for moments that began at zero.
    fn corrections(&self) -> [f64; 2] {
        self.betas.map(|beta| 1.0 - beta.powi(self.update))
    }

    fn factors(&self) -> Factors {
        let [c1, c2] = self.corrections();
        Factors {
            beta: self.betas.map(|b| b as f32),
            rest: self.betas.map(|b| (1.0 - b) as f32),
            rate: (self.lr / c1) as f32,
            correction: (1.0 / c2) as f32,
            shrink: (1.0 - self.lr * self.weight_decay) as f32,
            ema: self.ema_decay as f32,
            ema_rest: (1.0 - self.ema_decay) as f32,
        }
    }
}

/// Factors of the update in f32, rounded once.
#[derive(Clone, Copy)]
struct Factors {
    beta: [f32; 2],
    rest: [f32; 2],
    /// lr / c1.
    rate: f32,
    /// 1 / c2.
    correction: f32,
    /// 1 - lr * weight decay.
    shrink: f32,
    ema: f32,
    ema_rest: f32,
}

/// Updates `parameter` by `grad` `[N]` times `clip` `[1]`. Tensors that nobody else holds are updated in place.
///
/// # Panics
/// If the lengths differ.
pub fn adamw(parameter: Parameter, grad: Tensor<1>, clip: Tensor<1>, options: Options) -> Parameter {
    let Parameter { weight, first, second, average } = parameter;
    let [n] = weight.dims();
    assert_shape!(grad, [n]);
    assert_shape!(first, [n]);
    assert_shape!(second, [n]);
    assert_shape!(average, [n]);
    assert_shape!(clip, [1]);
    if references() {
        return reference(Parameter { weight, first, second, average }, grad, clip, options);
    }
    let [weight, first, second, average, grad, clip] = [weight, first, second, average, grad, clip].map(Tensor::into_dispatch);
    let (weight, first, second, average) = <Dispatch as AdamWOp>::adamw(weight, first, second, average, grad, clip, options);
    let [weight, first, second, average] = [weight, first, second, average].map(Tensor::from_dispatch);
    Parameter { weight, first, second, average }
}

/// [`adamw`] in plain tensor operations: the oracle of the kernels.
pub fn reference(parameter: Parameter, grad: Tensor<1>, clip: Tensor<1>, options: Options) -> Parameter {
    let ([beta1, beta2], [c1, c2]) = (options.betas, options.corrections());
    let grad = grad * clip;
    let first = parameter.first * beta1 + grad.clone() * (1.0 - beta1);
    let second = parameter.second * beta2 + grad.square() * (1.0 - beta2);
    let update = first.clone() / ((second.clone() / c2).sqrt() + EPSILON) * (options.lr / c1);
    let weight = parameter.weight * (1.0 - options.lr * options.weight_decay) - update;
    let average = parameter.average * options.ema_decay + weight.clone() * (1.0 - options.ema_decay);
    Parameter { weight, first, second, average }
}

/// The Euclidean norm of `tensors`, `[N]` each, taken together; `[1]`. The same for any number of threads.
///
/// # Panics
/// If there are none.
pub fn norm(tensors: Vec<Tensor<1>>) -> Tensor<1> {
    let device = tensors[0].device();
    if references() || cpu_kernels(&device) {
        return Tensor::cat(tensors.into_iter().map(square_sum).collect(), 0).sum().sqrt();
    }
    let total: usize = tensors.iter().map(|x| parts(x.dims()[0])).sum();
    let (mut partials, mut at) = (Tensor::<1>::empty([total], &device).into_dispatch(), 0);
    for x in tensors {
        let count = parts(x.dims()[0]);
        partials = <Dispatch as SquaresOp>::squares(x.into_dispatch(), partials, at);
        at += count;
    }
    Tensor::from_dispatch(<Dispatch as SquaresOp>::root_of_sum(partials))
}

/// The sum of the squares of `x` `[N]`, as `[1]`.
fn square_sum(x: Tensor<1>) -> Tensor<1> {
    if references() {
        return x.square().sum();
    }
    Tensor::from_dispatch(<Dispatch as SquareSumOp>::square_sum(x.into_dispatch()))
}

/// How many partial sums [`SquaresOp::squares`] makes of `n` numbers.
fn parts(n: usize) -> usize {
    /// Enough for every invocation of a workgroup to have some.
    const LEAST: usize = 1 << 14;
    /// More wouldn't keep a GPU any busier.
    const MOST: usize = 256;
    n.div_ceil(LEAST).clamp(1, MOST)
}

/// The update.
#[backend_extension(Cube, Flex)]
pub trait AdamWOp: burn::backend::Backend {
    /// See [`adamw`](fn@adamw): (weight, first, second, average).
    fn adamw(
        weight: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        average: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// What [`norm`] is made of on the CPU backend.
#[backend_extension(Flex)]
pub trait SquareSumOp: burn::backend::Backend {
    /// The sum of the squares of `x`, as `[1]`.
    fn square_sum(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What [`norm`] is made of on wgpu devices.
#[backend_extension(Cube)]
pub trait SquaresOp: burn::backend::Backend {
    /// Writes the sums of the squares of parts of `x` into `partials`, from number `at` on, in place.
    fn squares(x: FloatTensor<Self>, partials: FloatTensor<Self>, at: usize) -> FloatTensor<Self>;

    /// The root of the sum of all `partials`, `[1]`.
    fn root_of_sum(partials: FloatTensor<Self>) -> FloatTensor<Self>;
}
