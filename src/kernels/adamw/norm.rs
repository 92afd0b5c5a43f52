//! The norm of all gradients.

use super::reference;
use crate::kernels::choice::references;
use crate::kernels::launch::Work;
use crate::kernels::operand::Optional;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{Device, Tensor};

/// Tensors that one call adds up, at most: with the sums they are less than the eight storage
/// buffers that every WebGPU device binds.
pub(super) const TOGETHER: usize = 6;

/// Partial sums of squares on an adapter: more wouldn't keep a GPU any busier.
pub(super) const PARTIALS: usize = 256;

/// One to six tensors, `[N]` each, on any backend.
#[derive(Clone, Debug, ExtensionType)]
pub struct Several<B: Backend> {
    /// Always there.
    pub first: FloatTensor<B>,
    /// May be absent.
    #[extension_type]
    pub second: Optional<B>,
    /// May be absent.
    #[extension_type]
    pub third: Optional<B>,
    /// May be absent.
    #[extension_type]
    pub fourth: Optional<B>,
    /// May be absent.
    #[extension_type]
    pub fifth: Optional<B>,
    /// May be absent.
    #[extension_type]
    pub sixth: Optional<B>,
}

impl<B: Backend> Several<B> {
    /// Makes one of an iterator, of whose tensors it takes the first [`TOGETHER`].
    pub(super) fn new(
        first: FloatTensor<B>,
        mut others: impl Iterator<Item = FloatTensor<B>>,
    ) -> Self {
        let [second, third, fourth, fifth, sixth] =
            std::array::from_fn(|_| Optional::new(others.next()));
        Self { first, second, third, fourth, fifth, sixth }
    }

    /// Returns those that are there.
    pub fn into_vec(self) -> Vec<FloatTensor<B>> {
        let Self { first, second, third, fourth, fifth, sixth } = self;
        let others =
            [second, third, fourth, fifth, sixth].into_iter().filter_map(Optional::into_option);
        std::iter::once(first).chain(others).collect()
    }
}

/// What [`norm`] is made of, on every backend: by default the reference. It isn't differentiable.
#[backend_extension(Cube, Flex)]
pub trait SquareSums: Backend {
    /// Adds the squares of `tensors`, one after the other, to `sums`, if there are any yet. The
    /// lengths of all are multiples of four, or those of none. Returns as many numbers as the
    /// backend likes, whose total is the sum of all squares so far.
    fn add(
        #[extension_type] tensors: Several<Self>,
        #[extension_type] sums: Optional<Self>,
    ) -> FloatTensor<Self> {
        reference::add_squares(tensors, sums)
    }

    /// Returns the squares of `tensor` alone, added up as in a sum of many tensors, of which it may
    /// be the first: what [`norm_of_squares`] takes.
    fn alone(tensor: FloatTensor<Self>, first: bool) -> FloatTensor<Self> {
        let _ = first;
        Self::add(Several::new(tensor, std::iter::empty()), Optional::Absent)
    }

    /// Returns the root of the sum of `sums`, `[1]`.
    fn root(sums: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::root::<Self>(sums)
    }
}

/// Returns the Euclidean norm of `tensors`, `[N]` each, taken together; `[1]`. It is the same for
/// any number of threads.
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
    Tensor::from_dispatch(root(sums.into_option().expect("the norm of one tensor or more")))
}

/// Returns the sums of the squares of `tensor` `[N]` by itself: one number on the CPU backend,
/// `PARTIALS` on an adapter. `first` says whether it is the first of all tensors whose norm is
/// asked for.
pub fn squares(tensor: Tensor<1>, first: bool) -> Tensor<1> {
    if references() {
        let one = Several::new(tensor.into_dispatch(), std::iter::empty());
        return Tensor::from_dispatch(reference::add_squares::<Dispatch>(one, Optional::Absent));
    }
    Tensor::from_dispatch(<Dispatch as SquareSums>::alone(tensor.into_dispatch(), first))
}

/// Returns the norm `[1]` of all tensors of which `sums` are the [`squares`], in order, on
/// `device`: bit for bit what [`norm`] makes of the tensors themselves there, where all sums were
/// made on such a device. Sums of devices of both kinds can be mixed.
///
/// # Panics
/// If there are none.
pub fn norm_of_squares(sums: &[Vec<f32>], device: &Device) -> Tensor<1> {
    let together = if *device == Device::flex() || references() {
        sums.concat()
    } else {
        // Each workgroup adds its share of one tensor after the other.
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

/// Whether the numbers of `x` can be read by four.
fn fours(x: &Tensor<1>) -> bool {
    x.dims()[0].is_multiple_of(4)
}

/// Returns the work of adding up the squares of `n` numbers.
pub fn squares_work(n: usize) -> Work {
    Work::floats(&[n])
}
