// Partial sums of the squares of several tensors, added to those of earlier tensors.
//
//   partials[k] += sum of x^2 over the part of x that belongs to workgroup k, for each x in turn
//
// Layouts    x0, x1, ..: any number of units, of four values or of one;  partials: one value per
//            workgroup, or more.
// Workgroup  of each tensor, every parts-th run of wg units, if the workgroup is among the tensor's
//            first `parts`. Each invocation adds up its own units, then a tree adds up the
//            invocations: sums stay short, and their order is always the same.
// Template   wg: invocations;  four: whether T is four values, not one;  tensors: the number of
//            tensors; if a call has fewer, the others have no units;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/tree.wgsl" import tree %}
alias T = {{ "Acc4" if four else "Acc" }};

struct Info {
    begins: u32,       // 1: partials are uninitialised
{% for i in range(tensors) %}
    count{{ i }}: u32,       // in units
    parts{{ i }}: u32,
{% endfor %}
}

{% for i in range(tensors) %}
@group(0) @binding({{ i }}) var<storage, read_write> x{{ i }}: array<T>;
{% endfor %}
@group(0) @binding({{ tensors }}) var<storage, read_write> partials: array<Acc>;
@group(0) @binding({{ tensors + 1 }}) var<uniform> info: Info;

var<workgroup> sums: array<Acc, {{ wg }}>;

fn across(v: T) -> Acc {
    return {{ "dot(v, Acc4(1.0))" if four else "v" }};
}

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let k = wid.x;
    let lane = lid;
    var total = Acc(0.0);
    if lid == 0u && info.begins == 0u { total = partials[k]; }
{% for i in range(tensors) %}
    if k < info.parts{{ i }} {
        var sum = T(0.0);
        for (var i = k * {{ wg }}u + lid; i < info.count{{ i }}; i += info.parts{{ i }} * {{ wg }}u) {
            let v = x{{ i }}[i];
            sum += v * v;
        }
        sums[lid] = across(sum);
{{ tree(["sums"], wg, 1) }}
        total += sums[0];
        workgroupBarrier();
    }
{% endfor %}
    if lid == 0u { partials[k] = total; }
}
