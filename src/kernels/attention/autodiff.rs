//! The backward pass of attention as a node of Burn's autodiff graph.

use super::{AttentionKernels, AttentionOp};
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;

#[derive(Debug)]
struct AttentionBackward;

impl<B: AttentionKernels> Backward<B, 1> for AttentionBackward {
    /// qkv by its place in the graph; the result (which what follows keeps as well) and the logarithms by value.
    type State = (NodeId, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let d_out = grads.consume::<B>(&ops.node);
        let (qkv, out, log_sums) = ops.state;
        let qkv: FloatTensor<B> = checkpointer.retrieve_node_output(qkv);
        let [parent] = ops.parents;
        if let Some(node) = parent {
            grads.register::<B>(node.id, B::backward(d_out, qkv, out, log_sums));
        }
    }
}

impl<B: AttentionOp + AttentionKernels, C: CheckpointStrategy> AttentionOp for Autodiff<B, C> {
    fn self_attention(qkv: FloatTensor<Self>) -> FloatTensor<Self> {
        match AttentionBackward.prepare::<C>([qkv.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let node = prep.checkpoint(&qkv);
                let (out, log_sums) = B::forward(qkv.into_primitive());
                prep.finish((node, out.clone(), log_sums), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::self_attention(qkv.into_primitive())),
        }
    }
}
