// Convolution weights as the convolution shaders read them, or those of the convolution that gives the gradient of the input.
//
//   forward:   packed[t][c][o] = w[o][c][t]
//   gradient:  packed[t][o][c] = w[o][c][taps - 1 - t]
//
// Layouts    w [O, C, taps];  packed [taps, rows, cols4] of four columns each, columns beyond the last are 0.
// Invocation one group of four columns.
// Template   wg: invocations.

struct Info {
    total: u32,     // taps * rows * cols4
    rows: u32,      // input channels of the convolution to come
    cols: u32,      // its output channels
    taps: u32,
    transpose: u32, // 1: for the gradient of the input
}

@group(0) @binding(0) var<storage, read_write> w: array<f32>;
@group(0) @binding(1) var<storage, read_write> packed: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let i = (wid.x + wid.y * grid.x) * {{ wg }}u + lid;
    if i >= info.total { return; }
    let cols4 = (info.cols + 3u) / 4u;
    let col = i % cols4 * 4u;
    let row = i / cols4 % info.rows;
    let tap = i / (cols4 * info.rows);
    var values = vec4<f32>(0.0);
    for (var k = 0u; k < 4u; k++) {
        let c = col + k;
        if c < info.cols {
            if info.transpose == 1u {
                values[k] = w[(row * info.cols + c) * info.taps + info.taps - 1u - tap];
            } else {
                values[k] = w[(c * info.rows + row) * info.taps + tap];
            }
        }
    }
    packed[i] = values;
}
