//! The backward pass of batch normalisation as a node of Burn's autodiff graph.

use super::{BatchNorm, BatchNormGradients, BatchNormInputs, BatchNormParameters, Statistics, reference};
use crate::kernels::autodiff::{
    Backward, BackwardStates, CheckpointStrategy, Checkpointer, Gradients, NodeId, Ops, RetroForward,
};
use crate::kernels::autodiff::{node, node_made_again, register};
use crate::kernels::operand::Optional;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

/// x by its place in the graph; the result, which the next layer keeps anyway, and the small operands by value.
#[derive(Clone, Debug)]
struct State<B: Backend> {
    x: NodeId,
    y: Optional<B>,
    statistics: FloatTensor<B>,
    parameters: BatchNormParameters<B>,
}

/// With respect to x, the residual where there is one, gamma and beta.
#[derive(Debug)]
struct BatchNormBackward;

impl<B: BatchNorm, const N: usize> Backward<B, N> for BatchNormBackward {
    type State = State<B>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let State { x, y, statistics, parameters } = ops.state;
        let x = checkpointer.retrieve_node_output(x);
        let BatchNormGradients { x, residual, gamma, beta } = <B as BatchNorm>::backward(dy, x, y, statistics, parameters);
        let all = [Some(x), residual.into_option(), Some(gamma), Some(beta)].into_iter().flatten();
        register::<B>(grads, ops.parents.map(|parent| parent.map(|node| node.id)), all);
    }
}

/// The result without a residual, made again for the backward pass of the next layer instead of kept: x, which is kept anyway, and a
/// cheap kernel give it.
impl<B: BatchNorm> RetroForward for State<B> {
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
        let inputs = BatchNormInputs { x: x.clone().into_primitive(), residual: of_residual, parameters: inner.clone() };
        let (forward, gamma, beta) = (|| <B as BatchNorm>::forward(inputs), &parameters.gamma, &parameters.beta);
        let state = |x, y, statistics: &FloatTensor<B>| State { x, y, statistics: statistics.clone(), parameters: inner };
        let (y, statistics) = match &residual {
            Optional::Absent => {
                let (y, statistics) = forward();
                let again = state(x.node().id(), Optional::Absent, &statistics);
                let (kept, parents) = (again.clone(), [&x, gamma, beta]);
                let forward = || (y, statistics);
                node_made_again::<B, C, _, _, 3, 1>(BatchNormBackward, parents, [&x], again, forward, |_, _, _| kept)
            }
            Optional::Given(residual) => {
                let parents = [&x, residual, gamma, beta];
                let state = |[x]: [NodeId; 1], y: &FloatTensor<B>, s: &FloatTensor<B>| state(x, Optional::Given(y.clone()), s);
                node::<B, C, _, _, 4, 1>(BatchNormBackward, parents, [&x], forward, state)
            }
        };
        (y, Self::from_inner(statistics))
    }
}
