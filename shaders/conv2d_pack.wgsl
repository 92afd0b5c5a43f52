// Packs convolution weights as the convolution shaders read them, or those of the convolution that
// computes the gradient of the input.
//
//   forward:   packed[t][c][o] = w[o][c][t]
//   gradient:  packed[t][o][c] = w[o][c][taps - 1 - t]
//
// The shaders with cooperative matrices take both the other way round: packed[t][o][c] for the
// forward pass, packed[t][c][o] for the gradient.
//
// With upsampling, w is [O, C, 3, 3], taps is 16, and the 4x4 kernel of
// src/kernels/conv2d/upsample.rs takes the place of w, flipped: (w0, w0 + w1, w1 + w2, w2) along
// either side.
//
// Layouts    w [O, C, taps], or [C, O] of a single tap;  packed [taps, rows, cols4] of four columns
//            each, where columns beyond the last are 0.
// Invocation one group of four columns.
// Template   wg: invocations;  upsample;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
struct Info {
    total: u32,     // taps * rows * cols4
    rows: u32,      // input channels of the convolution that follows; for matrices its output ones
    cols: u32,      // the others
    taps: u32,
    transpose: u32, // 1: rows and columns are ordered in w as in packed; 0: the other way round
    reverse: u32,   // 1: taps from the last to the first
}

@group(0) @binding(0) var<storage, read_write> w: array<Acc>;
@group(0) @binding(1) var<storage, read_write> packed: array<Elem4>;
@group(0) @binding(2) var<uniform> info: Info;

/// Returns tap `t` of kernel number `i`.
fn tap_of(i: u32, t: u32) -> Acc {
{% if upsample %}
    let row = t / 4u;
    let col = t % 4u;
    var sum = Acc(0.0);
    for (var k = max(row, 1u) - 1u; k < min(row + 1u, 3u); k++) {
        for (var l = max(col, 1u) - 1u; l < min(col + 1u, 3u); l++) { sum += w[i * 9u + k * 3u + l]; }
    }
    return sum;
{% else %}
    return w[i * info.taps + t];
{% endif %}
}

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let i = (wid.x + wid.y * grid.x) * {{ wg }}u + lid;
    if i >= info.total { return; }
    let cols4 = (info.cols + 3u) / 4u;
    let col = i % cols4 * 4u;
    let row = i / cols4 % info.rows;
    let tap = i / (cols4 * info.rows);
    var values = Acc4(0.0);
    for (var k = 0u; k < 4u; k++) {
        let c = col + k;
        if c < info.cols {
            let kernel = select(c * info.rows + row, row * info.cols + c, info.transpose == 1u);
            values[k] = tap_of(kernel, select(tap, info.taps - 1u - tap, info.reverse == 1u));
        }
    }
    packed[i] = Elem4({{ factor("values") }});
}
