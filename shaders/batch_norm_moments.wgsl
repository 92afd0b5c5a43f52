// Batch normalisation: mean and variance of each channel, in parts.
//
//   mean of a block of pixels,  M2 = sum over the block of (x - mean)^2                                     for each channel
//
// Layouts    x [P, C] (NHWC, P pixels of all images);  partials [blocks, 2, C]: mean, M2.
// Workgroup  one block of pixels, as many channels as it is wide: each invocation its share of the pixels of one channel, then a
//            tree over the invocations of the channel. All sums are about the block's first pixel, so that a mean that is
//            large against the deviation costs no digits.
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
}

@group(0) @binding(0) var<storage, read_write> x: array<Values>;
@group(0) @binding(1) var<storage, read_write> partials: array<Values>;
@group(0) @binding(2) var<storage, read_write> info: Info;

var<workgroup> sums: array<Values, {{ wg }}>;
var<workgroup> squares: array<Values, {{ wg }}>;

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

    var pivot = Values(0.0);
    var sum = Values(0.0);
    var square = Values(0.0);
    if here {
        pivot = x[first * info.width + c];
        for (var p = first + lane; p < end; p += LANES) {
            let d = x[p * info.width + c] - pivot;
            sum += d;
            square += d * d;
        }
    }
    sums[lid] = sum;
    squares[lid] = square;
    workgroupBarrier();
    for (var reach = {{ reach }}u; reach > 0u; reach >>= 1u) {
        if lane < reach && lane + reach < LANES {
            sums[lid] += sums[lid + reach * COLS];
            squares[lid] += squares[lid + reach * COLS];
        }
        workgroupBarrier();
    }
    if here && lane == 0u {
        let offset = sums[lid] / f32(end - first);
        let at = 2u * block * info.width + c;
        partials[at] = pivot + offset;
        partials[at + info.width] = squares[lid] - sums[lid] * offset;
    }
}
