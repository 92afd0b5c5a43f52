//! Concatenation as a node of Burn's autodiff graph.

use super::{Concat, ConcatInputs};
use crate::kernels::autodiff::{CheckpointStrategy, Checkpointer, Saved, node};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};

/// The channels of the first operand. The parents are both operands.
#[derive(Clone, Debug)]
struct SavedConcat(usize);

impl<B: Concat> Saved<B> for SavedConcat {
    fn gradients(
        self,
        dy: FloatTensor<B>,
        _: &[bool],
        _: &mut Checkpointer,
    ) -> Vec<Option<FloatTensor<B>>> {
        let (a, b) = <B as Concat>::backward(dy, self.0);
        vec![Some(a), Some(b)]
    }
}

impl<B: Concat, C: CheckpointStrategy> Concat for Autodiff<B, C> {
    fn forward(ConcatInputs { a, b }: ConcatInputs<Self>) -> FloatTensor<Self> {
        let channels = a.shape()[1];
        let [inner_a, inner_b] = [&a, &b].map(|x| x.clone().into_primitive());
        let forward = || (<B as Concat>::forward(ConcatInputs { a: inner_a, b: inner_b }), ());
        node::<B, C, _, _, 2, 0>([&a, &b], [], forward, |[], _, ()| SavedConcat(channels)).0
    }
}
