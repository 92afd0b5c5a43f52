// Gradient of convolution weights from the partial sums over shares of the pixels (split-K), added
// in the order of the shares.
//
//   dw[o, c, t] = sum over s of partial[s, t, c, o]
//
// With upsampling, partial is that of the 4x4 kernel of src/kernels/conv2d/upsample.rs, from the
// result's channels c to the input's o: dw[c, o, k] is the sum of its taps 2 - k and 3 - k along
// either side.
//
// Layouts    partial [shares, taps, C, O / 4] of vec4 (the last ones padded);  dw [O, C, taps] or
//            [C, O], with upsampling [C, O, 9].
// Invocation one group of four channels o.
// Template   wg: invocations;  upsample;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
struct Info {
    total: u32,        // taps of dw * C * O / 4, rounded up
    channels: u32,     // C
    out_channels: u32, // O
    taps: u32,         // of partial
    shares: u32,
    transposed: u32,   // 1: dw [C, O], of a single tap
}

@group(0) @binding(0) var<storage, read_write> partial: array<Acc4>;
@group(0) @binding(1) var<storage, read_write> dw: array<Acc>;
@group(0) @binding(2) var<uniform> info: Info;

/// Returns the sum over the shares of the four values at `at` in each share.
fn total(at: u32) -> Acc4 {
    let share = (info.out_channels + 3u) / 4u * info.channels * info.taps;
    var sum = Acc4(0.0);
    for (var s = 0u; s < info.shares; s++) { sum += partial[s * share + at]; }
    return sum;
}

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let i = (wid.x + wid.y * grid.x) * {{ wg }}u + lid;
    if i >= info.total { return; }
    let out4 = (info.out_channels + 3u) / 4u;
    let o = i % out4 * 4u;
    let c = i / out4 % info.channels;
    let t = i / (out4 * info.channels);
{% if upsample %}
    let tap = out4 * info.channels;
    let first = ((2u - t / 3u) * 4u + 2u - t % 3u) * tap + i % tap;
    let sum = (total(first) + total(first + tap)) + (total(first + 4u * tap) + total(first + 5u * tap));
    for (var k = 0u; k < 4u; k++) {
        if o + k < info.out_channels { dw[(c * info.out_channels + o + k) * 9u + t] = sum[k]; }
    }
{% else %}
    let sum = total(i);
    for (var k = 0u; k < 4u; k++) {
        if o + k < info.out_channels {
            let at = ((o + k) * info.channels + c) * info.taps + t;
            dw[select(at, c * info.out_channels + o + k, info.transposed == 1u)] = sum[k];
        }
    }
{% endif %}
}
