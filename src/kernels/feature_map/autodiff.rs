//! The backward pass of concatenation as a node of Burn's autodiff graph.

use super::{FeatureMapGradients, FeatureMapOp};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};

#[derive(Debug)]
struct ConcatBackward;

impl<B: FeatureMapGradients> Backward<B, 2> for ConcatBackward {
    /// Channels of the first operand.
    type State = usize;

    fn backward(self, ops: Ops<usize, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let parts = B::split(grads.consume::<B>(&ops.node), ops.state);
        for (parent, part) in ops.parents.into_iter().zip(parts) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, part);
            }
        }
    }
}

impl<B: FeatureMapOp + FeatureMapGradients, C: CheckpointStrategy> FeatureMapOp for Autodiff<B, C> {
    fn concat(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let channels = a.shape()[1];
        match ConcatBackward.prepare::<C>([a.node(), b.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(channels, B::concat(a.into_primitive(), b.into_primitive())),
            OpsKind::UnTracked(prep) => prep.finish(B::concat(a.into_primitive(), b.into_primitive())),
        }
    }
}
