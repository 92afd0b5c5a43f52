// Batch normalisation: the running statistics after one more batch.
//
//   mean' = (1 - momentum) mean + momentum * batch mean
//   var' = (1 - momentum) var + momentum * unbiased batch variance
//
// Layouts    mean, var [C];  statistics [2, C]: the batch's mean and biased variance;
//            updated: mean' [C], then var' from `second` on.
// Invocation one channel.
// Template   wg: invocations;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}

struct Info {
    channels: u32,
    second: u32,
    momentum: f32,
    unbiased: f32,   // P / (P - 1) for P pixels
}

@group(0) @binding(0) var<storage, read_write> mean: array<Acc>;
@group(0) @binding(1) var<storage, read_write> variance: array<Acc>;
@group(0) @binding(2) var<storage, read_write> statistics: array<Acc>;
@group(0) @binding(3) var<storage, read_write> updated: array<Acc>;
@group(0) @binding(4) var<uniform> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let c = (wid.x + wid.y * grid.x) * {{ wg }}u + lid;
    if c >= info.channels { return; }
    let keep = 1.0 - info.momentum;
    updated[c] = keep * mean[c] + info.momentum * statistics[c];
    updated[info.second + c] = keep * variance[c] + info.momentum * (info.unbiased * statistics[info.channels + c]);
}
