// Batch normalisation: mean and variance of each channel from those of its blocks
// (Chan, Golub and LeVeque 1979).
//
//   mean = sum n_b mean_b / P,  var = (sum M2_b + n_b (mean_b - mean)^2) / P  (biased)
//   where block b has n_b of the P pixels
//
// Layouts    partials [blocks, 2, C]: mean, M2;  statistics [2, C]: mean, var.
// Workgroup  {{ cols }} channels. Each invocation sums some blocks of one channel, then a tree adds
//            up the sums of the channel's invocations; this is done twice.
// Template   wg: invocations;  cols: channels of a workgroup, a divisor of wg;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/tree.wgsl" import tree %}
{% set lanes = wg // cols %}

struct Info {
    channels: u32,
    pixels: u32,
    size: u32,     // pixels of a block
    count: u32,    // blocks
}

@group(0) @binding(0) var<storage, read_write> partials: array<Acc>;
@group(0) @binding(1) var<storage, read_write> statistics: array<Acc>;
@group(0) @binding(2) var<uniform> info: Info;

var<workgroup> sums: array<Acc, {{ wg }}>;

/// Returns the sum of `value` over the invocations of a channel, in all of them.
fn reduce(lid: u32, value: Acc) -> Acc {
    let lane = lid / {{ cols }}u;
    sums[lid] = value;
{{ tree(["sums"], lanes, cols) }}
    let total = sums[lid % {{ cols }}u];
    workgroupBarrier();
    return total;
}

fn pixels_of(block: u32) -> Acc {
    return Acc(min(info.size, info.pixels - block * info.size));
}

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let c = (wid.x + wid.y * grid.x) * {{ cols }}u + lid % {{ cols }}u;
    let lane = lid / {{ cols }}u;
    let here = c < info.channels;
    let C = info.channels;
    let n = Acc(info.pixels);

    // Differences from the first block's mean, so that a large mean costs no precision.
    var pivot = Acc(0.0);
    var sum = Acc(0.0);
    if here {
        pivot = partials[c];
        for (var b = lane; b < info.count; b += {{ lanes }}u) { sum += pixels_of(b) * (partials[2u * b * C + c] - pivot); }
    }
    let mean = pivot + reduce(lid, sum) / n;

    sum = Acc(0.0);
    if here {
        for (var b = lane; b < info.count; b += {{ lanes }}u) {
            let d = partials[2u * b * C + c] - mean;
            sum += partials[(2u * b + 1u) * C + c] + pixels_of(b) * d * d;
        }
    }
    let variance = reduce(lid, sum) / n;
    if here && lane == 0u {
        statistics[c] = mean;
        // Rounding can make it negative. NaN stays NaN.
        statistics[C + c] = select(variance, Acc(0.0), variance < Acc(0.0));
    }
}
