// Batch normalisation: the running statistics after one more batch.
//
//   mean' = (1 - momentum) mean + momentum * batch mean,  var' = (1 - momentum) var + momentum * unbiased batch variance
//
// Layouts    mean, var [C];  statistics [2, C]: the batch's mean and biased variance;
//            updated: mean' [C], then var' from `second` on.
// Invocation one channel.
// Template   wg: invocations.

struct Info {
    channels: u32,
    second: u32,
    momentum: f32,
    unbiased: f32,   // P / (P - 1) for P pixels
}

@group(0) @binding(0) var<storage, read_write> mean: array<f32>;
@group(0) @binding(1) var<storage, read_write> variance: array<f32>;
@group(0) @binding(2) var<storage, read_write> statistics: array<f32>;
@group(0) @binding(3) var<storage, read_write> updated: array<f32>;
@group(0) @binding(4) var<storage, read_write> info: Info;

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if c >= info.channels { return; }
    let keep = 1.0 - info.momentum;
    updated[c] = keep * mean[c] + info.momentum * statistics[c];
    updated[info.second + c] = keep * variance[c] + info.momentum * (info.unbiased * statistics[info.channels + c]);
}
