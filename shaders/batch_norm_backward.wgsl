// Batch normalisation, backward: the gradient of the input.
//
//   dx = a (g - S0 / P - xhat * S1 / P)
//   xhat = (x - mean) / sqrt(var + eps),  a = gamma / sqrt(var + eps)
//   if a ReLU followed without a residual: g = dy where a (x - mean) + beta > 0, else 0
//   otherwise: g = dy (masked already)
//
// Layouts    dy, x, dx [P, C] (NHWC, P pixels of all images), stored as S;  statistics [2, C]:
//            mean, var;  gamma, beta [C];  totals: S0 [C], then S1 from `second` on. In units of
//            four channels, or of one.
// Workgroup  one block of pixels, by as many channels as the workgroup is wide. Each invocation
//            processes some pixels of one unit.
// Template   wg: invocations;  cols: invocations along the channels;  four: whether S and T are
//            four channels rather than one;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/columns.wgsl" import declare, place %}
{{ declare(wg, cols, four) }}

struct Info {
    width: u32,    // C in units
    pixels: u32,
    size: u32,     // pixels of a block
    count: u32,    // blocks
    mask: u32,     // 1: by a (x - mean) + beta
    eps: f32,
    second: u32,   // in units
}

@group(0) @binding(0) var<storage, read_write> dy: array<S>;
@group(0) @binding(1) var<storage, read_write> x: array<S>;
@group(0) @binding(2) var<storage, read_write> statistics: array<T>;
@group(0) @binding(3) var<storage, read_write> gamma: array<T>;
@group(0) @binding(4) var<storage, read_write> beta: array<T>;
@group(0) @binding(5) var<storage, read_write> totals: array<T>;
@group(0) @binding(6) var<storage, read_write> dx: array<S>;
@group(0) @binding(7) var<uniform> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
{{ place() }}
    if block >= info.count || c >= info.width || lane >= LANES { return; }
    let end = min((block + 1u) * info.size, info.pixels);

    let n = Acc(info.pixels);
    let mean = statistics[c];
    let rstd = inverseSqrt(statistics[info.width + c] + info.eps);
    let a = gamma[c] * rstd;
    let shift = beta[c];
    let m0 = totals[c] / n;
    let m1 = totals[info.second + c] / n * rstd;
    for (var p = block * info.size + lane; p < end; p += LANES) {
        let at = p * info.width + c;
        let d = T(x[at]) - mean;
        var g = T(dy[at]);
        if info.mask == 1u { g = select(T(0.0), g, a * d + shift > T(0.0)); }
        dx[at] = S(a * (g - m0 - d * m1));
    }
}
