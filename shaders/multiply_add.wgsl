// {{ chains }} chains of a <- (a + x) / 2 for each vector x, which converge to x; chain c starts at
// a = c, and y is the mean of the chains.
//
// The multiply-add throughput that other kernels are compared with: {{ chains }} * 4 * rounds per
// invocation, all in registers, on {{ chains }} * 4 independent sums.
//
// Layouts    x, y [vectors] of four floats.
// Invocation one vector; workgroups are folded into two dimensions.
// Template   wg: {{ wg }} invocations;  chains;  unroll: rounds per loop iteration, enough to make
//            the cost of the loop itself negligible;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
struct Info {
    vectors: u32,
    rounds: u32,
    // 0.5. A compiler that knew the value could split each multiply-add into a multiplication and
    // an addition.
    half: f32,
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
    // Not x * info.half: half * a + half * x would be turned into half * (a + x).
    let b = x[i] * 0.5;
    // Different starting values keep a compiler from merging the chains into one.
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
