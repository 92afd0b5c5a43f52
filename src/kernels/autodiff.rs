//! Nodes of Burn's autodiff graph for operations that bring their own backward pass, and the gradients of those that don't.

// What operations write their backward passes with.
pub(crate) use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, retro_forward::RetroForward, state::BackwardStates, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops},
};

use burn::backend::autodiff::{checkpoint::strategy::BalancedCheckpointing, ops::OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

/// A tensor on autodiff.
type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

/// Runs an operation on autodiff, tracked or not. `forward` gives its result, and what else it computed, which is returned with the node;
/// `state` makes what the backward pass needs of the places of `kept` in the graph, the result and the rest. `operation` differentiates
/// with respect to `parents`, in their order.
pub(crate) fn node<B, C, Op, X, const N: usize, const K: usize>(
    operation: Op,
    parents: [&Tracked<B, C>; N],
    kept: [&Tracked<B, C>; K],
    forward: impl FnOnce() -> (FloatTensor<B>, X),
    state: impl FnOnce([NodeId; K], &FloatTensor<B>, &X) -> Op::State,
) -> (Tracked<B, C>, X)
where
    B: Backend,
    C: CheckpointStrategy,
    Op: Backward<B, N>,
{
    let prep = operation.prepare::<C>(parents.map(|parent| parent.node())).compute_bound();
    finish(prep.stateful(), kept, forward, state)
}

/// As [`node`], but the result isn't kept: where the next layer's backward pass wants it, `again` makes it once more. For cheap operations on
/// inputs that are kept anyway, whatever strategy the rest of the graph follows.
pub(crate) fn node_made_again<B, C, Op, X, const N: usize, const K: usize>(
    operation: Op,
    parents: [&Tracked<B, C>; N],
    kept: [&Tracked<B, C>; K],
    again: impl RetroForward,
    forward: impl FnOnce() -> (FloatTensor<B>, X),
    state: impl FnOnce([NodeId; K], &FloatTensor<B>, &X) -> Op::State,
) -> (Tracked<B, C>, X)
where
    B: Backend,
    C: CheckpointStrategy,
    Op: Backward<B, N>,
{
    let prep = operation.prepare::<BalancedCheckpointing>(parents.map(|parent| parent.node())).memory_bound();
    finish(prep.retro_forward(again).parents(parents).stateful(), kept, forward, state)
}

fn finish<B, C, Op, S, X, const N: usize, const K: usize>(
    kind: OpsKind<Op, B, S, C, N>,
    kept: [&Tracked<B, C>; K],
    forward: impl FnOnce() -> (FloatTensor<B>, X),
    state: impl FnOnce([NodeId; K], &FloatTensor<B>, &X) -> S,
) -> (Tracked<B, C>, X)
where
    B: Backend,
    C: CheckpointStrategy,
    Op: Backward<B, N, State = S>,
    S: Clone + Send + std::fmt::Debug + 'static,
{
    match kind {
        OpsKind::Tracked(mut prep) => {
            let kept = kept.map(|input| prep.checkpoint(input));
            let (y, rest) = forward();
            (prep.finish(state(kept, &y, &rest), y), rest)
        }
        OpsKind::UnTracked(prep) => {
            let (y, rest) = forward();
            (prep.finish(y), rest)
        }
    }
}

/// Hands `gradients` to those of `parents`, in the same order, that want one.
pub(crate) fn register<B: Backend>(
    registry: &mut Gradients,
    parents: impl IntoIterator<Item = Option<NodeId>>,
    gradients: impl IntoIterator<Item = FloatTensor<B>>,
) {
    for (parent, gradient) in parents.into_iter().zip(gradients) {
        if let Some(id) = parent {
            registry.register::<B>(id, gradient);
        }
    }
}

/// The gradients of `inputs` by Burn's own autodiff, where `forward` is in operations that every backend has: the backward pass of
/// references. `dy` is the gradient of the result.
pub(crate) fn gradients<B: Backend, const N: usize>(
    inputs: [FloatTensor<B>; N],
    dy: FloatTensor<B>,
    forward: impl FnOnce([FloatTensor<Autodiff<B>>; N]) -> FloatTensor<Autodiff<B>>,
) -> [FloatTensor<B>; N] {
    let tracked = inputs.map(|x| Autodiff::<B>::float_set_require_grad(Autodiff::<B>::from_inner(x), true));
    let y = forward(tracked.clone());
    let root = Autodiff::<B>::float_sum(Autodiff::<B>::float_mul(y, Autodiff::<B>::from_inner(dy)));
    let gradients = Autodiff::<B>::backward(root);
    tracked.map(|x| Autodiff::<B>::grad(&x, &gradients).expect("every input of a reference has a gradient"))
}
