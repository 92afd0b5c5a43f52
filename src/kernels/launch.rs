//! Launches of hand-written WGSL on cubecl's wgpu runtime.

use super::profile;
use burn::backend::wgpu::{CubeTensor, KernelSource, SourceKernel};
use burn::cubecl::server::KernelArguments;
use burn::cubecl::{CubeCount, CubeDim};
use std::cell::Cell;

/// What tiles are chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Real graphics hardware: wide subgroups, cheap barriers, fast workgroup memory.
    Gpu,
    /// A program on the processor (lavapipe, WARP) that runs a workgroup as vectors of 8 lanes and pays for every barrier.
    Software,
}

thread_local! {
    static FORCED: Cell<Option<Class>> = const { Cell::new(None) };
}

/// Makes launches from this thread use the tiles of `class` instead of the adapter's own: tests run the kernels of real GPUs
/// on a software adapter.
pub fn force_class(class: Option<Class>) {
    FORCED.set(class);
}

/// The class whose tiles `tensor`'s launches use: that of its adapter, unless another one was forced.
pub(crate) fn class(tensor: &CubeTensor) -> Class {
    FORCED.get().unwrap_or_else(|| own_class(tensor))
}

/// The class of the adapter that `tensor` lives on.
fn own_class(tensor: &CubeTensor) -> Class {
    if tensor.client.properties().hardware.plane_size_max <= 8 { Class::Software } else { Class::Gpu }
}

/// Waits for a software adapter once this thread is some launches ahead of it. cubecl's queue of 32 tasks spins while it is full,
/// and the spinning thread takes a processor from the adapter's own. Errors stay with the tensors, whose readers report them.
fn keep_pace(tensor: &CubeTensor) {
    thread_local! {
        static LAUNCHES: Cell<usize> = const { Cell::new(0) };
    }
    LAUNCHES.set(LAUNCHES.get() + 1);
    if LAUNCHES.get().is_multiple_of(AHEAD) && own_class(tensor) == Class::Software {
        let _ = pollster::block_on(tensor.client.sync());
    }
}

/// See [`keep_pace`].
const AHEAD: usize = 4;

/// `n` workgroups, folded into two dimensions where one would pass WebGPU's limit.
pub(crate) fn grid(n: usize) -> CubeCount {
    const LIMIT: usize = 65_535;
    let rows = n.div_ceil(LIMIT);
    CubeCount::Static(n.div_ceil(rows) as u32, rows as u32, 1)
}

/// Launches `shader` on `buffers`, bound in their order, and on the info block, bound last.
pub(crate) fn launch(
    name: &'static str,
    shader: impl KernelSource,
    workgroup: u32,
    count: CubeCount,
    buffers: &[&CubeTensor],
    info: &[u32],
) {
    let client = &buffers[0].client;
    let mut bindings: Vec<_> = buffers.iter().map(|t| t.handle.clone().binding()).collect();
    bindings.push(client.create_from_slice(bytemuck::cast_slice(info)).binding());
    let arguments = KernelArguments::new().with_buffers(bindings);
    profile::named(name, || client.launch(Box::new(SourceKernel::new(shader, CubeDim::new_1d(workgroup))), count, arguments));
    keep_pace(buffers[0]);
}
