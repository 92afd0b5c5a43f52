//! Vector-Jacobian products: the backward pass of a graph, given the gradient of its output, on any
//! device.

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients as Registry,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Gradients, Tensor};
use burn_flex::Flex;

/// Returns the gradients of everything that `y` was computed from, given `dy`, the gradient of `y`.
/// Nothing but the backward pass itself runs, and `dy` keeps its memory layout:
/// `(y * dy).sum().backward()` would multiply, sum and expand first.
///
/// # Panics
/// If `dy` has another shape than `y`, or `y` isn't tracked.
pub fn vjp<const D: usize>(y: Tensor<D>, dy: Tensor<D>) -> Gradients {
    assert_eq!(y.dims(), dy.dims(), "vjp: the shapes of y and its gradient");
    let root: Tensor<D> =
        Tensor::from_dispatch(<Dispatch as Vjp>::seed(y.into_dispatch(), dy.into_dispatch()));
    root.backward()
}

/// The operation behind [`vjp`].
#[backend_extension(Autodiff, Cube, Flex)]
pub trait Vjp: burn::backend::Backend {
    /// Returns `y` with a backward pass that passes on `dy`, whatever gradient it receives.
    fn seed(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Vjp for CubeBackend {
    fn seed(y: FloatTensor<Self>, _dy: FloatTensor<Self>) -> FloatTensor<Self> {
        y
    }
}

impl Vjp for Flex {
    fn seed(y: FloatTensor<Self>, _dy: FloatTensor<Self>) -> FloatTensor<Self> {
        y
    }
}

#[derive(Debug)]
struct Seed;

impl<B: burn::backend::Backend> Backward<B, 1> for Seed {
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Registry,
        _checkpointer: &mut Checkpointer,
    ) {
        grads.consume::<B>(&ops.node);
        let [y] = ops.parents;
        if let Some(node) = y {
            grads.register::<B>(node.id, ops.state);
        }
    }
}

impl<B: Vjp, C: CheckpointStrategy> Vjp for Autodiff<B, C> {
    fn seed(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        match Seed.prepare::<C>([y.node()]).compute_bound().stateful() {
            // Burn creates the root's own gradient, ones of its shape, which is then dropped: a
            // root with a single value is enough.
            OpsKind::Tracked(prep) => {
                let y = y.into_primitive();
                let one = B::float_empty([1].into(), &y.device(), burn::tensor::FloatDType::F32);
                prep.finish(dy.into_primitive(), one)
            }
            OpsKind::UnTracked(prep) => prep.finish(y.into_primitive()),
        }
    }
}
