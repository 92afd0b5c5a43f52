//! The norm of all gradients.

use super::inputs::{Several, TOGETHER};
use super::reference;
use crate::kernels::choice::references;
use crate::kernels::operand::Optional;
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Device, Tensor};

/// The number of partial sums of squares on an adapter. More wouldn't keep a GPU any busier.
pub(super) const PARTIALS: usize = 256;

/// The parts of [`norm`] on every backend, by default the reference. They aren't differentiable.
#[backend_extension(Cube, Flex)]
pub trait SquareSums: Backend {
    /// Adds the squares of `tensors`, one after the other, to `sums`, if there are any yet. Either
    /// all lengths are multiples of four, or none is. Returns any number of values, as the backend
    /// chooses, whose total is the sum of all squares so far.
    fn add(
        #[extension_type] tensors: Several<Self>,
        #[extension_type] sums: Optional<Self>,
    ) -> FloatTensor<Self> {
        reference::add_squares(tensors, sums)
    }

    /// Returns the sums of squares of `tensor` alone, added up as in a sum over many tensors, of
    /// which it may be the `first`: the input of [`norm_of_squares`].
    fn alone(tensor: FloatTensor<Self>, first: bool) -> FloatTensor<Self> {
        let _ = first;
        Self::add(Several::new(tensor, std::iter::empty()), Optional::Absent)
    }

    /// Returns the root of the sum of `sums`, `[1]`.
    fn root(sums: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::root::<Self>(sums)
    }
}

/// Returns the joint Euclidean norm of `tensors`, each `[N]`, as `[1]`. It doesn't depend on the
/// number of threads.
///
/// # Panics
/// If there are none.
pub fn norm(tensors: Vec<Tensor<1>>) -> Tensor<1> {
    let (add, root): (fn(_, _) -> _, fn(_) -> _) = match references() {
        true => (reference::add_squares::<Dispatch>, reference::root::<Dispatch>),
        false => (<Dispatch as SquareSums>::add, <Dispatch as SquareSums>::root),
    };
    let mut tensors = tensors.into_iter().peekable();
    let mut sums = Optional::Absent;
    while let Some(first) = tensors.next() {
        let four = fours(&first);
        let mut room = TOGETHER - 1;
        let others = std::iter::from_fn(|| {
            room = room.checked_sub(1)?;
            tensors.next_if(|x| fours(x) == four).map(Tensor::into_dispatch)
        });
        sums = Optional::Given(add(Several::new(first.into_dispatch(), others), sums));
    }
    Tensor::from_dispatch(root(sums.into_option().expect("norm: at least one tensor")))
}

/// Returns the sums of squares of `tensor` `[N]` by itself: one value on the CPU backend,
/// `PARTIALS` values on an adapter. `first` says whether it is the first of all tensors in the
/// norm.
pub fn squares(tensor: Tensor<1>, first: bool) -> Tensor<1> {
    if references() {
        let one = Several::new(tensor.into_dispatch(), std::iter::empty());
        return Tensor::from_dispatch(reference::add_squares::<Dispatch>(one, Optional::Absent));
    }
    Tensor::from_dispatch(<Dispatch as SquareSums>::alone(tensor.into_dispatch(), first))
}

/// Returns the norm `[1]`, on `device`, of the tensors whose [`squares`] are `sums`, in order. If
/// all sums were computed on a device of the same kind, it equals bit for bit what [`norm`] returns
/// for the tensors themselves. Sums from both kinds of devices can be mixed.
///
/// # Panics
/// If there are none.
pub fn norm_of_squares(sums: &[Vec<f32>], device: &Device) -> Tensor<1> {
    let together = if *device == Device::flex() || references() {
        sums.concat()
    } else {
        // Each workgroup adds its part of one tensor after the other.
        let mut partials = vec![0.0f32; PARTIALS];
        for sum in sums {
            partials.iter_mut().zip(sum).for_each(|(partial, more)| *partial += more);
        }
        partials
    };
    let together = Tensor::<1>::from_floats(together.as_slice(), device).into_dispatch();
    Tensor::from_dispatch(if references() {
        reference::root::<Dispatch>(together)
    } else {
        <Dispatch as SquareSums>::root(together)
    })
}

/// Returns whether the values of `x` can be read four at a time.
fn fours(x: &Tensor<1>) -> bool {
    x.dims()[0].is_multiple_of(4)
}

/// Returns the work of adding up the squares of `n` values.
pub fn squares_work(n: usize) -> Work {
    Work::floats(&[n])
}
