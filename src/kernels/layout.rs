//! Memory layout between convolutions.
//!
//! Tensors are logically [B, C, H, W] everywhere. On wgpu devices Burn's convolutions leave NHWC memory behind that shape,
//! and every operation of this room keeps it; the CPU backend works on NCHW memory. [`add`], [`concat`] and [`upsample`]
//! are the operations between two convolutions that would otherwise fall back to NCHW.

use burn::backend::wgpu::{CubeTensor, into_contiguous};
use burn::tensor::{DType, Device, Shape, Tensor};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Layout copies that fused kernels had to make since the program started: 0 in a network that keeps its layout.
static COPIES: AtomicUsize = AtomicUsize::new(0);

/// How often a fused kernel had to copy an operand into NHWC memory.
pub fn copies() -> usize {
    COPIES.load(Ordering::Relaxed)
}

/// Whether `device` keeps feature maps in NHWC memory.
fn is_nhwc(device: &Device) -> bool {
    device.clone().inner() != Device::flex()
}

fn to_nhwc(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 2, 3, 1])
}

fn to_nchw(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 3, 1, 2])
}

/// a + b, both [B, C, H, W].
pub fn add(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    match is_nhwc(&a.device()) {
        true => to_nchw(to_nhwc(a) + to_nhwc(b)),
        false => a + b,
    }
}

/// [B, C1, H, W] and [B, C2, H, W] to [B, C1 + C2, H, W].
pub fn concat(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    match is_nhwc(&a.device()) {
        true => to_nchw(Tensor::cat(vec![to_nhwc(a), to_nhwc(b)], 3)),
        false => Tensor::cat(vec![a, b], 1),
    }
}

/// Nearest-neighbour upsampling, [B, C, H, W] to [B, C, 2H, 2W].
pub fn upsample(x: Tensor<4>) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    if is_nhwc(&x.device()) {
        let x: Tensor<6> = to_nhwc(x).reshape([b, h, 1, w, 1, c]);
        return to_nchw(x.expand([b, h, 2, w, 2, c]).reshape([b, 2 * h, 2 * w, c]));
    }
    let x: Tensor<6> = x.reshape([b, c, h, 1, w, 1]);
    x.expand([b, c, h, 2, w, 2]).reshape([b, c, 2 * h, 2 * w])
}

pub(crate) fn dims(tensor: &CubeTensor) -> [usize; 4] {
    let shape = tensor.meta.shape();
    [shape[0], shape[1], shape[2], shape[3]]
}

/// `tensor` (logically [B, C, H, W]) with dense NHWC memory, copied if it has another layout.
pub(crate) fn into_nhwc(mut tensor: CubeTensor) -> CubeTensor {
    let [_, c, h, w] = dims(&tensor);
    let strides = tensor.meta.strides();
    // The stride of a dimension of size 1 is never used.
    let fits = |axis: usize, size: usize, stride: usize| size == 1 || strides[axis] == stride;
    let dense = fits(1, c, 1) && fits(3, w, c) && fits(2, h, w * c) && fits(0, tensor.meta.shape()[0], h * w * c);
    if dense {
        return tensor;
    }
    COPIES.fetch_add(1, Ordering::Relaxed);
    log::debug!("layout copy of {tensor:?}");
    tensor.meta.permute(&[0, 2, 3, 1]).expect("four axes");
    let mut tensor = into_contiguous(tensor);
    tensor.meta.permute(&[0, 3, 1, 2]).expect("four axes");
    tensor
}

/// An uninitialised contiguous f32 tensor beside `like`.
pub(crate) fn empty(like: &CubeTensor, shape: Shape) -> CubeTensor {
    let handle = like.client.empty(shape.num_elements() * size_of::<f32>());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, DType::F32)
}

/// An uninitialised tensor of `like`'s shape, logically [B, C, H, W], in NHWC memory.
pub(crate) fn empty_nhwc_like(like: &CubeTensor) -> CubeTensor {
    let [b, c, h, w] = dims(like);
    let mut tensor = empty(like, Shape::new([b, h, w, c]));
    tensor.meta.permute(&[0, 3, 1, 2]).expect("four axes");
    tensor
}

/// Floats between the parts of a buffer that [`part`] cuts: WebGPU's largest offset alignment, 256 bytes.
const PART_ALIGNMENT: usize = 64;

/// Length of one part, rounded up so that every part may be bound on its own.
pub(crate) fn part_len(elements: usize) -> usize {
    elements.next_multiple_of(PART_ALIGNMENT)
}

/// Part number `index` of a buffer [parts, part_len], as a tensor of `shape` without a copy.
pub(crate) fn part(buffer: &CubeTensor, index: usize, shape: Shape) -> CubeTensor {
    let len = buffer.meta.shape()[1];
    let parts = buffer.meta.shape()[0];
    let bytes = |floats: usize| (floats * size_of::<f32>()) as u64;
    let handle = buffer
        .handle
        .clone()
        .offset_start(bytes(index * len))
        .offset_end(bytes((parts - index) * len - shape.num_elements()));
    CubeTensor::new_contiguous(buffer.client.clone(), buffer.device.clone(), shape, handle, DType::F32)
}
