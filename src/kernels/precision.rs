//! Mixed precision (Micikevicius et al. 2018, arXiv 1710.03740): products take f16 factors and
//! accumulate in f32.
//!
//! In half precision, feature maps have the precision of f16. How they are stored depends on the
//! device:
//!
//! - adapters with the extension f16 store f16, which halves the bytes of everything that reads and
//!   writes maps;
//! - on other adapters maps stay f32, and the shaders of products round the values as they read
//!   them;
//! - the CPU backend, which has no f16 products, keeps f32 tensors whose values are rounded to f16:
//!   it shows the results of training in half precision, but is no faster.
//!
//! Weights, moments, the EMA, statistics of normalisation layers, losses, gradients of parameters
//! and vectors (z, the embedding of t) are f32 everywhere.

use super::adapter::{on_wgpu, profile_of};
use super::autodiff::{CheckpointStrategy, Checkpointer, Saved, node};
use super::buffers::Buffer;
use super::shader::Elem;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Tensor};
use burn_flex::{Flex, FlexTensor};
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use std::cell::Cell;

/// The precision of feature maps and of the factors of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// f16, see [`self`].
    F16,
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Runs `work` with operations on this thread computing in `precision`. Their backward passes do so
/// too, on whichever thread they run.
pub fn autocast<T>(precision: Precision, work: impl FnOnce() -> T) -> T {
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(precision));
    work()
}

/// Returns the precision of operations on this thread.
pub(crate) fn current() -> Precision {
    CURRENT.get()
}

/// Returns the type that the factors of products are rounded to in the current precision.
pub(crate) fn factors() -> Elem {
    match current() {
        Precision::F32 => Elem::F32,
        Precision::F16 => Elem::F16,
    }
}

/// Converts `x`, a feature map, to the current precision, and its gradient too.
pub(crate) fn map(x: Tensor<4>) -> Tensor<4> {
    through(x, Role::Map)
}

/// Rounds `x`, a factor of a product, which stays f32 in memory; its gradient isn't rounded. (The
/// shaders of products round their factors themselves.)
pub(crate) fn factor<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    through(x, Role::Factor)
}

/// Returns `y`, a product, and rounds its gradient, which is a factor of other products.
pub(crate) fn gradient<const D: usize>(y: Tensor<D>) -> Tensor<D> {
    through(y, Role::Gradient)
}

/// Returns `x`, a feature map in any precision, in f32.
pub(crate) fn in_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.dtype() == DType::F32 { x } else { x.cast(FloatDType::F32) }
}

fn through<const D: usize>(x: Tensor<D>, role: Role) -> Tensor<D> {
    match current() {
        Precision::F32 => x,
        Precision::F16 => Tensor::from_dispatch(<Dispatch as Half>::half(x.into_dispatch(), role)),
    }
}

/// How half precision treats a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The tensor and its gradient are feature maps.
    Map,
    /// The tensor is a factor of a product.
    Factor,
    /// The gradient is a factor of a product.
    Gradient,
}

/// Half precision on every backend.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait Half: Backend {
    /// Returns `x` in half precision, as its `role` demands.
    fn half(x: FloatTensor<Self>, role: Role) -> FloatTensor<Self>;

    /// Returns whether [`half`](Half::half) would change `x` or its gradient in this role.
    fn changes(x: &FloatTensor<Self>, role: Role) -> bool;
}

/// Returns whether the kernels of `x`'s device store feature maps as f16.
pub(crate) fn stores_f16(x: &burn::backend::wgpu::CubeTensor) -> bool {
    on_wgpu(x) && profile_of(x).extensions.f16
}

impl Half for CubeBackend {
    fn half(x: FloatTensor<Self>, role: Role) -> FloatTensor<Self> {
        if Self::changes(&x, role) { Self::float_cast(x, FloatDType::F16) } else { x }
    }

    fn changes(x: &FloatTensor<Self>, role: Role) -> bool {
        role == Role::Map && x.dtype == DType::F32 && stores_f16(x)
    }
}

/// The number of values that are rounded at a time.
const TASK: usize = 4096;

impl Half for Flex {
    fn half(x: FlexTensor, role: Role) -> FlexTensor {
        if role == Role::Gradient {
            return x;
        }
        let count = x.layout().shape().num_elements();
        let dense = x.layout().start_offset() == 0 && x.storage::<f32>().len() == count;
        let x = if dense { x } else { x.to_contiguous() };
        let mut rounded = Buffer::new(count);
        rounded.par_chunks_mut(TASK).zip(x.storage::<f32>().par_chunks(TASK)).for_each(
            |(to, from)| {
                let mut halves = [f16::ZERO; TASK];
                let halves = &mut halves[..from.len()];
                halves.convert_from_f32_slice(from);
                halves.convert_to_f32_slice(to);
            },
        );
        rounded.laid_out(x.layout().clone())
    }

    fn changes(_: &FlexTensor, _: Role) -> bool {
        true
    }
}

/// A tensor's role and the type of its gradient.
#[derive(Clone, Debug)]
struct Rounded(Role, FloatDType);

impl<B: Half> Saved<B> for Rounded {
    fn gradients(
        self,
        dy: FloatTensor<B>,
        _: &[bool],
        _: &mut Checkpointer,
    ) -> Vec<Option<FloatTensor<B>>> {
        let Self(role, dtype) = self;
        let dy = if role == Role::Factor { dy } else { B::half(dy, Role::Map) };
        vec![Some(if FloatDType::from(dy.dtype()) == dtype {
            dy
        } else {
            B::float_cast(dy, dtype)
        })]
    }
}

impl<B: Half, C: CheckpointStrategy> Half for Autodiff<B, C> {
    fn half(x: FloatTensor<Self>, role: Role) -> FloatTensor<Self> {
        if !Self::changes(&x, role) {
            return x;
        }
        let (inner, dtype) = (x.clone().into_primitive(), x.dtype().into());
        node::<B, C, _, _, 1, 0>(
            [&x],
            [],
            || (B::half(inner, role), ()),
            |_, _, ()| Rounded(role, dtype),
        )
        .0
    }

    fn changes(x: &FloatTensor<Self>, role: Role) -> bool {
        B::changes(&x.clone().into_primitive(), role)
    }
}
