//! One update of a parameter by AdamW (Loshchilov and Hutter 2019), and of its exponential moving
//! average, in one pass over memory, in place: by a WGSL kernel on wgpu devices, by several threads
//! on the CPU backend. And the norm of all gradients, by which they are clipped. reference.rs is
//! the same in plain tensor operations, and the tests hold all of them equal.
//!
//! g = clip * grad,  m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2 w = (1 - lr *
//! decay) w - (lr / c1) m / (sqrt(v / c2) + eps),  c1 = 1 - beta1^n,  c2 = 1 - beta2^n average = d
//! * average + (1 - d) w
//!
//! A clip below 0 says that this step is left out, and nothing changes.

mod cases;
mod cpu;
mod loss_scale;
mod norm;
mod reference;
mod wgsl;

pub use cases::AdamWOperation;
pub use loss_scale::{BEGINNING, LossScale, STATE, Scaled, Scaling, loss_scale};
pub use norm::{Several, SquareSums, norm, norm_of_squares, squares};

use crate::kernels::choice::references;
use crate::kernels::launch::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
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

/// Number of factors of an update.
pub const FACTORS: usize = 10;

impl Options {
    /// The factors of the update in f32, rounded once: beta1, 1 - beta1, beta2, 1 - beta2, lr / c1,
    /// 1 / c2, eps, 1 - lr * decay, d, 1 - d.
    pub fn factors(&self) -> [f32; FACTORS] {
        let [c1, c2] = self.betas.map(|beta| 1.0 - beta.powi(self.update));
        let [beta1, beta2] = self.betas;
        let (rate, shrink) = (self.lr / c1, 1.0 - self.lr * self.weight_decay);
        let (correction, rest) = (1.0 / c2, 1.0 - self.ema_decay);
        [
            beta1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            rate,
            correction,
            EPSILON,
            shrink,
            self.ema_decay,
            rest,
        ]
        .map(|f| f as f32)
    }
}

/// [`Parameter`], on any backend.
#[derive(Clone, Debug, ExtensionType)]
pub struct AdamWParameter<B: Backend> {
    /// w.
    pub weight: FloatTensor<B>,
    /// m.
    pub first: FloatTensor<B>,
    /// v.
    pub second: FloatTensor<B>,
    /// The average of w.
    pub average: FloatTensor<B>,
}

/// What one update takes.
#[derive(Clone, Debug, ExtensionType)]
pub struct AdamWInputs<B: Backend> {
    /// What is updated.
    #[extension_type]
    pub parameter: AdamWParameter<B>,
    /// `[N]`.
    pub grad: FloatTensor<B>,
    /// `[1]`.
    pub clip: FloatTensor<B>,
    /// [`Options::factors`].
    pub factors: FloatTensor<B>,
}

/// The update on every backend: by default the reference. It isn't differentiable.
#[backend_extension(Cube, Flex)]
pub trait AdamW: Backend {
    /// Computes [`adamw`](fn@adamw).
    fn forward(#[extension_type] inputs: AdamWInputs<Self>) -> AdamWParameter<Self> {
        reference::forward(inputs)
    }
}

/// Updates `parameter` by `grad` `[N]` times `clip` `[1]`, with `factors` `[10]` from
/// [`Options::factors`]: a tensor, so that all parameters of a step share it. A clip below 0 leaves
/// it as it is, whatever `grad` holds. Tensors that nobody else holds are updated in place.
///
/// # Panics
/// If the lengths differ.
pub fn adamw(
    parameter: Parameter,
    grad: Tensor<1>,
    clip: Tensor<1>,
    factors: Tensor<1>,
) -> Parameter {
    let Parameter { weight, first, second, average } = parameter;
    let [n] = weight.dims();
    assert_shape!(grad, [n]);
    assert_shape!(first, [n]);
    assert_shape!(second, [n]);
    assert_shape!(average, [n]);
    assert_shape!(clip, [1]);
    assert_shape!(factors, [FACTORS]);
    let [weight, first, second, average, grad, clip, factors] =
        [weight, first, second, average, grad, clip, factors].map(Tensor::into_dispatch);
    let inputs = AdamWInputs {
        parameter: AdamWParameter { weight, first, second, average },
        grad,
        clip,
        factors,
    };
    let new = if references() {
        reference::forward(inputs)
    } else {
        <Dispatch as AdamW>::forward(inputs)
    };
    let AdamWParameter { weight, first, second, average } = new;
    let [weight, first, second, average] =
        [weight, first, second, average].map(Tensor::from_dispatch);
    Parameter { weight, first, second, average }
}

/// Returns the work of an update of `n` numbers: weight, moments and average read and written, the
/// gradient read.
pub fn forward_work(n: usize) -> Work {
    Work::floats(&[9 * n])
}
