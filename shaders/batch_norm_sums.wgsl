// Batch normalisation, backward: sums over the pixels, in parts.
//
//   g = dy where the ReLU let something through: where y > 0 (with a residual), or a (x - mean) + beta > 0 (without)
//   S0 = sum over a block of pixels of g,  S1 = sum of g * xhat,  xhat = (x - mean) / sqrt(var + eps)       for each channel
//
// Layouts    dy, x, y, g [P, C] (NHWC, P pixels of all images);  statistics [2, C]: mean, var;  gamma, beta [C];
//            partials [blocks, 2, C]: S0, S1.
//            With a residual `given` is y and `other` receives g, its gradient; without `given` is gamma and `other` beta.
//            Both are left alone without a ReLU.
// Workgroup  one block of pixels, as many channels as it is wide: each invocation its share of the pixels of one channel, then a
//            tree over the invocations of the channel.
// Template   wg: invocations;  cols: those along the channels;  lanes: pixels at a time;  reach: half of the first power of two
//            that isn't below lanes;  values: f32, or vec4<f32> for four channels at a time.

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

@group(0) @binding(0) var<storage, read_write> dy: array<Values>;
@group(0) @binding(1) var<storage, read_write> x: array<Values>;
@group(0) @binding(2) var<storage, read_write> statistics: array<Values>;
@group(0) @binding(3) var<storage, read_write> given: array<Values>;
@group(0) @binding(4) var<storage, read_write> other: array<Values>;
@group(0) @binding(5) var<storage, read_write> partials: array<Values>;
@group(0) @binding(6) var<storage, read_write> info: Info;

var<workgroup> sums: array<Values, {{ wg }}>;
var<workgroup> products: array<Values, {{ wg }}>;

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let id = wid.x + wid.y * grid.x;
    let tiles = (info.width + COLS - 1u) / COLS;
    let block = id / tiles;
    let c = (id % tiles) * COLS + lid % COLS;
    let lane = lid / COLS;
    if block >= info.count { return; }
    let first = block * info.size;
    let end = min(first + info.size, info.pixels);
    let here = c < info.width && lane < LANES;
    let by_result = info.flags == 3u;
    let by_input = info.flags == 1u;

    var sum = Values(0.0);
    var product = Values(0.0);
    var rstd = Values(0.0);
    if here {
        let mean = statistics[c];
        rstd = inverseSqrt(statistics[info.width + c] + info.eps);
        var a = Values(0.0);
        var shift = Values(0.0);
        if by_input {
            a = given[c] * rstd;
            shift = other[c];
        }
        for (var p = first + lane; p < end; p += LANES) {
            let at = p * info.width + c;
            let d = x[at] - mean;
            var g = dy[at];
            if by_input { g = select(Values(0.0), g, a * d + shift > Values(0.0)); }
            if by_result {
                g = select(Values(0.0), g, given[at] > Values(0.0));
                other[at] = g;
            }
            sum += g;
            product += g * d;
        }
    }
    sums[lid] = sum;
    products[lid] = product * rstd;
    workgroupBarrier();
    for (var reach = {{ reach }}u; reach > 0u; reach >>= 1u) {
        if lane < reach && lane + reach < LANES {
            sums[lid] += sums[lid + reach * COLS];
            products[lid] += products[lid + reach * COLS];
        }
        workgroupBarrier();
    }
    if here && lane == 0u {
        let at = 2u * block * info.width + c;
        partials[at] = sums[lid];
        partials[at + info.width] = products[lid];
    }
}
