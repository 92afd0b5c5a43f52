//! The backward pass of max-pooling as a node of Burn's autodiff graph.

use super::MaxPool;
use crate::kernels::autodiff::{Backward, CheckpointStrategy, Checkpointer, Gradients, NodeId, Ops, node, register};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend};

/// With respect to x, which is kept by its place in the graph.
#[derive(Debug)]
struct MaxPoolBackward;

impl<B: MaxPool> Backward<B, 1> for MaxPoolBackward {
    type State = NodeId;

    fn backward(self, ops: Ops<NodeId, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (dy, x) = (grads.consume::<B>(&ops.node), checkpointer.retrieve_node_output(ops.state));
        register::<B>(grads, ops.parents.map(|parent| parent.map(|node| node.id)), [<B as MaxPool>::backward(dy, x)]);
    }
}

impl<B: MaxPool, C: CheckpointStrategy> MaxPool for Autodiff<B, C> {
    fn forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let inner = x.clone().into_primitive();
        let forward = || (<B as MaxPool>::forward(inner), ());
        node::<B, C, _, _, 1, 1>(MaxPoolBackward, [&x], [&x], forward, |[x], _, (): &()| x).0
    }

    /// Gradients of gradients aren't tracked.
    fn backward(dy: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(<B as MaxPool>::backward(dy.into_primitive(), x.into_primitive()))
    }
}
