//! Max-pooling as a node of Burn's autodiff graph.

use super::MaxPool;
use crate::kernels::autodiff::{CheckpointStrategy, Checkpointer, NodeId, Saved, node};
use burn::backend::Autodiff;
use burn::backend::tensor::FloatTensor;

/// The node of x in the graph.
#[derive(Clone, Debug)]
struct SavedMaxPool(NodeId);

impl<B: MaxPool> Saved<B> for SavedMaxPool {
    fn gradients(
        self,
        dy: FloatTensor<B>,
        _: &[bool],
        checkpointer: &mut Checkpointer,
    ) -> Vec<Option<FloatTensor<B>>> {
        vec![Some(<B as MaxPool>::backward(dy, checkpointer.retrieve_node_output(self.0)))]
    }
}

impl<B: MaxPool, C: CheckpointStrategy> MaxPool for Autodiff<B, C> {
    fn forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let inner = x.clone().into_primitive();
        let forward = || (<B as MaxPool>::forward(inner), ());
        node::<B, C, _, _, 1, 1>([&x], [&x], forward, |[x], _, (): &()| SavedMaxPool(x)).0
    }
}
