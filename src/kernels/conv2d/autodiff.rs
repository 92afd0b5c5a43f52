//! The convolution as a node of Burn's autodiff graph.

use super::{Conv2d, Conv2dGradients, Conv2dInputs, Conv2dOptions};
use crate::kernels::autodiff::{CheckpointStrategy, Checkpointer, NodeId, Saved, node};
use crate::kernels::operand::Optional;
use burn::backend::Autodiff;
use burn::backend::tensor::FloatTensor;

/// What the backward pass needs: x and the weight by their nodes in the graph. The parents are both
/// of these, and the bias and the residual if there are any.
#[derive(Clone, Debug)]
struct SavedConv2d {
    kept: [NodeId; 2],
    has_bias: bool,
    options: Conv2dOptions,
}

impl<B: Conv2d> Saved<B> for SavedConv2d {
    fn gradients(
        self,
        dy: FloatTensor<B>,
        wanted: &[bool],
        checkpointer: &mut Checkpointer,
    ) -> Vec<Option<FloatTensor<B>>> {
        let Self { kept, has_bias, options } = self;
        let [x, weight] = kept.map(|id| checkpointer.retrieve_node_output::<FloatTensor<B>>(id));
        let inputs =
            Conv2dInputs { x, weight, bias: Optional::Absent, residual: Optional::Absent, options };
        let Conv2dGradients { x, weight, bias } = <B as Conv2d>::backward(
            dy.clone(),
            inputs,
            [wanted[0], wanted[1], has_bias && wanted[2]],
        );
        let mut all = vec![x.into_option(), weight.into_option()];
        all.extend(has_bias.then(|| bias.into_option()));
        all.push(Some(dy));
        all
    }
}

fn tracked<B: Conv2d, C: CheckpointStrategy, const N: usize>(
    inputs: &Conv2dInputs<Autodiff<B, C>>,
    parents: [&FloatTensor<Autodiff<B, C>>; N],
) -> FloatTensor<Autodiff<B, C>> {
    let (has_bias, options) = (inputs.bias.as_option().is_some(), inputs.options);
    let inner = inputs.clone().map(|tensor| tensor.into_primitive());
    let saved =
        |kept: [NodeId; 2], _: &FloatTensor<B>, (): &()| SavedConv2d { kept, has_bias, options };
    node::<B, C, _, _, N, 2>(
        parents,
        [&inputs.x, &inputs.weight],
        || (<B as Conv2d>::forward(inner), ()),
        saved,
    )
    .0
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
}
