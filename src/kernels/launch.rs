//! Launches of hand-written WGSL on cubecl's wgpu runtime.

use super::profile;
use burn::backend::wgpu::{CubeTensor, KernelSource, SourceKernel};
use burn::cubecl::server::KernelArguments;
use burn::cubecl::{CubeCount, CubeDim};

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
}
