// Batch normalisation, backward: the gradient of the input.
//
//   dx = a (g - S0 / P - xhat * S1 / P),  xhat = (x - mean) / sqrt(var + eps),  a = gamma / sqrt(var + eps)
//   g = dy where a (x - mean) + beta > 0 if a ReLU followed without a residual, else dy (masked already)
//
// Layouts    dy, x, dx [P, C] (NHWC, P pixels of all images);  statistics [2, C]: mean, var;  gamma, beta [C];
//            totals: S0 [C], then S1 from `second` on.
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
    mask: u32,     // 1: by a (x - mean) + beta
    eps: f32,
    second: u32,   // in values
}

@group(0) @binding(0) var<storage, read_write> dy: array<Values>;
@group(0) @binding(1) var<storage, read_write> x: array<Values>;
@group(0) @binding(2) var<storage, read_write> statistics: array<Values>;
@group(0) @binding(3) var<storage, read_write> gamma: array<Values>;
@group(0) @binding(4) var<storage, read_write> beta: array<Values>;
@group(0) @binding(5) var<storage, read_write> totals: array<Values>;
@group(0) @binding(6) var<storage, read_write> dx: array<Values>;
@group(0) @binding(7) var<storage, read_write> info: Info;

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let id = wid.x + wid.y * grid.x;
    let tiles = (info.width + COLS - 1u) / COLS;
    let block = id / tiles;
    let c = (id % tiles) * COLS + lid % COLS;
    let lane = lid / COLS;
    if block >= info.count || c >= info.width || lane >= LANES { return; }
    let end = min((block + 1u) * info.size, info.pixels);

    let n = f32(info.pixels);
    let mean = statistics[c];
    let rstd = inverseSqrt(statistics[info.width + c] + info.eps);
    let a = gamma[c] * rstd;
    let shift = beta[c];
    let m0 = totals[c] / n;
    let m1 = totals[info.second + c] / n * rstd;
    for (var p = block * info.size + lane; p < end; p += LANES) {
        let at = p * info.width + c;
        let d = x[at] - mean;
        var g = dy[at];
        if info.mask == 1u { g = select(Values(0.0), g, a * d + shift > Values(0.0)); }
        dx[at] = a * (g - m0 - d * m1);
    }
}
