// Gradient of convolution weights from the sums over shares of the pixels, in the order of the shares.
//
//   dw[o, c, t] = sum over s of partial[s, t, c, o]
//
// Layouts    partial [shares, taps, C, O / 4] of four (the last ones padded);  dw [O, C, taps].
// Invocation one group of four o.
// Template   wg: invocations.

struct Info {
    total: u32,        // taps * C * O / 4, rounded up
    channels: u32,     // C
    out_channels: u32, // O
    taps: u32,
    shares: u32,
}

@group(0) @binding(0) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> dw: array<f32>;
@group(0) @binding(2) var<storage, read_write> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let i = (wid.x + wid.y * grid.x) * {{ wg }}u + lid;
    if i >= info.total { return; }
    var sum = vec4<f32>(0.0);
    for (var s = 0u; s < info.shares; s++) { sum += partial[s * info.total + i]; }
    let out4 = (info.out_channels + 3u) / 4u;
    let o = i % out4 * 4u;
    let c = i / out4 % info.channels;
    let t = i / (out4 * info.channels);
    for (var k = 0u; k < 4u; k++) {
        if o + k < info.out_channels { dw[((o + k) * info.channels + c) * info.taps + t] = sum[k]; }
    }
}
