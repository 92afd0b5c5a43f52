//! The backward pass of AdaGN as a node of Burn's autodiff graph.

use super::{AdaGn, AdaGnGradients, AdaGnInputs, AdaGnParameters, Modulation};
use crate::kernels::autodiff::{node_made_again, register};
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, retro_forward::RetroForward, state::BackwardStates, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

/// What the forward pass leaves for the backward one: h by its place in the graph, the rest (all small) by value.
#[derive(Clone, Debug)]
struct State<B: Backend> {
    h: NodeId,
    saved: FloatTensor<B>,
    parameters: AdaGnParameters<B>,
}

/// With respect to h, gamma and beta, and t and z where they modulate.
#[derive(Debug)]
struct AdaGnBackward;

impl<B: AdaGn, const N: usize> Backward<B, N> for AdaGnBackward {
    type State = State<B>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let d_out = grads.consume::<B>(&ops.node);
        let State { h, saved, parameters } = ops.state;
        let h = checkpointer.retrieve_node_output(h);
        let AdaGnGradients { h, modulation, gamma, beta } = <B as AdaGn>::backward(d_out, saved, AdaGnInputs { h, parameters });
        let mut all = vec![h, gamma, beta];
        if let Modulation::By { t, z } = modulation {
            all.extend([t, z]);
        }
        register::<B>(grads, ops.parents.map(|parent| parent.map(|node| node.id)), all);
    }
}

/// The result from h, which is kept anyway, by the cheap forward kernel.
#[derive(Clone, Debug)]
struct Again<B: Backend> {
    h: NodeId,
    parameters: AdaGnParameters<B>,
}

impl<B: AdaGn> RetroForward for Again<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let h = states.get_state::<FloatTensor<B>>(&self.h);
        let inputs = AdaGnInputs { h, parameters: self.parameters.clone() };
        states.save(out_node, <B as AdaGn>::forward(inputs).0);
    }
}

/// `parents`: h, gamma and beta, and t and z where they modulate.
fn tracked<B: AdaGn, C: CheckpointStrategy, const N: usize>(
    parents: [&FloatTensor<Autodiff<B, C>>; N],
    parameters: AdaGnParameters<B>,
) -> (FloatTensor<Autodiff<B, C>>, FloatTensor<B>) {
    let h = parents[0];
    let again = Again::<B> { h: h.node().id(), parameters: parameters.clone() };
    let inputs = AdaGnInputs { h: h.clone().into_primitive(), parameters: parameters.clone() };
    let state = |[h]: [NodeId; 1], _: &FloatTensor<B>, saved: &FloatTensor<B>| State { h, saved: saved.clone(), parameters };
    node_made_again::<B, C, _, _, N, 1>(AdaGnBackward, parents, [h], again, || <B as AdaGn>::forward(inputs), state)
}

impl<B: AdaGn, C: CheckpointStrategy> AdaGn for Autodiff<B, C> {
    fn forward(inputs: AdaGnInputs<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let AdaGnInputs { h, parameters } = inputs;
        let inner = parameters.clone().map(|tensor| tensor.into_primitive());
        let AdaGnParameters { modulation, gamma, beta, .. } = &parameters;
        let (out, saved) = match modulation {
            Modulation::Absent => tracked::<B, C, 3>([&h, gamma, beta], inner),
            Modulation::By { t, z } => tracked::<B, C, 5>([&h, gamma, beta, t, z], inner),
        };
        (out, Self::from_inner(saved))
    }

    /// Gradients of gradients aren't tracked.
    fn backward(d_out: FloatTensor<Self>, saved: FloatTensor<Self>, inputs: AdaGnInputs<Self>) -> AdaGnGradients<Self> {
        let AdaGnInputs { h, parameters } = inputs;
        let parameters = parameters.map(|tensor| tensor.into_primitive());
        let inputs = AdaGnInputs { h: h.into_primitive(), parameters };
        let AdaGnGradients { h, modulation, gamma, beta } =
            <B as AdaGn>::backward(d_out.into_primitive(), saved.into_primitive(), inputs);
        let [h, gamma, beta] = [h, gamma, beta].map(Self::from_inner);
        AdaGnGradients { h, modulation: modulation.map(Self::from_inner), gamma, beta }
    }
}
