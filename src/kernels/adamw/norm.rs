//! The norm of all gradients.

use super::reference;
use crate::kernels::choice::references;
use crate::kernels::launch::Work;
use crate::kernels::operand::Optional;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

/// What [`norm`] is made of, on every backend: by default the reference. It isn't differentiable.
#[backend_extension(Cube, Flex)]
pub trait SquareSums: Backend {
    /// Adds the squares of `x` `[N]` to `sums`, if there are any yet. Returns as many numbers as the backend likes, whose total
    /// is the sum of all squares so far.
    fn add(x: FloatTensor<Self>, #[extension_type] sums: Optional<Self>) -> FloatTensor<Self> {
        reference::add_squares(x, sums)
    }

    /// Returns the root of the sum of `sums`, `[1]`.
    fn root(sums: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::root::<Self>(sums)
    }
}

/// Returns the Euclidean norm of `tensors`, `[N]` each, taken together; `[1]`. It is the same for any number of threads.
///
/// # Panics
/// If there are none.
pub fn norm(tensors: Vec<Tensor<1>>) -> Tensor<1> {
    let (add, root): (fn(_, _) -> _, fn(_) -> _) = match references() {
        true => (reference::add_squares::<Dispatch>, reference::root::<Dispatch>),
        false => (<Dispatch as SquareSums>::add, <Dispatch as SquareSums>::root),
    };
    let add = |sums, x: Tensor<1>| Optional::Given(add(x.into_dispatch(), sums));
    let sums = tensors.into_iter().fold(Optional::Absent, add).into_option().expect("the norm of one tensor or more");
    Tensor::from_dispatch(root(sums))
}

/// Returns the work of adding up the squares of `n` numbers.
pub fn squares_work(n: usize) -> Work {
    Work::floats(&[n])
}
