// Six chains of a <- (a + x) / 2 for each vector x, a from 0, which converge to x; y is their mean.
//
// The multiply-adds that other kernels are held against: 6 * 4 * rounds an invocation, all in registers.
// x, y: [vectors] of four floats. One invocation works on one; workgroups are folded into two dimensions.
// Template parameters: {{ wg }} invocations of a workgroup;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
struct Info {
    vectors: u32,
    rounds: u32,
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
    let half = Acc4(0.5);
    let b = x[i] * 0.5;
    // Different starts keep a compiler from seeing one chain in all of them.
    var a0 = Acc4(0.0);
    var a1 = Acc4(1.0);
    var a2 = Acc4(2.0);
    var a3 = Acc4(3.0);
    var a4 = Acc4(4.0);
    var a5 = Acc4(5.0);
    for (var round = 0u; round < info.rounds; round += 1u) {
        a0 = fma(a0, half, b);
        a1 = fma(a1, half, b);
        a2 = fma(a2, half, b);
        a3 = fma(a3, half, b);
        a4 = fma(a4, half, b);
        a5 = fma(a5, half, b);
    }
    y[i] = (((a0 + a1) + (a2 + a3)) + (a4 + a5)) / 6.0;
}
