// The mean of each channel over an image's pixels.
//
//   y[b, c] = 1 / P sum over p of x[b, p, c]
//
// Layouts    x [B, P, C] (NHWC, P pixels of an image), y [B, C], stored as Acc.
// Invocation one channel of one image: few pixels are left at the point where a network pools them.
// Template   wg: invocations;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}

struct Info {
    total: u32,      // B * C
    pixels: u32,     // P
    channels: u32,   // C
}

@group(0) @binding(0) var<storage, read_write> x: array<Elem>;
@group(0) @binding(1) var<storage, read_write> y: array<Acc>;
@group(0) @binding(2) var<uniform> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let i = (wid.x + wid.y * grid.x) * {{ wg }}u + lid;
    if i >= info.total { return; }
    let first = i / info.channels * info.pixels * info.channels + i % info.channels;
    var sum = Acc(0.0);
    for (var p = 0u; p < info.pixels; p++) { sum += Acc(x[first + p * info.channels]); }
    y[i] = sum / Acc(info.pixels);
}
