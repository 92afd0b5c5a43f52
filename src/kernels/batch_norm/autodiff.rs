//! Batch normalisation as a node of Burn's autodiff graph.

use super::{
    BatchNorm, BatchNormGradients, BatchNormInputs, BatchNormParameters, Statistics, reference,
};
use crate::kernels::autodiff::{
    BackwardStates, CheckpointStrategy, Checkpointer, NodeId, RetroForward, Saved, node,
    node_made_again,
};
use crate::kernels::operand::Optional;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

/// What the backward pass needs: x by its node in the graph; by value the small operands and the
/// result, which the next layer keeps anyway. The parents are x, the residual if there is one,
/// gamma and beta.
#[derive(Clone, Debug)]
struct SavedBatchNorm<B: Backend> {
    x: NodeId,
    y: Optional<B>,
    statistics: FloatTensor<B>,
    parameters: BatchNormParameters<B>,
}

impl<B: BatchNorm> Saved<B> for SavedBatchNorm<B> {
    fn gradients(
        self,
        dy: FloatTensor<B>,
        _: &[bool],
        checkpointer: &mut Checkpointer,
    ) -> Vec<Option<FloatTensor<B>>> {
        let x = checkpointer.retrieve_node_output(self.x);
        let BatchNormGradients { x, residual, gamma, beta } =
            <B as BatchNorm>::backward(dy, x, self.y, self.statistics, self.parameters);
        [Some(x), residual.into_option(), Some(gamma), Some(beta)]
            .into_iter()
            .filter(Option::is_some)
            .collect()
    }
}

/// Re-computes the result without a residual for the backward pass of the next layer, so that it
/// isn't kept: a cheap kernel computes it from x, which is kept anyway.
impl<B: BatchNorm> RetroForward for SavedBatchNorm<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let x = states.get_state::<FloatTensor<B>>(&self.x);
        let statistics = Statistics::Given(self.statistics.clone());
        let parameters = BatchNormParameters { statistics, ..self.parameters.clone() };
        let inputs = BatchNormInputs { x, residual: Optional::Absent, parameters };
        states.save(out_node, <B as BatchNorm>::forward(inputs).0);
    }
}

impl<B: BatchNorm, C: CheckpointStrategy> BatchNorm for Autodiff<B, C> {
    fn forward(inputs: BatchNormInputs<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if let Statistics::Given(_) = inputs.parameters.statistics {
            return reference::forward(inputs);
        }
        let BatchNormInputs { x, residual, parameters } = inputs;
        let inner = parameters.clone().map(|tensor| tensor.into_primitive());
        let of_residual = residual.clone().map(|residual| residual.into_primitive());
        let inputs = BatchNormInputs {
            x: x.clone().into_primitive(),
            residual: of_residual,
            parameters: inner.clone(),
        };
        let (forward, gamma, beta) =
            (|| <B as BatchNorm>::forward(inputs), &parameters.gamma, &parameters.beta);
        let saved = |x, y, s: &FloatTensor<B>| SavedBatchNorm {
            x,
            y,
            statistics: s.clone(),
            parameters: inner,
        };
        let (y, statistics) = match &residual {
            Optional::Absent => {
                let (y, statistics) = forward();
                let saved = saved(x.node().id(), Optional::Absent, &statistics);
                (node_made_again::<B, C, _, 3>([&x, gamma, beta], y, saved), statistics)
            }
            Optional::Given(residual) => {
                let saved = |[x]: [NodeId; 1], y: &FloatTensor<B>, s: &FloatTensor<B>| {
                    saved(x, Optional::Given(y.clone()), s)
                };
                node::<B, C, _, _, 4, 1>([&x, residual, gamma, beta], [&x], forward, saved)
            }
        };
        (y, Self::from_inner(statistics))
    }
}
