//! The backward pass of the convolution as a node of Burn's autodiff graph.

use super::{Conv2dGradients, Conv2dOp, Conv2dOptions};
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};
use burn::tensor::Shape;

#[derive(Debug)]
struct Conv2dBackward;

/// x and the weight by their places in the graph; the shapes of both.
type State = (NodeId, NodeId, [Shape; 2], Conv2dOptions);

impl<B: Conv2dGradients> Backward<B, 3> for Conv2dBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, weight, [x_shape, weight_shape], options) = ops.state;
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        let weight: FloatTensor<B> = checkpointer.retrieve_node_output(weight);
        let [x_node, weight_node, bias_node] = ops.parents;
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::grad_input(dy.clone(), weight, x_shape, options));
        }
        if let Some(node) = weight_node {
            grads.register::<B>(node.id, B::grad_weight(x, dy.clone(), weight_shape, options));
        }
        if let Some(node) = bias_node {
            grads.register::<B>(node.id, B::grad_bias(dy));
        }
    }
}

impl<B: Conv2dOp + Conv2dGradients, C: CheckpointStrategy> Conv2dOp for Autodiff<B, C> {
    fn direct_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let shapes = [x.shape(), weight.shape()];
        match Conv2dBackward.prepare::<C>([x.node(), weight.node(), bias.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let nodes = [prep.checkpoint(&x), prep.checkpoint(&weight)];
                let y = B::direct_conv2d(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), options);
                prep.finish((nodes[0], nodes[1], shapes, options), y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::direct_conv2d(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), options))
            }
        }
    }
}
