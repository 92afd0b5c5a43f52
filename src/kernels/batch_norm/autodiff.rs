//! The backward pass of batch normalisation as a node of Burn's autodiff graph.

use super::{BatchNorm, BatchNormGradients, BatchNormInputs, BatchNormParameters, Statistics, reference};
use crate::kernels::autodiff::{node, node_made_again, register};
use crate::kernels::operand::Optional;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, retro_forward::RetroForward, state::BackwardStates, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops},
};
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

/// The result, made again for the backward pass of the next layer instead of kept: x, which is kept anyway, and a cheap kernel
/// give it. (Whatever strategy the rest of the graph follows.)
#[derive(Clone, Debug)]
struct Again<B: Backend> {
    x: NodeId,
    parameters: BatchNormParameters<B>,
}

impl<B: BatchNorm> RetroForward for Again<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let x = states.get_state::<FloatTensor<B>>(&self.x);
        let inputs = BatchNormInputs { x, residual: Optional::Absent, parameters: self.parameters.clone() };
        states.save(out_node, <B as BatchNorm>::forward(inputs).0);
    }
}

impl<B: BatchNorm, C: CheckpointStrategy> BatchNorm for Autodiff<B, C> {
    fn forward(inputs: BatchNormInputs<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if let Statistics::Given(_) = inputs.parameters.statistics {
            return reference::forward(inputs);
        }
        let BatchNormInputs { x, residual, parameters: BatchNormParameters { gamma, beta, options, .. } } = inputs;
        let [values, inner_gamma, inner_beta] = [&x, &gamma, &beta].map(|tensor| tensor.clone().into_primitive());
        let parameters = BatchNormParameters { statistics: Statistics::OfBatch, gamma: inner_gamma, beta: inner_beta, options };
        let inputs = BatchNormInputs {
            x: values,
            residual: residual.clone().map(|residual| residual.into_primitive()),
            parameters: parameters.clone(),
        };
        let state = |y: Optional<B>, x: NodeId, statistics: &FloatTensor<B>| State {
            x,
            y,
            statistics: statistics.clone(),
            parameters: parameters.clone(),
        };
        let (y, statistics) = match &residual {
            Optional::Absent => {
                let (y, statistics) = <B as BatchNorm>::forward(inputs);
                let given = BatchNormParameters { statistics: Statistics::Given(statistics.clone()), ..parameters.clone() };
                let again = Again::<B> { x: x.node().id(), parameters: given };
                let state = |[x]: [NodeId; 1], _: &FloatTensor<B>, s: &FloatTensor<B>| state(Optional::Absent, x, s);
                let parents = [&x, &gamma, &beta];
                node_made_again::<B, C, _, _, 3, 1>(BatchNormBackward, parents, [&x], again, || (y, statistics), state)
            }
            Optional::Given(residual) => {
                let state = |[x]: [NodeId; 1], y: &FloatTensor<B>, s: &FloatTensor<B>| state(Optional::Given(y.clone()), x, s);
                let parents = [&x, residual, &gamma, &beta];
                node::<B, C, _, _, 4, 1>(BatchNormBackward, parents, [&x], || <B as BatchNorm>::forward(inputs), state)
            }
        };
        (y, Self::from_inner(statistics))
    }
}
