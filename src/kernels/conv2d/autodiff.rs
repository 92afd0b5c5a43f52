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

/// x and the weight by their places in the graph; the shapes of both.
type State = (NodeId, NodeId, [Shape; 2], Conv2dOptions);

/// Registers the gradients of x, the weight and the bias, those of them that are wanted.
fn run<B: Conv2dGradients>(
    dy: FloatTensor<B>,
    (x, weight, [x_shape, weight_shape], options): State,
    parents: [Option<NodeId>; 3],
    grads: &mut Gradients,
    checkpointer: &mut Checkpointer,
) {
    let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
    let weight: FloatTensor<B> = checkpointer.retrieve_node_output(weight);
    let [x_node, weight_node, bias_node] = parents;
    if let Some(id) = weight_node {
        grads.register::<B>(id, B::grad_weight(x, dy.clone(), weight_shape, options));
    }
    if let Some(id) = x_node {
        grads.register::<B>(id, B::grad_input(dy.clone(), weight, x_shape, options));
    }
    if let Some(id) = bias_node {
        grads.register::<B>(id, B::grad_bias(dy));
    }
}

#[derive(Debug)]
struct Conv2dBackward;

impl<B: Conv2dGradients> Backward<B, 3> for Conv2dBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        run::<B>(dy, ops.state, ops.parents.map(|p| p.map(|node| node.id)), grads, checkpointer);
    }
}

#[derive(Debug)]
struct Conv2dAddBackward;

impl<B: Conv2dGradients> Backward<B, 4> for Conv2dAddBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 4>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [x, weight, bias, residual] = ops.parents.map(|p| p.map(|node| node.id));
        run::<B>(dy.clone(), ops.state, [x, weight, bias], grads, checkpointer);
        if let Some(id) = residual {
            grads.register::<B>(id, dy);
        }
    }
}

impl<B: Conv2dOp + Conv2dGradients, C: CheckpointStrategy> Conv2dOp for Autodiff<B, C> {
    fn tiled_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let shapes = [x.shape(), weight.shape()];
        match Conv2dBackward.prepare::<C>([x.node(), weight.node(), bias.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let nodes = [prep.checkpoint(&x), prep.checkpoint(&weight)];
                let y = B::tiled_conv2d(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), options);
                prep.finish((nodes[0], nodes[1], shapes, options), y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::tiled_conv2d(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), options))
            }
        }
    }

    fn tiled_conv2d_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let shapes = [x.shape(), weight.shape()];
        let nodes = [x.node(), weight.node(), bias.node(), residual.node()];
        let (bias, residual) = (bias.into_primitive(), residual.into_primitive());
        match Conv2dAddBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let nodes = [prep.checkpoint(&x), prep.checkpoint(&weight)];
                let y = B::tiled_conv2d_add(x.into_primitive(), weight.into_primitive(), bias, residual, options);
                prep.finish((nodes[0], nodes[1], shapes, options), y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::tiled_conv2d_add(x.into_primitive(), weight.into_primitive(), bias, residual, options))
            }
        }
    }
}
