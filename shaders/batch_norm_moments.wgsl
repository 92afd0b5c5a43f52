// Batch normalisation: mean and variance of each channel, block by block.
//
//   mean of a block of pixels,  M2 = sum over the block of (x - mean)^2           for each channel
//
// Layouts    x [P, C] (NHWC, P pixels of all images), stored as S;  partials [blocks, 2, C]: mean,
//            M2. In units of four channels, or of one.
// Workgroup  one block of pixels, by as many channels as the workgroup is wide. Each invocation
//            sums some pixels of one unit, then a tree adds up the sums of the unit's invocations.
//            All sums are of differences from the block's first pixel, so that a mean that is large
//            compared with the deviation costs no precision.
// Template   wg: invocations;  cols: invocations along the channels;  four: whether S and T are
//            four channels rather than one;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/tree.wgsl" import tree %}
{% from "shared/columns.wgsl" import declare, place %}
{{ declare(wg, cols, four) }}

struct Info {
    width: u32,    // C in units
    pixels: u32,
    size: u32,     // pixels of a block
    count: u32,    // blocks
}

@group(0) @binding(0) var<storage, read_write> x: array<S>;
@group(0) @binding(1) var<storage, read_write> partials: array<T>;
@group(0) @binding(2) var<uniform> info: Info;

var<workgroup> sums: array<T, {{ wg }}>;
var<workgroup> squares: array<T, {{ wg }}>;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
{{ place() }}
    if block >= info.count { return; }
    let first = block * info.size;
    let end = min(first + info.size, info.pixels);
    let here = c < info.width && lane < LANES;

    var pivot = T(0.0);
    var sum = T(0.0);
    var square = T(0.0);
    if here {
        pivot = T(x[first * info.width + c]);
        for (var p = first + lane; p < end; p += LANES) {
            let d = T(x[p * info.width + c]) - pivot;
            sum += d;
            square += d * d;
        }
    }
    sums[lid] = sum;
    squares[lid] = square;
{{ tree(["sums", "squares"], wg // cols, cols) }}
    if here && lane == 0u {
        let offset = sums[lid] / Acc(end - first);
        let at = 2u * block * info.width + c;
        partials[at] = pivot + offset;
        partials[at + info.width] = squares[lid] - sums[lid] * offset;
    }
}
