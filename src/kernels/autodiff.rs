//! Nodes of Burn's autodiff graph for operations with their own backward pass, and gradients by
//! Burn's autodiff for references, which have none.

// What the operations need to write their backward passes.
pub(crate) use burn::backend::autodiff::{
    NodeId,
    checkpoint::{
        base::Checkpointer, retro_forward::RetroForward, state::BackwardStates,
        strategy::CheckpointStrategy,
    },
};

use burn::backend::autodiff::{
    checkpoint::strategy::BalancedCheckpointing,
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};
use std::fmt::Debug;
use std::marker::PhantomData;

/// A tensor of the autodiff backend.
type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

/// The state that one call of an operation saves for its backward pass: large tensors by their
/// nodes in the graph, small ones by value.
pub(crate) trait Saved<B: Backend>: Clone + Debug + Send + 'static {
    /// Computes the gradients of the call's parents, in their order, from `dy`, the gradient of the
    /// result. Gradients that aren't `wanted` may be left out.
    fn gradients(
        self,
        dy: FloatTensor<B>,
        wanted: &[bool],
        checkpointer: &mut Checkpointer,
    ) -> Vec<Option<FloatTensor<B>>>;
}

/// The backward pass of every operation, for any number of parents.
#[derive(Debug)]
struct BySaved<S>(PhantomData<S>);

impl<B: Backend, S: Saved<B>, const N: usize> Backward<B, N> for BySaved<S> {
    type State = S;

    fn backward(self, ops: Ops<S, N>, registry: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = registry.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = ops.state.gradients(dy, &wanted, checkpointer);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                registry.register::<B>(node.id, gradient);
            }
        }
    }
}

/// Runs an operation on the autodiff backend, tracked or not. `forward` returns its result and
/// anything else it computed, which is returned with the node. `saved` builds the state of the
/// backward pass from the nodes of `kept` in the graph, the result and the rest. Gradients are
/// computed for `parents`.
pub(crate) fn node<B, C, S, X, const N: usize, const K: usize>(
    parents: [&Tracked<B, C>; N],
    kept: [&Tracked<B, C>; K],
    forward: impl FnOnce() -> (FloatTensor<B>, X),
    saved: impl FnOnce([NodeId; K], &FloatTensor<B>, &X) -> S,
) -> (Tracked<B, C>, X)
where
    B: Backend,
    C: CheckpointStrategy,
    S: Saved<B>,
{
    let prep =
        BySaved(PhantomData).prepare::<C>(parents.map(|parent| parent.node())).compute_bound();
    match prep.stateful() {
        OpsKind::Tracked(mut prep) => {
            let kept = kept.map(|input| prep.checkpoint(input));
            let (y, rest) = forward();
            (prep.finish(saved(kept, &y, &rest), y), rest)
        }
        OpsKind::UnTracked(prep) => {
            let (y, rest) = forward();
            (prep.finish(y), rest)
        }
    }
}

/// Does what [`node`] does for a result `y` that isn't kept: when the next layer's backward pass
/// needs it, `saved` recomputes it from the first parent, which is kept. Meant for cheap
/// operations, whatever checkpointing strategy the rest of the graph follows. If nothing is
/// tracked, nothing is kept.
pub(crate) fn node_made_again<B, C, S, const N: usize>(
    parents: [&Tracked<B, C>; N],
    y: FloatTensor<B>,
    saved: S,
) -> Tracked<B, C>
where
    B: Backend,
    C: CheckpointStrategy,
    S: Saved<B> + RetroForward,
{
    // Otherwise the first parent would be kept for as long as any part of the graph exists.
    let untracked = BySaved(PhantomData::<S>)
        .prepare::<C>(parents.map(|parent| parent.node()))
        .compute_bound()
        .stateful();
    if let OpsKind::UnTracked(prep) = untracked {
        return prep.finish(y);
    }
    let prep = BySaved(PhantomData)
        .prepare::<BalancedCheckpointing>(parents.map(|parent| parent.node()))
        .memory_bound();
    match prep.retro_forward(saved.clone()).parents(parents).stateful() {
        OpsKind::Tracked(mut prep) => {
            prep.checkpoint(parents[0]);
            prep.finish(saved, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

/// Returns the gradients of `inputs` by Burn's own autodiff, for a `forward` made of operations
/// that every backend has: the backward pass of the references. `dy` is the gradient of the result.
pub(crate) fn gradients<B: Backend, const N: usize>(
    inputs: [FloatTensor<B>; N],
    dy: FloatTensor<B>,
    forward: impl FnOnce([FloatTensor<Autodiff<B>>; N]) -> FloatTensor<Autodiff<B>>,
) -> [FloatTensor<B>; N] {
    let tracked =
        inputs.map(|x| Autodiff::<B>::float_set_require_grad(Autodiff::<B>::from_inner(x), true));
    let y = forward(tracked.clone());
    let root = Autodiff::<B>::float_sum(Autodiff::<B>::float_mul(y, Autodiff::<B>::from_inner(dy)));
    let gradients = Autodiff::<B>::backward(root);
    tracked.map(|x| {
        Autodiff::<B>::grad(&x, &gradients).expect("every input of a reference has a gradient")
    })
}
