// AdaGN, forward.
//
//   out = dropout(act(u)),  u = A * xhat + D,  xhat = (h - mean) * rstd
//   A = z_s * t_s * gamma,  D = z_s * (t_s * beta + t_b) + z_b      (without modulation: A = gamma, D = beta)
//
// Layouts    h, out [B, H*W, C] (NHWC);  t_mod, z_mod [B, 2C] scale | shift;  gamma, beta [C];
//            saved [B, C] of (A, D, mean, rstd) for the backward pass.
// Workgroup  one image's group: reads it once (what exceeds the cache a second and third time), writes it once.
//            Invocations lie along the group's channels first, then along pixels, as memory does.
// Template   wg: invocations, a power of two;  cache: floats of h kept in workgroup memory.

const WG: u32 = {{ wg }}u;
const CACHE: u32 = {{ cache }}u;

struct Info {
    groups: u32,       // B * G, the number of workgroups that have work
    channels: u32,     // C
    group_size: u32,   // C / G
    pixels: u32,       // H * W
    flags: u32,        // 1: modulated, 2: SiLU, 4: dropout
    eps: f32,
    threshold: u32,    // hashes below are dropped
    keep_scale: f32,   // 1 / (1 - p)
    key: vec2<u32>,
}

@group(0) @binding(0) var<storage, read_write> h: array<f32>;
@group(0) @binding(1) var<storage, read_write> t_mod: array<f32>;
@group(0) @binding(2) var<storage, read_write> z_mod: array<f32>;
@group(0) @binding(3) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(4) var<storage, read_write> beta: array<f32>;
@group(0) @binding(5) var<storage, read_write> result: array<f32>;
@group(0) @binding(6) var<storage, read_write> saved: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> info: Info;

var<workgroup> cache: array<f32, CACHE>;
var<workgroup> partial: array<f32, WG>;

fn pcg(x: u32) -> u32 {
    let state = x * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

/// Sum of `value` over the workgroup, the same bits in every invocation.
fn reduce(lid: u32, value: f32) -> f32 {
    partial[lid] = value;
    workgroupBarrier();
    for (var s = WG / 2u; s > 0u; s >>= 1u) {
        if lid < s { partial[lid] += partial[lid + s]; }
        workgroupBarrier();
    }
    let total = partial[0];
    workgroupBarrier();
    return total;
}

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let bg = wid.x + wid.y * grid.x;
    if bg >= info.groups { return; }
    let C = info.channels;
    let size = info.group_size;
    let HW = info.pixels;
    let per_image = C / size;
    let b = bg / per_image;
    let first = (bg % per_image) * size;
    let base = b * HW * C + first;
    let cols = min(size, WG);
    let lanes = WG / cols;
    let col = lid % cols;
    // Invocations beyond the last whole lane have no pixels and take no part in the sums over lanes.
    let lane = select(0x7fff0000u, lid / cols, lid < lanes * cols);
    let n = f32(size * HW);

    var slot = lid;
    var sum = 0.0;
    for (var k = col; k < size; k += cols) {
        for (var p = lane; p < HW; p += lanes) {
            let x = h[base + p * C + k];
            if slot < CACHE { cache[slot] = x; }
            slot += WG;
            sum += x;
        }
    }
    let mean = reduce(lid, sum) / n;

    slot = lid;
    sum = 0.0;
    for (var k = col; k < size; k += cols) {
        for (var p = lane; p < HW; p += lanes) {
            var x: f32;
            if slot < CACHE { x = cache[slot]; } else { x = h[base + p * C + k]; }
            slot += WG;
            let d = x - mean;
            sum += d * d;
        }
    }
    let rstd = inverseSqrt(reduce(lid, sum) / n + info.eps);

    slot = lid;
    for (var k = col; k < size; k += cols) {
        let c = first + k;
        var A = gamma[c];
        var D = beta[c];
        if (info.flags & 1u) != 0u {
            let m = b * 2u * C + c;
            A = t_mod[m] * A;
            D = t_mod[m] * D + t_mod[m + C];
            A = z_mod[m] * A;
            D = z_mod[m] * D + z_mod[m + C];
        }
        if lane == 0u { saved[b * C + c] = vec4<f32>(A, D, mean, rstd); }
        for (var p = lane; p < HW; p += lanes) {
            let at = base + p * C + k;
            var x: f32;
            if slot < CACHE { x = cache[slot]; } else { x = h[at]; }
            slot += WG;
            var u = A * ((x - mean) * rstd) + D;
            if (info.flags & 2u) != 0u { u = u / (1.0 + exp(-u)); }
            if (info.flags & 4u) != 0u {
                let dropped = pcg(pcg(at ^ info.key.x) ^ info.key.y) < info.threshold;
                u = select(u * info.keep_scale, 0.0, dropped);
            }
            result[at] = u;
        }
    }
}
