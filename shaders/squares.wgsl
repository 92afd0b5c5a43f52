// The squares of a tensor, added to those of others.
//
//   partials[k] += sum of x^2 over the share of workgroup k
//
// Layouts    x: any number of units, of four numbers or of one;  partials: a number for each workgroup, or more.
// Workgroup  every `workgroups`-th stretch of wg units. Each invocation adds up its own, then a tree adds up the
//            invocations: short sums, and always in the same order.
// Template   wg: invocations;  four: whether T is four numbers, not one;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/tree.wgsl" import tree %}
alias T = {{ "Acc4" if four else "Acc" }};

struct Info {
    count: u32,        // in units
    workgroups: u32,
    begins: u32,       // 1: partials hold nothing yet
}

@group(0) @binding(0) var<storage, read_write> x: array<T>;
@group(0) @binding(1) var<storage, read_write> partials: array<Acc>;
@group(0) @binding(2) var<uniform> info: Info;

var<workgroup> sums: array<Acc, {{ wg }}>;

fn across(v: T) -> Acc {
    return {{ "dot(v, Acc4(1.0))" if four else "v" }};
}

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let k = wid.x;
    if k >= info.workgroups { return; }
    var sum = T(0.0);
    for (var i = k * {{ wg }}u + lid; i < info.count; i += info.workgroups * {{ wg }}u) {
        let v = x[i];
        sum += v * v;
    }
    let lane = lid;
    sums[lid] = across(sum);
{{ tree(["sums"], wg, 1) }}
    if lid == 0u {
        if info.begins == 1u { partials[k] = sums[0]; } else { partials[k] += sums[0]; }
    }
}
