// {{ chains }} chains of a <- (a + x) / 2 for each vector x, a from 0, which converge to x; y is their mean.
//
// The multiply-adds that other kernels are held against: {{ chains }} * 4 * rounds an invocation, all in registers, as many sums that don't wait for
// each other.
// x, y: [vectors] of four floats. One invocation works on one; workgroups are folded into two dimensions.
// Template parameters: {{ wg }} invocations of a workgroup;  chains;  unroll: rounds that are written out, so that the loop itself costs
// next to nothing;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
struct Info {
    vectors: u32,
    rounds: u32,
    half: f32,     // 0.5: a compiler that knows it may make a multiplication and an addition of each multiply-add
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
    if (i >= info.vectors) {
        return;
    }
    let half = Acc4(info.half);
    // Not by info.half: half * a + half * x would become half * (a + x).
    let b = x[i] * 0.5;
    // Different starts keep a compiler from seeing one chain in all of them.
{% for c in range(chains) %}
    var a{{ c }} = Acc4({{ c }}.0);
{% endfor %}
{% macro round() %}
{% for c in range(chains) %}
        a{{ c }} = fma(a{{ c }}, half, b);
{% endfor %}
{% endmacro %}
    for (var round = 0u; round < info.rounds / {{ unroll }}u; round += 1u) {
{% for r in range(unroll) %}
{{ round() }}
{% endfor %}
    }
    for (var round = 0u; round < info.rounds % {{ unroll }}u; round += 1u) {
{{ round() }}
    }
    var sum = a0;
{% for c in range(1, chains) %}
    sum += a{{ c }};
{% endfor %}
    y[i] = sum / {{ chains }}.0;
}
