// Batch normalisation: mean and variance of each channel from those of its blocks (Chan, Golub and LeVeque 1979).
//
//   mean = sum n_b mean_b / P,  var = (sum M2_b + n_b (mean_b - mean)^2) / P  (biased),  n_b pixels of P in block b
//
// Layouts    partials [blocks, 2, C]: mean, M2;  statistics [2, C]: mean, var.
// Workgroup  some channels: each invocation its share of the blocks of one channel, then a tree over them, twice.
// Template   wg: invocations, a power of two;  cols: channels of a workgroup, a power of two.

const WG: u32 = {{ wg }}u;
const COLS: u32 = {{ cols }}u;
const LANES: u32 = WG / COLS;

struct Info {
    channels: u32,
    pixels: u32,
    size: u32,     // pixels of a block
    count: u32,    // blocks
}

@group(0) @binding(0) var<storage, read_write> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> statistics: array<f32>;
@group(0) @binding(2) var<storage, read_write> info: Info;

var<workgroup> tree: array<f32, WG>;

/// Sum of `value` over the invocations of a channel, in all of them.
fn reduce(lid: u32, value: f32) -> f32 {
    tree[lid] = value;
    workgroupBarrier();
    for (var s = WG / 2u; s >= COLS; s >>= 1u) {
        if lid < s { tree[lid] += tree[lid + s]; }
        workgroupBarrier();
    }
    let total = tree[lid % COLS];
    workgroupBarrier();
    return total;
}

fn pixels_of(block: u32) -> f32 {
    return f32(min(info.size, info.pixels - block * info.size));
}

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let c = wid.x * COLS + lid % COLS;
    let lane = lid / COLS;
    let here = c < info.channels;
    let C = info.channels;
    let n = f32(info.pixels);

    // About the first block's mean: a large one costs no digits.
    var pivot = 0.0;
    var sum = 0.0;
    if here {
        pivot = partials[c];
        for (var b = lane; b < info.count; b += LANES) { sum += pixels_of(b) * (partials[2u * b * C + c] - pivot); }
    }
    let mean = pivot + reduce(lid, sum) / n;

    sum = 0.0;
    if here {
        for (var b = lane; b < info.count; b += LANES) {
            let d = partials[2u * b * C + c] - mean;
            sum += partials[(2u * b + 1u) * C + c] + pixels_of(b) * d * d;
        }
    }
    let variance = reduce(lid, sum) / n;
    if here && lane == 0u {
        statistics[c] = mean;
        // Rounding can take it below 0; NaN stays NaN.
        statistics[C + c] = select(variance, 0.0, variance < 0.0);
    }
}
