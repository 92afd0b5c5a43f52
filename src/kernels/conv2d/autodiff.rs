//! The backward pass of the convolution as a node of Burn's autodiff graph.

use super::{Conv2d, Conv2dGradients, Conv2dInputs, Conv2dOptions};
use crate::kernels::autodiff::{Backward, CheckpointStrategy, Checkpointer, Gradients, NodeId, Ops, node, register};
use crate::kernels::operand::Optional;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend};

/// With respect to x, the weight, and the bias and the residual where there are those.
#[derive(Debug)]
struct Conv2dBackward;

impl<B: Conv2d, const N: usize> Backward<B, N> for Conv2dBackward {
    /// x and the weight by their places in the graph; whether there is a bias.
    type State = ([NodeId; 2], bool, Conv2dOptions);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (kept, has_bias, options) = ops.state;
        let [x, weight] = kept.map(|id| checkpointer.retrieve_node_output::<FloatTensor<B>>(id));
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        let wanted = [0, 1, 2].map(|i| parents.get(i).is_some_and(Option::is_some) && (i < 2 || has_bias));
        let inputs = Conv2dInputs { x, weight, bias: Optional::Absent, residual: Optional::Absent, options };
        let Conv2dGradients { x, weight, bias } = <B as Conv2d>::backward(dy.clone(), inputs, wanted);
        let all = [x, weight, bias, Optional::Given(dy)].into_iter().filter_map(Optional::into_option);
        register::<B>(grads, parents.into_iter().filter(Option::is_some), all);
    }
}

fn tracked<B: Conv2d, C: CheckpointStrategy, const N: usize>(
    inputs: &Conv2dInputs<Autodiff<B, C>>,
    parents: [&FloatTensor<Autodiff<B, C>>; N],
) -> FloatTensor<Autodiff<B, C>> {
    let (has_bias, options) = (inputs.bias.as_option().is_some(), inputs.options);
    let inner = inputs.clone().map(|tensor| tensor.into_primitive());
    let forward = || (<B as Conv2d>::forward(inner), ());
    let state = |kept: [NodeId; 2], _: &FloatTensor<B>, (): &()| (kept, has_bias, options);
    node::<B, C, _, _, N, 2>(Conv2dBackward, parents, [&inputs.x, &inputs.weight], forward, state).0
}

impl<B: Conv2d, C: CheckpointStrategy> Conv2d for Autodiff<B, C> {
    fn forward(inputs: Conv2dInputs<Self>) -> FloatTensor<Self> {
        let Conv2dInputs { x, weight, bias, residual, .. } = &inputs;
        match (bias.as_option(), residual.as_option()) {
            (None, None) => tracked(&inputs, [x, weight]),
            (Some(third), None) | (None, Some(third)) => tracked(&inputs, [x, weight, third]),
            (Some(bias), Some(residual)) => tracked(&inputs, [x, weight, bias, residual]),
        }
    }

    /// Gradients of gradients aren't tracked.
    fn backward(dy: FloatTensor<Self>, inputs: Conv2dInputs<Self>, wanted: [bool; 3]) -> Conv2dGradients<Self> {
        let inputs = inputs.map(|tensor| tensor.into_primitive());
        <B as Conv2d>::backward(dy.into_primitive(), inputs, wanted).map(Self::from_inner)
    }
}
