// y = x, four floats per invocation: the memory throughput that other kernels are compared with.
//
// Layouts    x, y [vectors] of four floats.
// Invocation one vector; workgroups are folded into two dimensions.
// Template   wg: {{ wg }} invocations;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
struct Info {
    vectors: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Acc4>;
@group(0) @binding(1) var<storage, read_write> y: array<Acc4>;
@group(0) @binding(2) var<uniform> info: Info;

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * {{ wg }}u + lane;
    if (i < info.vectors) {
        y[i] = x[i];
    }
}
