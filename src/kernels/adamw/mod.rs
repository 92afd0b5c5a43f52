//! One update of a parameter by AdamW (Loshchilov and Hutter 2019) and of its exponential moving
//! average (EMA), in place and in one pass over memory: by a WGSL kernel on wgpu devices, by
//! several threads on the CPU backend. Also the norm of all gradients, for gradient clipping.
//! reference.rs computes both in plain tensor operations; the tests check that all implementations
//! agree.
//!
//! ```text
//! g = clip * grad,  m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
//! w = (1 - lr * decay) w - (lr / c1) m / (sqrt(v / c2) + eps)
//! c1 = 1 - beta1^n,  c2 = 1 - beta2^n
//! average = d * average + (1 - d) w
//! ```
//!
//! If clip is below 0, the step is skipped and nothing changes.

mod cases;
mod cpu;
mod inputs;
mod loss_scale;
mod norm;
mod reference;
mod wgsl;

pub use cases::AdamWOperation;
pub use inputs::{AdamWInputs, AdamWParameter, FACTORS, Options, Several};
pub use loss_scale::{BEGINNING, LossScale, STATE, Scaled, Scaling, loss_scale};
pub use norm::{SquareSums, norm, norm_of_squares, squares};

use crate::kernels::choice::references;
use crate::kernels::work::Work;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Tensor, assert_shape};

/// A parameter, its moments and its EMA; all `[N]`, without autodiff.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The weight, w.
    pub weight: Tensor<1>,
    /// The running mean of the gradient, m.
    pub first: Tensor<1>,
    /// The running mean of its square, v.
    pub second: Tensor<1>,
    /// The exponential moving average of w.
    pub average: Tensor<1>,
}

/// The update on every backend, by default the reference. It isn't differentiable.
#[backend_extension(Cube, Flex)]
pub trait AdamW: Backend {
    /// Computes [`adamw`](fn@adamw).
    fn forward(#[extension_type] inputs: AdamWInputs<Self>) -> AdamWParameter<Self> {
        reference::forward(inputs)
    }
}

/// Updates `parameter` by `grad` `[N]` times `clip` `[1]`, with `factors` `[10]` from
/// [`Options::factors`]: a tensor, so that all parameters of a step share it. A clip below 0 leaves
/// the parameter unchanged, whatever `grad` holds. Tensors with no other owner are updated in
/// place.
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

/// Returns the work of an update of `n` values: weight, moments and EMA are read and written, the
/// gradient is read.
pub fn forward_work(n: usize) -> Work {
    Work::floats(&[9 * n])
}
