//! The backward pass of attention as a node of Burn's autodiff graph.

use super::Attention;
use crate::kernels::autodiff::{Backward, CheckpointStrategy, Checkpointer, Gradients, NodeId, Ops, node, register};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend};

#[derive(Debug)]
struct AttentionBackward;

impl<B: Attention> Backward<B, 1> for AttentionBackward {
    /// qkv by its place in the graph; the result (which what follows keeps as well) and the logarithms by value.
    type State = (NodeId, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let d_out = grads.consume::<B>(&ops.node);
        let (qkv, out, log_sums) = ops.state;
        let qkv = checkpointer.retrieve_node_output(qkv);
        let d_qkv = <B as Attention>::backward(d_out, qkv, out, log_sums);
        register::<B>(grads, ops.parents.map(|parent| parent.map(|node| node.id)), [d_qkv]);
    }
}

impl<B: Attention, C: CheckpointStrategy> Attention for Autodiff<B, C> {
    fn forward(qkv: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let inner = qkv.clone().into_primitive();
        let state = |[qkv]: [NodeId; 1], out: &FloatTensor<B>, log_sums: &FloatTensor<B>| (qkv, out.clone(), log_sums.clone());
        let forward = || <B as Attention>::forward(inner);
        let (out, log_sums) = node::<B, C, _, _, 1, 1>(AttentionBackward, [&qkv], [&qkv], forward, state);
        (out, Self::from_inner(log_sums))
    }
}
