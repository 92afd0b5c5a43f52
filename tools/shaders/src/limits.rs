//! The default limits of the WebGPU specification, which every device supports, as far as compute
//! shaders can exceed them.

use crate::manifest::Binding;
use crate::module::Valid;

/// `maxStorageBuffersPerShaderStage`.
const STORAGE_BUFFERS: usize = 8;
/// `maxUniformBuffersPerShaderStage`.
const UNIFORM_BUFFERS: usize = 12;
/// `maxUniformBufferBindingSize`, bytes.
const UNIFORM_BYTES: u32 = 64 * 1024;
/// `maxComputeWorkgroupStorageSize`, bytes.
const WORKGROUP_BYTES: u32 = 16 * 1024;
/// `maxComputeInvocationsPerWorkgroup`.
const INVOCATIONS: u64 = 256;
/// `maxComputeWorkgroupSizeX`, `Y` and `Z`.
const WORKGROUP_SIZE: [u32; 3] = [256, 256, 64];
/// `maxBindGroups`.
const GROUPS: u32 = 4;
/// `maxBindingsPerBindGroup`: binding numbers are below it.
const BINDINGS: u32 = 1_000;

/// Returns a line for each limit that `shader` exceeds.
pub fn exceeded(shader: &Valid) -> Vec<String> {
    let mut exceeded = Vec::new();
    let mut limit = |within: bool, what: String| {
        if !within {
            exceeded.push(format!("exceeds WebGPU's default limits: {what}"));
        }
    };
    let buffers = shader.buffers();
    let of_kind = |kind| buffers.iter().filter(move |b| b.kind == Some(kind));

    let storage = of_kind(Binding::Storage).count();
    limit(
        storage <= STORAGE_BUFFERS,
        format!("{storage} storage buffers, {STORAGE_BUFFERS} at most"),
    );
    let uniforms = of_kind(Binding::Uniform).count();
    limit(
        uniforms <= UNIFORM_BUFFERS,
        format!("{uniforms} uniform buffers, {UNIFORM_BUFFERS} at most"),
    );
    for b in of_kind(Binding::Uniform) {
        let within = b.bytes <= UNIFORM_BYTES;
        limit(
            within,
            format!(
                "{} bytes of the uniform buffer at binding {}, {UNIFORM_BYTES} at most",
                b.bytes, b.binding
            ),
        );
    }
    for b in &buffers {
        let within = b.group < GROUPS && b.binding < BINDINGS;
        limit(
            within,
            format!(
                "group {}, binding {}, {GROUPS} groups of {BINDINGS} at most",
                b.group, b.binding
            ),
        );
    }

    let bytes = shader.workgroup_bytes();
    limit(
        bytes <= WORKGROUP_BYTES,
        format!("{bytes} bytes of workgroup memory, {WORKGROUP_BYTES} at most"),
    );
    let size = shader.workgroup_size();
    let invocations: u64 = size.iter().map(|&n| u64::from(n)).product();
    limit(
        invocations <= INVOCATIONS,
        format!("{invocations} invocations of a workgroup, {INVOCATIONS} at most"),
    );
    let within = size.iter().zip(WORKGROUP_SIZE).all(|(&n, most)| n <= most);
    limit(within, format!("a workgroup of {size:?}, {WORKGROUP_SIZE:?} at most"));
    exceeded
}
