// SiLU of a range of each row.
//
//   y[b, i] = v / (1 + exp(-v)),  v = x[b, first + i]
//
// Layouts    x [B, N], y [B, L].
// Invocation one value of y.
// Template   wg: invocations;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}

struct Info {
    total: u32,    // B * L
    width: u32,    // N
    first: u32,
    length: u32,   // L
}

@group(0) @binding(0) var<storage, read_write> x: array<Elem>;
@group(0) @binding(1) var<storage, read_write> y: array<Elem>;
@group(0) @binding(2) var<uniform> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let i = (wid.x + wid.y * grid.x) * {{ wg }}u + lid;
    if i >= info.total { return; }
    let v = Acc(x[i / info.length * info.width + info.first + i % info.length]);
    y[i] = Elem(v / (1.0 + exp(-v)));
}
