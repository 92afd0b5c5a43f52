//! The backward pass of AdaGN as a node of Burn's autodiff graph.

use super::{AdaGn, AdaGnGrads, AdaGnKernels, AdaGnOptions, Modulation};
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
use burn::backend::{Autodiff, Backend};

/// What the forward pass leaves for the backward one: h by its place in the graph, the rest (all small) by value.
#[derive(Clone, Debug)]
struct Saved<T> {
    h: NodeId,
    saved: T,
    modulation: Option<Modulation<T>>,
    gamma: T,
    beta: T,
    options: AdaGnOptions,
}

#[derive(Debug)]
struct AdaGnBackward;

impl<B: AdaGnKernels> Backward<B, 5> for AdaGnBackward {
    type State = Saved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [h, t, z, gamma, beta] = ops.parents.map(|parent| parent.map(|node| node.id));
        let out = run::<B>(grads.consume::<B>(&ops.node), ops.state, checkpointer);
        let Modulation { t: dt, z: dz } = out.modulation.expect("a modulated call has these gradients");
        for (node, grad) in [(h, out.h), (t, dt), (z, dz), (gamma, out.gamma), (beta, out.beta)] {
            if let Some(id) = node {
                grads.register::<B>(id, grad);
            }
        }
    }
}

#[derive(Debug)]
struct GroupNormBackward;

impl<B: AdaGnKernels> Backward<B, 3> for GroupNormBackward {
    type State = Saved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [h, gamma, beta] = ops.parents.map(|parent| parent.map(|node| node.id));
        let out = run::<B>(grads.consume::<B>(&ops.node), ops.state, checkpointer);
        for (node, grad) in [(h, out.h), (gamma, out.gamma), (beta, out.beta)] {
            if let Some(id) = node {
                grads.register::<B>(id, grad);
            }
        }
    }
}

fn run<B: AdaGnKernels>(
    d_out: FloatTensor<B>,
    state: Saved<FloatTensor<B>>,
    checkpointer: &mut Checkpointer,
) -> AdaGnGrads<FloatTensor<B>> {
    let h: FloatTensor<B> = checkpointer.retrieve_node_output(state.h);
    B::backward(d_out, h, state.saved, state.modulation, state.gamma, state.beta, state.options)
}

/// The result, made again for the backward pass of the next layer instead of kept: h, which is kept anyway, and a cheap
/// kernel give it. (Whatever strategy the rest of the graph follows.)
#[derive(Clone, Debug)]
struct Again<B: Backend> {
    h: NodeId,
    modulation: Option<Modulation<FloatTensor<B>>>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    options: AdaGnOptions,
}

impl<B: AdaGnKernels> RetroForward for Again<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let h = states.get_state::<FloatTensor<B>>(&self.h);
        let Self { modulation, gamma, beta, options, .. } = self.clone();
        states.save(out_node, B::forward(h, modulation, gamma, beta, options).0);
    }
}

impl<B: AdaGn + AdaGnKernels, C: CheckpointStrategy> AdaGn for Autodiff<B, C> {
    fn ada_gn(
        h: FloatTensor<Self>,
        t_mod: FloatTensor<Self>,
        z_mod: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> FloatTensor<Self> {
        let parents = [&h, &t_mod, &z_mod, &gamma, &beta];
        let nodes = parents.map(|parent| parent.node());
        let [_, t, z, gamma, beta] = parents.map(|parent| parent.clone().into_primitive());
        let modulation = Some(Modulation { t, z });
        let again =
            Again::<B> { h: nodes[0].id(), modulation: modulation.clone(), gamma: gamma.clone(), beta: beta.clone(), options };
        let prep = AdaGnBackward.prepare::<BalancedCheckpointing>(nodes).memory_bound().retro_forward(again).parents(parents);
        match prep.stateful() {
            OpsKind::Tracked(mut prep) => {
                let node = prep.checkpoint(&h);
                let (out, saved) = B::forward(h.into_primitive(), modulation.clone(), gamma.clone(), beta.clone(), options);
                prep.finish(Saved { h: node, saved, modulation, gamma, beta, options }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::forward(h.into_primitive(), modulation, gamma, beta, options).0),
        }
    }

    fn group_norm(
        h: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> FloatTensor<Self> {
        let parents = [&h, &gamma, &beta];
        let nodes = parents.map(|parent| parent.node());
        let [_, gamma, beta] = parents.map(|parent| parent.clone().into_primitive());
        let again = Again::<B> { h: nodes[0].id(), modulation: None, gamma: gamma.clone(), beta: beta.clone(), options };
        let prep = GroupNormBackward.prepare::<BalancedCheckpointing>(nodes).memory_bound().retro_forward(again).parents(parents);
        match prep.stateful() {
            OpsKind::Tracked(mut prep) => {
                let node = prep.checkpoint(&h);
                let (out, saved) = B::forward(h.into_primitive(), None, gamma.clone(), beta.clone(), options);
                prep.finish(Saved { h: node, saved, modulation: None, gamma, beta, options }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::forward(h.into_primitive(), None, gamma, beta, options).0),
        }
    }
}
