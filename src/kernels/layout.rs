//! The memory layout between convolutions.
//!
//! Tensors are logically `[B, C, H, W]` everywhere, over NHWC memory on every device: convolutions
//! write it, and every operation of `kernels` keeps it. The operations here are those that Burn
//! would otherwise carry out on NCHW memory.

use super::buffers::Buffer;
use super::record;
use super::shader::Elem;
use super::testing;
use burn::backend::wgpu::{CubeTensor, into_contiguous};
use burn::tensor::{DType, Shape, Tensor};
use burn_flex::FlexTensor;
use std::cell::Cell;

thread_local! {
    /// The layout copies made by kernels called from this thread. A network that keeps its layout
    /// copies its inputs only.
    static COPIES: Cell<usize> = const { Cell::new(0) };
}

/// Returns how often a kernel called from this thread had to copy an operand into NHWC memory.
pub fn copies() -> usize {
    COPIES.get()
}

fn count_copy(of: &dyn std::fmt::Debug) {
    COPIES.set(COPIES.get() + 1);
    log::debug!("layout copy of {of:?}");
}

pub(super) fn to_nhwc(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 2, 3, 1])
}

pub(super) fn to_nchw(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 3, 1, 2])
}

/// Returns `x` twice, for two uses of one feature map. Their gradients are added on NHWC memory; if
/// `x` itself were used twice, they would be added in NCHW order.
pub fn fork(x: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    // The backward pass adds both gradients.
    record::moves(|| sum_bytes(&x));
    let x = to_nhwc(x);
    (to_nchw(x.clone()), to_nchw(x))
}

/// Returns `x` plus `residual`, if there is one; both are `[B, C, H, W]`.
pub fn add(x: Tensor<4>, residual: Option<Tensor<4>>) -> Tensor<4> {
    match residual {
        Some(residual) => {
            record::moves(|| sum_bytes(&x));
            to_nchw(to_nhwc(x) + to_nhwc(residual))
        }
        None => x,
    }
}

/// Returns the bytes that a sum of two tensors like `x` reads and writes.
fn sum_bytes(x: &Tensor<4>) -> f64 {
    (3 * x.shape().num_elements() * x.dtype().size()) as f64
}

/// A feature map of the CPU backend in dense NHWC memory.
pub(crate) struct FlexImage {
    /// B, C, H, W.
    pub dims: [usize; 4],
    tensor: FlexTensor,
}

impl FlexImage {
    /// Wraps `tensor` (logically `[B, C, H, W]`), copied if its memory isn't NHWC.
    pub fn new(tensor: FlexTensor) -> Self {
        let dims = flex_dims(&tensor);
        let tensor = tensor.permute(&[0, 2, 3, 1]);
        if !tensor.is_contiguous() {
            count_copy(&dims);
        }
        Self { dims, tensor: tensor.to_contiguous() }
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Returns the values in NHWC order.
    pub fn values(&self) -> &[f32] {
        flex_values(&self.tensor)
    }

    /// Returns a tensor that is logically `dims` = `[B, C, H, W]`, from values in NHWC order.
    pub fn tensor(values: Buffer, [b, c, h, w]: [usize; 4]) -> FlexTensor {
        values.tensor(Shape::new([b, h, w, c])).permute(&[0, 3, 1, 2])
    }
}

/// Returns the `[B, C, H, W]` of a feature map of the CPU backend.
pub(crate) fn flex_dims(tensor: &FlexTensor) -> [usize; 4] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1], shape[2], shape[3]]
}

/// Returns the values of a contiguous f32 tensor.
pub(crate) fn flex_values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("a contiguous f32 tensor")
}

pub(crate) fn dims(tensor: &CubeTensor) -> [usize; 4] {
    let shape = tensor.meta.shape();
    [shape[0], shape[1], shape[2], shape[3]]
}

/// Returns `tensor` (logically `[B, C, H, W]`) over dense NHWC memory, copied if it has another
/// layout.
pub(crate) fn into_nhwc(mut tensor: CubeTensor) -> CubeTensor {
    let [_, c, h, w] = dims(&tensor);
    let strides = tensor.meta.strides();
    // The stride of a dimension of size 1 is never used.
    let fits = |axis: usize, size: usize, stride: usize| size == 1 || strides[axis] == stride;
    let dense = fits(1, c, 1)
        && fits(3, w, c)
        && fits(2, h, w * c)
        && fits(0, tensor.meta.shape()[0], h * w * c);
    if dense {
        return tensor;
    }
    count_copy(&tensor);
    tensor.meta.permute(&[0, 2, 3, 1]).expect("four axes");
    let mut tensor = into_contiguous(tensor);
    tensor.meta.permute(&[0, 3, 1, 2]).expect("four axes");
    tensor
}

/// Returns whether `weight`, `[O, C, 1, 1]`, is stored as `[C, O]`, as the weights of Burn's linear
/// layers are.
pub(crate) fn is_transposed(weight: &CubeTensor) -> bool {
    let (shape, strides) = (weight.meta.shape(), weight.meta.strides());
    let [out, channels, height, width] = [shape[0], shape[1], shape[2], shape[3]];
    height * width == 1 && out > 1 && channels > 1 && strides[0] == 1 && strides[1] == out
}

/// Returns an uninitialised contiguous tensor on the device of `like`.
pub fn empty(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    let handle = like.client.empty(shape.num_elements() * dtype.size());
    let tensor =
        CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype);
    testing::junk(&tensor);
    tensor
}

/// Does what [`empty`] does, with the type that shaders compute in.
pub(crate) fn empty_acc(like: &CubeTensor, shape: Shape) -> CubeTensor {
    empty(like, shape, DType::F32)
}

/// Returns an uninitialised tensor of `like`'s shape and type, logically `[B, C, H, W]`, in NHWC
/// memory.
pub(crate) fn empty_nhwc_like(like: &CubeTensor) -> CubeTensor {
    empty_nhwc(like, dims(like))
}

/// The alignment of the parts that [`part`] cuts from a buffer, in floats: WebGPU's largest offset
/// alignment, 256 bytes.
const PART_ALIGNMENT: usize = 64;

/// Returns the length of one part, rounded up so that each part can be bound on its own.
pub(crate) fn part_len(elements: usize) -> usize {
    elements.next_multiple_of(PART_ALIGNMENT)
}

/// Returns part number `index` of a buffer [parts, part_len] as a tensor of `shape`, without a
/// copy.
pub(crate) fn part(buffer: &CubeTensor, index: usize, shape: Shape) -> CubeTensor {
    let len = buffer.meta.shape()[1];
    let parts = buffer.meta.shape()[0];
    let bytes = |floats: usize| (floats * size_of::<f32>()) as u64;
    let handle = buffer
        .handle
        .clone()
        .offset_start(bytes(index * len))
        .offset_end(bytes((parts - index) * len - shape.num_elements()));
    CubeTensor::new_contiguous(
        buffer.client.clone(),
        buffer.device.clone(),
        shape,
        handle,
        DType::F32,
    )
}

/// Returns an uninitialised tensor of `like`'s device and type, logically `dims` = `[B, C, H, W]`,
/// in NHWC memory.
pub(crate) fn empty_nhwc(like: &CubeTensor, [b, c, h, w]: [usize; 4]) -> CubeTensor {
    let mut tensor = empty(like, Shape::new([b, h, w, c]), like.dtype);
    tensor.meta.permute(&[0, 3, 1, 2]).expect("four axes");
    tensor
}

/// Returns the element type of `tensor`, the operand `name` of `operation`.
///
/// # Panics
/// If it is neither f32 nor f16.
pub fn elem(operation: &str, name: &str, tensor: &CubeTensor) -> Elem {
    let elem = Elem::of(tensor.dtype);
    elem.unwrap_or_else(|| {
        panic!("{operation}: {name} is {:?}, the WGSL kernel takes f32 or f16", tensor.dtype)
    })
}

/// Checks that `tensor`, the operand `name` of `operation`, has the type `elem`.
///
/// # Panics
/// If it isn't.
pub fn check(operation: &str, name: &str, tensor: &CubeTensor, elem: Elem) {
    assert!(
        tensor.dtype == elem.dtype(),
        "{operation}: {name} is {:?}, the WGSL kernel takes {} here",
        tensor.dtype,
        elem.wgsl()
    );
}
