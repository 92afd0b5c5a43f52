// Batch normalisation, backward: partial sums over the pixels.
//
//   g = dy where the ReLU passes it, else 0
//     (with a residual: where y > 0; without: where a (x - mean) + beta > 0)
//   S0 = sum over a block of pixels of g,  S1 = sum of g * xhat                   for each channel
//   xhat = (x - mean) / sqrt(var + eps)
//
// Layouts    dy, x, y, g [P, C] (NHWC, P pixels of all images), stored as S;  statistics [2, C]:
//            mean, var;  gamma, beta [C];  partials [blocks, 2, C]: S0, S1. In units of four
//            channels, or of one.
{% if by_result %}
//            `given` is y, and `other` receives g, the gradient of the residual.
{% else %}
//            `given` is gamma and `other` is beta; without a ReLU neither is read.
{% endif %}
// Workgroup  one block of pixels, by as many channels as the workgroup is wide. Each invocation
//            sums some pixels of one unit, then a tree adds up the sums of the unit's invocations.
// Template   wg: invocations;  cols: invocations along the channels;  four: whether S and T are
//            four channels rather than one;  by_result: whether y tells where the ReLU passes the
//            gradient;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/tree.wgsl" import tree %}
{% from "shared/columns.wgsl" import declare, place %}
{{ declare(wg, cols, four) }}
{% set G = "S" if by_result else "T" %}

struct Info {
    width: u32,    // C in units
    pixels: u32,
    size: u32,     // pixels of a block
    count: u32,    // blocks
    mask: u32,     // 1: by a (x - mean) + beta
    eps: f32,
}

@group(0) @binding(0) var<storage, read_write> dy: array<S>;
@group(0) @binding(1) var<storage, read_write> x: array<S>;
@group(0) @binding(2) var<storage, read_write> statistics: array<T>;
@group(0) @binding(3) var<storage, read_write> given: array<{{ G }}>;
@group(0) @binding(4) var<storage, read_write> other: array<{{ G }}>;
@group(0) @binding(5) var<storage, read_write> partials: array<T>;
@group(0) @binding(6) var<uniform> info: Info;

var<workgroup> sums: array<T, {{ wg }}>;
var<workgroup> products: array<T, {{ wg }}>;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
{{ place() }}
    if block >= info.count { return; }
    let first = block * info.size;
    let end = min(first + info.size, info.pixels);
    let here = c < info.width && lane < LANES;

    var sum = T(0.0);
    var product = T(0.0);
    var rstd = T(0.0);
    if here {
        let mean = statistics[c];
        rstd = inverseSqrt(statistics[info.width + c] + info.eps);
{% if not by_result %}
        var a = T(0.0);
        var shift = T(0.0);
        if info.mask == 1u {
            a = given[c] * rstd;
            shift = other[c];
        }
{% endif %}
        for (var p = first + lane; p < end; p += LANES) {
            let at = p * info.width + c;
            let d = T(x[at]) - mean;
            var g = T(dy[at]);
{% if by_result %}
            g = select(T(0.0), g, T(given[at]) > T(0.0));
            other[at] = S(g);
{% else %}
            if info.mask == 1u { g = select(T(0.0), g, a * d + shift > T(0.0)); }
{% endif %}
            sum += g;
            product += g * d;
        }
    }
    sums[lid] = sum;
    products[lid] = product * rstd;
{{ tree(["sums", "products"], wg // cols, cols) }}
    if here && lane == 0u {
        let at = 2u * block * info.width + c;
        partials[at] = sums[lid];
        partials[at + info.width] = products[lid];
    }
}
