//! Attention as a node of Burn's autodiff graph.

use super::Attention;
use crate::kernels::autodiff::{CheckpointStrategy, Checkpointer, NodeId, Saved, node};
use crate::kernels::shader::Elem;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

/// What the backward pass needs: qkv by its node in the graph; the result (which the next layer
/// keeps as well) and the logarithms by value; the type that factors are rounded to.
#[derive(Clone, Debug)]
struct SavedAttention<B: Backend>(NodeId, FloatTensor<B>, FloatTensor<B>, Elem);

impl<B: Attention> Saved<B> for SavedAttention<B> {
    fn gradients(
        self,
        dy: FloatTensor<B>,
        _: &[bool],
        checkpointer: &mut Checkpointer,
    ) -> Vec<Option<FloatTensor<B>>> {
        let Self(qkv, out, log_sums, factors) = self;
        vec![Some(<B as Attention>::backward(
            dy,
            checkpointer.retrieve_node_output(qkv),
            out,
            log_sums,
            factors,
        ))]
    }
}

impl<B: Attention, C: CheckpointStrategy> Attention for Autodiff<B, C> {
    fn forward(qkv: FloatTensor<Self>, factors: Elem) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let inner = qkv.clone().into_primitive();
        let saved = |[qkv]: [NodeId; 1], out: &FloatTensor<B>, s: &FloatTensor<B>| {
            SavedAttention(qkv, out.clone(), s.clone(), factors)
        };
        let (out, log_sums) = node::<B, C, _, _, 1, 1>(
            [&qkv],
            [&qkv],
            || <B as Attention>::forward(inner, factors),
            saved,
        );
        (out, Self::from_inner(log_sums))
    }
}
