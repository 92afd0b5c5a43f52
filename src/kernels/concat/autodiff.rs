//! The backward pass of concatenation as a node of Burn's autodiff graph.

use super::{Concat, ConcatInputs};
use crate::kernels::autodiff::{Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, node, register};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};

#[derive(Debug)]
struct ConcatBackward;

impl<B: Concat> Backward<B, 2> for ConcatBackward {
    /// Channels of the first operand.
    type State = usize;

    fn backward(self, ops: Ops<usize, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (a, b) = <B as Concat>::backward(grads.consume::<B>(&ops.node), ops.state);
        register::<B>(grads, ops.parents.map(|parent| parent.map(|node| node.id)), [a, b]);
    }
}

impl<B: Concat, C: CheckpointStrategy> Concat for Autodiff<B, C> {
    fn forward(ConcatInputs { a, b }: ConcatInputs<Self>) -> FloatTensor<Self> {
        let channels = a.shape()[1];
        let [inner_a, inner_b] = [&a, &b].map(|x| x.clone().into_primitive());
        let forward = || (<B as Concat>::forward(ConcatInputs { a: inner_a, b: inner_b }), ());
        node::<B, C, _, _, 2, 0>(ConcatBackward, [&a, &b], [], forward, |[], _, ()| channels).0
    }
}
