// AdaGN, backward through the activation and the normalisation.
//
//   g = d_out * mask * act'(u),  u = A * xhat + D
//   S0 = sum over pixels of g,  S1 = sum over pixels of g * xhat                  for each (b, c)
//   dh = rstd * (A g - (sum over the group of A g) / n
//                - xhat * (sum over the group of A g xhat) / n)
//
// Layouts    d_out, h, dh [B, H*W, C] (NHWC), stored as S;  saved [4, B, C]: A, D, mean, rstd;
//            sums [2, B, C]: S0, S1. In units of four channels, or of one.
// Workgroup  {{ cols }} units of one image's channels, which are whole groups. It reads d_out and h
//            once and writes dh once: an invocation keeps g and xhat of {{ depth }} pixels in
//            registers (any pixels beyond those are read twice). Invocations are arranged as in the
//            forward shader.
// Template   wg: invocations;  cols;  depth;  four: whether S and T are four channels rather than
//            one;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/tree.wgsl" import tree %}
{% from "shared/dropout.wgsl" import mask %}
{% set lanes = wg // cols %}
{% set width = 4 if four else 1 %}
alias S = {{ "Elem4" if four else "Elem" }};
alias T = {{ "Acc4" if four else "Acc" }};

{% include "shared/ada_gn_info.wgsl" %}

@group(0) @binding(0) var<storage, read_write> d_out: array<S>;
@group(0) @binding(1) var<storage, read_write> h: array<S>;
@group(0) @binding(2) var<storage, read_write> saved: array<T>;
@group(0) @binding(3) var<storage, read_write> dh: array<S>;
@group(0) @binding(4) var<storage, read_write> sums: array<T>;
@group(0) @binding(5) var<uniform> info: Info;

var<workgroup> partial_0: array<T, {{ wg }}>;
var<workgroup> partial_1: array<T, {{ wg }}>;
// Of each channel: A S0 and A S1.
var<workgroup> weighted_0: array<Acc, {{ cols * width }}>;
var<workgroup> weighted_1: array<Acc, {{ cols * width }}>;

{{ mask(width) }}
/// Returns g of the element `at`.
fn gradient(at: u32, xhat: T, A: T, D: T) -> T {
    var g = T(d_out[at]);
    if (info.flags & 4u) != 0u {
        g = select(g * info.keep_scale, T(0.0), is_dropped(at));
    }
    if (info.flags & 2u) != 0u {
        let u = A * xhat + D;
        let sigma = T(1.0) / (T(1.0) + exp(-u));
        g *= sigma * (T(1.0) + u * (T(1.0) - sigma));
    }
    return g;
}

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let chunk = wid.x + wid.y * grid.x;
    if chunk >= info.workgroups { return; }
    let units = info.units;
    let HW = info.pixels;
    let chunks = (units + {{ cols - 1 }}u) / {{ cols }}u;
    let b = chunk / chunks;
    let first = chunk % chunks * {{ cols }}u;
    let col = lid % {{ cols }}u;
    // Invocations beyond the last whole lane, or beyond the last channel, process no pixels.
    let here = lid < {{ lanes * cols }}u && first + col < units;
    let lane = lid / {{ cols }}u;
    let begin = select(HW, lane, here);
    let c = min(first + col, units - 1u);
    let base = b * HW * units + c;

    let plane = info.batch * units;
    let A = saved[b * units + c];
    let D = saved[b * units + c + plane];
    let mean = saved[b * units + c + 2u * plane];
    let rstd = saved[b * units + c + 3u * plane];
    var s0 = T(0.0);
    var s1 = T(0.0);
{% for s in range(depth) %}
    var g{{ s }} = T(0.0);
    var x{{ s }} = T(0.0);
    if begin + {{ s * lanes }}u < HW {
        let at = base + (begin + {{ s * lanes }}u) * units;
        x{{ s }} = (T(h[at]) - mean) * rstd;
        g{{ s }} = gradient(at, x{{ s }}, A, D);
    }
    s0 += g{{ s }};
    s1 += g{{ s }} * x{{ s }};
{% endfor %}
    for (var p = begin + {{ depth * lanes }}u; p < HW; p += {{ lanes }}u) {
        let at = base + p * units;
        let x = (T(h[at]) - mean) * rstd;
        let g = gradient(at, x, A, D);
        s0 += g;
        s1 += g * x;
    }
{% if lanes > 1 %}
    partial_0[lid] = s0;
    partial_1[lid] = s1;
{{ tree(["partial_0", "partial_1"], lanes, cols) }}
    s0 = partial_0[col];
    s1 = partial_1[col];
{% endif %}
    if here && lane == 0u {
        sums[b * units + c] = s0;
        sums[b * units + c + plane] = s1;
    }
    if lid < {{ cols }}u {
        let a0 = A * s0;
        let a1 = A * s1;
{% for q in range(width) %}
        weighted_0[col * {{ width }}u + {{ q }}u] = a0{{ "[" ~ q ~ "]" if four }};
        weighted_1[col * {{ width }}u + {{ q }}u] = a1{{ "[" ~ q ~ "]" if four }};
{% endfor %}
    }
    workgroupBarrier();
    var m0: T;
    var m1: T;
{% if lanes > 1 %}
    // One lane computes these for all lanes.
    if lane == 0u {
{% endif %}
{% for q in range(width) %}
    {
        let size = info.group_size;
        let member = (col * {{ width }}u + {{ q }}u) / size * size;
        var total = vec2<Acc>(0.0);
        for (var k = 0u; k < size; k++) { total += vec2<Acc>(weighted_0[member + k], weighted_1[member + k]); }
        total /= Acc(size * HW);
        m0{{ "[" ~ q ~ "]" if four }} = total.x;
        m1{{ "[" ~ q ~ "]" if four }} = total.y;
    }
{% endfor %}
{% if lanes > 1 %}
        partial_0[lid] = m0;
        partial_1[lid] = m1;
    }
    workgroupBarrier();
    m0 = partial_0[col];
    m1 = partial_1[col];
{% endif %}

{% for s in range(depth) %}
    if begin + {{ s * lanes }}u < HW {
        dh[base + (begin + {{ s * lanes }}u) * units] = S(rstd * (A * g{{ s }} - m0 - x{{ s }} * m1));
    }
{% endfor %}
    for (var p = begin + {{ depth * lanes }}u; p < HW; p += {{ lanes }}u) {
        let at = base + p * units;
        let x = (T(h[at]) - mean) * rstd;
        dh[at] = S(rstd * (A * gradient(at, x, A, D) - m0 - x * m1));
    }
}
