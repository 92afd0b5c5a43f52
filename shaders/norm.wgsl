// The norm of several tensors taken together, from partial sums of their squares.
//
//   norm = sqrt(sum of partials)
//
// Layouts    partials [count];  norm [1].
// Workgroup  a single one: each invocation adds up every wg-th partial sum, then a tree adds up the
//            invocations.
// Template   wg: invocations;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/tree.wgsl" import tree %}

struct Info {
    count: u32,
}

@group(0) @binding(0) var<storage, read_write> partials: array<Acc>;
@group(0) @binding(1) var<storage, read_write> norm: array<Acc>;
@group(0) @binding(2) var<uniform> info: Info;

var<workgroup> sums: array<Acc, {{ wg }}>;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32) {
    var sum = Acc(0.0);
    for (var i = lid; i < info.count; i += {{ wg }}u) { sum += partials[i]; }
    let lane = lid;
    sums[lid] = sum;
{{ tree(["sums"], wg, 1) }}
    if lid == 0u { norm[0] = sqrt(sums[0]); }
}
