// Batch normalisation, backward: sums over all pixels from those of the blocks. They are the gradients of beta and gamma.
//
//   S0 = sum of g (d_beta),  S1 = sum of g * xhat (d_gamma)                                                 for each channel
//
// Layouts    partials [blocks, 2, C]: S0, S1;  totals: S0 [C], then S1 from `second` on.
// Workgroup  some channels: each invocation its share of the blocks of one channel, then a tree over them.
// Template   wg: invocations, a power of two;  cols: channels of a workgroup, a power of two.

const WG: u32 = {{ wg }}u;
const COLS: u32 = {{ cols }}u;
const LANES: u32 = WG / COLS;

struct Info {
    channels: u32,
    count: u32,    // blocks
    second: u32,
}

@group(0) @binding(0) var<storage, read_write> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> totals: array<f32>;
@group(0) @binding(2) var<storage, read_write> info: Info;

var<workgroup> tree: array<vec2<f32>, WG>;

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let c = wid.x * COLS + lid % COLS;
    let lane = lid / COLS;
    let here = c < info.channels;
    let C = info.channels;
    var sum = vec2<f32>(0.0);
    if here {
        for (var b = lane; b < info.count; b += LANES) {
            let at = 2u * b * C + c;
            sum += vec2<f32>(partials[at], partials[at + C]);
        }
    }
    tree[lid] = sum;
    workgroupBarrier();
    for (var s = WG / 2u; s >= COLS; s >>= 1u) {
        if lid < s { tree[lid] += tree[lid + s]; }
        workgroupBarrier();
    }
    if here && lane == 0u {
        totals[c] = tree[lid].x;
        totals[info.second + c] = tree[lid].y;
    }
}
