// AdaGN, backward through the activation and the normalisation.
//
//   g = d_out * mask * act'(u),  u = A * xhat + D
//   S0 = sum over pixels of g,  S1 = sum over pixels of g * xhat                               for each (b, c)
//   dh = rstd * (A g - (sum over the group of A g) / n - xhat * (sum over the group of A g xhat) / n)
//
// Layouts    d_out, h, dh [B, H*W, C] (NHWC);  saved [B, C] of (A, D, mean, rstd);  sums [B, C] of (S0, S1).
// Workgroup  one image's group: reads d_out and h once (what exceeds the cache twice), writes dh once.
// Template   wg: invocations, a power of two;  cache: elements whose g and xhat are kept in workgroup memory.

const WG: u32 = {{ wg }}u;
const CACHE: u32 = {{ cache }}u;

struct Info {
    groups: u32,
    channels: u32,
    group_size: u32,
    pixels: u32,
    flags: u32,
    eps: f32,
    threshold: u32,
    keep_scale: f32,
    key: vec2<u32>,
}

@group(0) @binding(0) var<storage, read_write> d_out: array<f32>;
@group(0) @binding(1) var<storage, read_write> h: array<f32>;
@group(0) @binding(2) var<storage, read_write> saved: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dh: array<f32>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> info: Info;

var<workgroup> cache: array<vec2<f32>, CACHE>;
var<workgroup> partial: array<vec2<f32>, WG>;

fn pcg(x: u32) -> u32 {
    let state = x * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

/// (g, xhat) of element `at`, whose channel has `s` = (A, D, mean, rstd).
fn gradient(at: u32, s: vec4<f32>) -> vec2<f32> {
    let xhat = (h[at] - s.z) * s.w;
    var g = d_out[at];
    if (info.flags & 4u) != 0u {
        let dropped = pcg(pcg(at ^ info.key.x) ^ info.key.y) < info.threshold;
        g = select(g * info.keep_scale, 0.0, dropped);
    }
    if (info.flags & 2u) != 0u {
        let u = s.x * xhat + s.y;
        let sigma = 1.0 / (1.0 + exp(-u));
        g *= sigma * (1.0 + u * (1.0 - sigma));
    }
    return vec2<f32>(g, xhat);
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

    // Per channel: each lane its share of the pixels, then a tree over the lanes of the channel.
    var slot = lid;
    var group = vec2<f32>(0.0);
    for (var k0 = 0u; k0 < size; k0 += cols) {
        let k = k0 + col;
        let here = k < size;
        let s = saved[b * C + first + select(0u, k, here)];
        var acc = vec2<f32>(0.0);
        if here {
            for (var p = lane; p < HW; p += lanes) {
                let gx = gradient(base + p * C + k, s);
                if slot < CACHE { cache[slot] = gx; }
                slot += WG;
                acc += vec2<f32>(gx.x, gx.x * gx.y);
            }
        }
        partial[lid] = acc;
        workgroupBarrier();
        for (var width = {{ wg }}u / 2u; width > 0u; width >>= 1u) {
            if lane < width && lane + width < lanes { partial[lid] += partial[lid + width * cols]; }
            workgroupBarrier();
        }
        if here && lane == 0u {
            sums[b * C + first + k] = partial[lid];
            group += s.x * partial[lid];
        }
        workgroupBarrier();
    }
    partial[lid] = group;
    workgroupBarrier();
    for (var width = WG / 2u; width > 0u; width >>= 1u) {
        if lid < width { partial[lid] += partial[lid + width]; }
        workgroupBarrier();
    }
    let mean = partial[0] / f32(size * HW);

    slot = lid;
    for (var k = col; k < size; k += cols) {
        let s = saved[b * C + first + k];
        for (var p = lane; p < HW; p += lanes) {
            let at = base + p * C + k;
            var gx: vec2<f32>;
            if slot < CACHE { gx = cache[slot]; } else { gx = gradient(at, s); }
            slot += WG;
            dh[at] = s.w * (s.x * gx.x - mean.x - gx.y * mean.y);
        }
    }
}
