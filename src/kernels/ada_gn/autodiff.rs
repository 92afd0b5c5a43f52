//! AdaGN as a node of Burn's autodiff graph.

use super::{AdaGn, AdaGnGradients, AdaGnInputs, AdaGnParameters, Modulation};
use crate::kernels::autodiff::{
    BackwardStates, CheckpointStrategy, Checkpointer, NodeId, RetroForward, Saved, node_made_again,
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

/// What the backward pass needs: h by its node in the graph, the rest (all small) by value. The
/// parents are h, gamma and beta, and also t and z if they modulate.
#[derive(Clone, Debug)]
struct SavedAdaGn<B: Backend> {
    h: NodeId,
    saved: FloatTensor<B>,
    parameters: AdaGnParameters<B>,
}

impl<B: AdaGn> Saved<B> for SavedAdaGn<B> {
    fn gradients(
        self,
        dy: FloatTensor<B>,
        _: &[bool],
        checkpointer: &mut Checkpointer,
    ) -> Vec<Option<FloatTensor<B>>> {
        let inputs = AdaGnInputs {
            h: checkpointer.retrieve_node_output(self.h),
            parameters: self.parameters,
        };
        let AdaGnGradients { h, modulation, gamma, beta } =
            <B as AdaGn>::backward(dy, self.saved, inputs);
        let modulation = match modulation {
            Modulation::Absent => vec![],
            Modulation::By { t, z } => vec![t, z],
        };
        [h, gamma, beta].into_iter().chain(modulation).map(Some).collect()
    }
}

/// Re-computes the result from h with the cheap forward kernel.
impl<B: AdaGn> RetroForward for SavedAdaGn<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let inputs = AdaGnInputs {
            h: states.get_state::<FloatTensor<B>>(&self.h),
            parameters: self.parameters.clone(),
        };
        states.save(out_node, <B as AdaGn>::forward(inputs).0);
    }
}

impl<B: AdaGn, C: CheckpointStrategy> AdaGn for Autodiff<B, C> {
    fn forward(inputs: AdaGnInputs<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let AdaGnInputs { h, parameters } = inputs;
        let inner = parameters.clone().map(|tensor| tensor.into_primitive());
        let inputs = AdaGnInputs { h: h.clone().into_primitive(), parameters: inner.clone() };
        let (out, saved) = <B as AdaGn>::forward(inputs);
        let state = SavedAdaGn::<B> { h: h.node().id(), saved: saved.clone(), parameters: inner };
        let AdaGnParameters { modulation, gamma, beta, .. } = &parameters;
        let out = match modulation {
            Modulation::Absent => node_made_again::<B, C, _, 3>([&h, gamma, beta], out, state),
            Modulation::By { t, z } => {
                node_made_again::<B, C, _, 5>([&h, gamma, beta, t, z], out, state)
            }
        };
        (out, Self::from_inner(saved))
    }
}
