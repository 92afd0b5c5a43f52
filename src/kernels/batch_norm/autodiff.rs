//! The backward pass of batch normalisation as a node of Burn's autodiff graph.

use super::{BatchNormGradients, BatchNormOp, Options};
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend};

/// x by its place in the graph; statistics, gamma, beta (all small) by value.
#[derive(Clone, Debug)]
struct State<T> {
    x: NodeId,
    small: [T; 3],
    options: Options,
}

#[derive(Debug)]
struct BatchNormBackward;

impl<B: BatchNormGradients> Backward<B, 3> for BatchNormBackward {
    type State = State<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let State { x, small: [statistics, gamma, beta], options } = ops.state;
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        let gradients = B::gradients(dy, x, statistics, gamma, beta, options);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: BatchNormOp + BatchNormGradients, C: CheckpointStrategy> BatchNormOp for Autodiff<B, C> {
    fn train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        match BatchNormBackward.prepare::<C>([x.node(), gamma.node(), beta.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let node = prep.checkpoint(&x);
                let (gamma, beta) = (gamma.into_primitive(), beta.into_primitive());
                let (y, statistics) = B::train(x.into_primitive(), gamma.clone(), beta.clone(), options);
                let state = State { x: node, small: [statistics.clone(), gamma, beta], options };
                (prep.finish(state, y), Self::from_inner(statistics))
            }
            OpsKind::UnTracked(prep) => {
                let (y, statistics) = B::train(x.into_primitive(), gamma.into_primitive(), beta.into_primitive(), options);
                (prep.finish(y), Self::from_inner(statistics))
            }
        }
    }

    fn normalise(
        x: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self> {
        let [x, statistics, gamma, beta] = [x, statistics, gamma, beta].map(|t| t.into_primitive());
        Self::from_inner(B::normalise(x, statistics, gamma, beta, options))
    }
}
