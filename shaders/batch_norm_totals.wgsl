// Batch normalisation, backward: sums over all pixels from those of the blocks. They are the
// gradients of beta and gamma.
//
//   S0 = sum of g (d_beta),  S1 = sum of g * xhat (d_gamma)                       for each channel
//
// Layouts    partials [blocks, 2, C]: S0, S1;  totals: S0 [C], then S1 from `second` on.
// Workgroup  {{ cols }} channels. Each invocation sums some blocks of one channel, then a tree adds
//            up the sums of the channel's invocations.
// Template   wg: invocations;  cols: channels of a workgroup, a divisor of wg;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/tree.wgsl" import tree %}
{% set lanes = wg // cols %}

struct Info {
    channels: u32,
    count: u32,    // blocks
    second: u32,
}

@group(0) @binding(0) var<storage, read_write> partials: array<Acc>;
@group(0) @binding(1) var<storage, read_write> totals: array<Acc>;
@group(0) @binding(2) var<uniform> info: Info;

var<workgroup> sums: array<vec2<Acc>, {{ wg }}>;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let c = (wid.x + wid.y * grid.x) * {{ cols }}u + lid % {{ cols }}u;
    let lane = lid / {{ cols }}u;
    let here = c < info.channels;
    let C = info.channels;
    var sum = vec2<Acc>(0.0);
    if here {
        for (var b = lane; b < info.count; b += {{ lanes }}u) {
            let at = 2u * b * C + c;
            sum += vec2<Acc>(partials[at], partials[at + C]);
        }
    }
    sums[lid] = sum;
{{ tree(["sums"], lanes, cols) }}
    if here && lane == 0u {
        totals[c] = sums[lid].x;
        totals[info.second + c] = sums[lid].y;
    }
}
