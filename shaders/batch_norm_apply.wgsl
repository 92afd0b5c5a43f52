// Batch normalisation by given statistics, with the residual and the ReLU that may follow it.
//
//   y = relu(a (x - mean) + beta + residual),  a = gamma / sqrt(var + eps)
//
// Layouts    x, residual, y [P, C] (NHWC, P pixels of all images), stored as S;  statistics [2, C]:
//            mean, var;  gamma, beta [C]. In units of four channels, or of one.
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
    flags: u32,    // 1: ReLU, 2: residual
    eps: f32,
}

@group(0) @binding(0) var<storage, read_write> x: array<S>;
@group(0) @binding(1) var<storage, read_write> residual: array<S>;
@group(0) @binding(2) var<storage, read_write> statistics: array<T>;
@group(0) @binding(3) var<storage, read_write> gamma: array<T>;
@group(0) @binding(4) var<storage, read_write> beta: array<T>;
@group(0) @binding(5) var<storage, read_write> y: array<S>;
@group(0) @binding(6) var<uniform> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
{{ place() }}
    if block >= info.count || c >= info.width || lane >= LANES { return; }
    let end = min((block + 1u) * info.size, info.pixels);

    let mean = statistics[c];
    let a = gamma[c] * inverseSqrt(statistics[info.width + c] + info.eps);
    let shift = beta[c];
    for (var p = block * info.size + lane; p < end; p += LANES) {
        let at = p * info.width + c;
        var u = a * (T(x[at]) - mean) + shift;
        if (info.flags & 2u) != 0u { u += T(residual[at]); }
        // Not max(), which may turn NaN into 0.
        if (info.flags & 1u) != 0u { u = select(u, T(0.0), u < T(0.0)); }
        y[at] = S(u);
    }
}
