//! The backward pass of batch normalisation as a node of Burn's autodiff graph.

use super::{BatchNormGradients, BatchNormOp, Options};
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{
        base::Checkpointer,
        retro_forward::RetroForward,
        state::BackwardStates,
        strategy::{BalancedCheckpointing, CheckpointStrategy},
    },
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

/// x by its place in the graph; the result, which the next layer keeps anyway, and the small operands by value.
#[derive(Clone, Debug)]
struct State<T> {
    x: NodeId,
    y: Option<T>,
    small: [T; 3],
    options: Options,
}

#[derive(Debug)]
struct BatchNormBackward;

impl<B: BatchNormGradients> Backward<B, 3> for BatchNormBackward {
    type State = State<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [x, gamma, beta] = ops.parents.map(|parent| parent.map(|node| node.id));
        let out = run::<B>(grads.consume::<B>(&ops.node), ops.state, checkpointer);
        register::<B>(grads, [(x, out.x), (gamma, out.gamma), (beta, out.beta)]);
    }
}

#[derive(Debug)]
struct BatchNormAddBackward;

impl<B: BatchNormGradients> Backward<B, 4> for BatchNormAddBackward {
    type State = State<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [x, residual, gamma, beta] = ops.parents.map(|parent| parent.map(|node| node.id));
        let out = run::<B>(grads.consume::<B>(&ops.node), ops.state, checkpointer);
        register::<B>(grads, [(x, out.x), (residual, out.residual), (gamma, out.gamma), (beta, out.beta)]);
    }
}

fn run<B: BatchNormGradients>(
    dy: FloatTensor<B>,
    state: State<FloatTensor<B>>,
    checkpointer: &mut Checkpointer,
) -> super::Gradients<FloatTensor<B>> {
    let x: FloatTensor<B> = checkpointer.retrieve_node_output(state.x);
    B::gradients(dy, x, state.y, state.small, state.options)
}

fn register<B: BatchNormGradients>(grads: &mut Gradients, all: impl IntoIterator<Item = (Option<NodeId>, FloatTensor<B>)>) {
    for (node, gradient) in all {
        if let Some(id) = node {
            grads.register::<B>(id, gradient);
        }
    }
}

/// The result, made again for the backward pass of the next layer instead of kept: x, which is kept anyway, and a cheap kernel
/// give it. (Whatever strategy the rest of the graph follows.)
#[derive(Clone, Debug)]
struct Again<B: Backend> {
    x: NodeId,
    small: [FloatTensor<B>; 3],
    options: Options,
}

impl<B: BatchNormOp> RetroForward for Again<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let x = states.get_state::<FloatTensor<B>>(&self.x);
        let [statistics, gamma, beta] = self.small.clone();
        states.save(out_node, B::normalise(x, statistics, gamma, beta, self.options));
    }
}

impl<B: BatchNormOp + BatchNormGradients, C: CheckpointStrategy> BatchNormOp for Autodiff<B, C> {
    fn train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let parents = [&x, &gamma, &beta];
        let nodes = parents.map(|parent| parent.node());
        let x_id = nodes[0].id();
        let [values, gamma, beta] = parents.map(|parent| parent.clone().into_primitive());
        let (y, statistics) = B::train(values, gamma.clone(), beta.clone(), options);
        let small = [statistics.clone(), gamma, beta];
        let again = Again::<B> { x: x_id, small: small.clone(), options };
        let prep = BatchNormBackward.prepare::<BalancedCheckpointing>(nodes).memory_bound().retro_forward(again).parents(parents);
        let y = match prep.stateful() {
            OpsKind::Tracked(mut prep) => {
                let x = prep.checkpoint(&x);
                prep.finish(State { x, y: None, small, options }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        };
        (y, Self::from_inner(statistics))
    }

    fn train_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), residual.node(), gamma.node(), beta.node()];
        let residual = residual.into_primitive();
        match BatchNormAddBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let node = prep.checkpoint(&x);
                let (gamma, beta) = (gamma.into_primitive(), beta.into_primitive());
                let (y, statistics) = B::train_add(x.into_primitive(), residual, gamma.clone(), beta.clone(), options);
                let state = State { x: node, y: Some(y.clone()), small: [statistics.clone(), gamma, beta], options };
                (prep.finish(state, y), Self::from_inner(statistics))
            }
            OpsKind::UnTracked(prep) => {
                let (x, gamma, beta) = (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
                let (y, statistics) = B::train_add(x, residual, gamma, beta, options);
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

    fn normalise_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self> {
        let [x, residual, statistics, gamma, beta] = [x, residual, statistics, gamma, beta].map(|t| t.into_primitive());
        Self::from_inner(B::normalise_add(x, residual, statistics, gamma, beta, options))
    }
}
