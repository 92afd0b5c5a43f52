// Batch normalisation by given statistics, with the residual and the ReLU that may follow it.
//
//   y = relu(a (x - mean) + beta + residual),  a = gamma / sqrt(var + eps)
//
// Layouts    x, residual, y [P, C] (NHWC, P pixels of all images);  statistics [2, C]: mean, var;  gamma, beta [C].
// Workgroup  one block of pixels, as many channels as it is wide; each invocation some pixels of one channel.
// Template   wg: invocations;  cols: those along the channels;  lanes: pixels at a time;  vec4: whether a value is four
//            channels.

const COLS: u32 = {{ cols }}u;
const LANES: u32 = {{ lanes }}u;
alias Values = {{ "vec4<f32>" if vec4 else "f32" }};

struct Info {
    width: u32,    // C in values
    pixels: u32,
    size: u32,     // pixels of a block
    count: u32,    // blocks
    flags: u32,    // 1: ReLU, 2: residual
    eps: f32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Values>;
@group(0) @binding(1) var<storage, read_write> residual: array<Values>;
@group(0) @binding(2) var<storage, read_write> statistics: array<Values>;
@group(0) @binding(3) var<storage, read_write> gamma: array<Values>;
@group(0) @binding(4) var<storage, read_write> beta: array<Values>;
@group(0) @binding(5) var<storage, read_write> y: array<Values>;
@group(0) @binding(6) var<storage, read_write> info: Info;

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let id = wid.x + wid.y * grid.x;
    let tiles = (info.width + COLS - 1u) / COLS;
    let block = id / tiles;
    let c = (id % tiles) * COLS + lid % COLS;
    let lane = lid / COLS;
    if block >= info.count || c >= info.width || lane >= LANES { return; }
    let end = min((block + 1u) * info.size, info.pixels);

    let mean = statistics[c];
    let a = gamma[c] * inverseSqrt(statistics[info.width + c] + info.eps);
    let shift = beta[c];
    for (var p = block * info.size + lane; p < end; p += LANES) {
        let at = p * info.width + c;
        var u = a * (x[at] - mean) + shift;
        if (info.flags & 2u) != 0u { u += residual[at]; }
        // Not max(), which may turn NaN into 0.
        if (info.flags & 1u) != 0u { u = select(u, Values(0.0), u < Values(0.0)); }
        y[at] = u;
    }
}
