//! The backward pass of AdaGN as a node of Burn's autodiff graph.

use super::{AdaGn, AdaGnGrads, AdaGnKernels, AdaGnOptions, Modulation};
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;

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

impl<B: AdaGn + AdaGnKernels, C: CheckpointStrategy> AdaGn for Autodiff<B, C> {
    fn ada_gn(
        h: FloatTensor<Self>,
        t_mod: FloatTensor<Self>,
        z_mod: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> FloatTensor<Self> {
        let nodes = [h.node(), t_mod.node(), z_mod.node(), gamma.node(), beta.node()];
        match AdaGnBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let node = prep.checkpoint(&h);
                let modulation = Some(Modulation { t: t_mod.into_primitive(), z: z_mod.into_primitive() });
                let (gamma, beta) = (gamma.into_primitive(), beta.into_primitive());
                let (out, saved) = B::forward(h.into_primitive(), modulation.clone(), gamma.clone(), beta.clone(), options);
                prep.finish(Saved { h: node, saved, modulation, gamma, beta, options }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::ada_gn(
                h.into_primitive(),
                t_mod.into_primitive(),
                z_mod.into_primitive(),
                gamma.into_primitive(),
                beta.into_primitive(),
                options,
            )),
        }
    }

    fn group_norm(
        h: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> FloatTensor<Self> {
        match GroupNormBackward.prepare::<C>([h.node(), gamma.node(), beta.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let node = prep.checkpoint(&h);
                let (gamma, beta) = (gamma.into_primitive(), beta.into_primitive());
                let (out, saved) = B::forward(h.into_primitive(), None, gamma.clone(), beta.clone(), options);
                prep.finish(Saved { h: node, saved, modulation: None, gamma, beta, options }, out)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::group_norm(h.into_primitive(), gamma.into_primitive(), beta.into_primitive(), options))
            }
        }
    }
}
