// AdaGN, forward.
//
//   out = dropout(act(u)),  u = A * xhat + D,  xhat = (h - mean) * rstd
//   A = z_s * t_s * gamma,  D = z_s * (t_s * beta + t_b) + z_b
//   (without modulation: A = gamma, D = beta)
//
// Layouts    h, out [B, H*W, C] (NHWC), stored as S;  t_mod, z_mod [B, 2C] scale | shift;  gamma,
//            beta [C];  saved [4, B, C]: A, D, mean, rstd for the backward pass. In units of four
//            channels, or of one.
// Workgroup  {{ cols }} units of one image's channels, which are whole groups. It reads them once
//            and writes them once: an invocation keeps {{ depth }} pixels in registers (any pixels
//            beyond those are read twice). Invocations run along channels first, as memory does.
//            The invocations of one unit split its pixels, and a tree adds up their sums; the first
//            of them computes A, D, mean and rstd. The statistics are sums of h - pivot and of its
//            square, where pivot is the channel's first pixel, so that one pass is enough.
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

@group(0) @binding(0) var<storage, read_write> h: array<S>;
@group(0) @binding(1) var<storage, read_write> t_mod: array<T>;
@group(0) @binding(2) var<storage, read_write> z_mod: array<T>;
@group(0) @binding(3) var<storage, read_write> gamma: array<T>;
@group(0) @binding(4) var<storage, read_write> beta: array<T>;
@group(0) @binding(5) var<storage, read_write> result: array<S>;
@group(0) @binding(6) var<storage, read_write> saved: array<T>;
@group(0) @binding(7) var<uniform> info: Info;

var<workgroup> sums: array<T, {{ wg }}>;
var<workgroup> squares: array<T, {{ wg }}>;
// Of each channel: its mean, and the sum of squared deviations from it.
var<workgroup> means: array<Acc, {{ cols * width }}>;
var<workgroup> spreads: array<Acc, {{ cols * width }}>;

{{ mask(width) }}
fn finish(at: u32, xhat: T, A: T, D: T) {
    var u = A * xhat + D;
    if (info.flags & 2u) != 0u { u = u / (T(1.0) + exp(-u)); }
    if (info.flags & 4u) != 0u {
        u = select(u * info.keep_scale, T(0.0), is_dropped(at));
    }
    result[at] = S(u);
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
    let n = Acc(HW);

    let pivot = T(h[base]);
    var sum = T(0.0);
    var square = T(0.0);
{% for s in range(depth) %}
    var d{{ s }} = T(0.0);
    if begin + {{ s * lanes }}u < HW { d{{ s }} = T(h[base + (begin + {{ s * lanes }}u) * units]) - pivot; }
    sum += d{{ s }};
    square += d{{ s }} * d{{ s }};
{% endfor %}
    for (var p = begin + {{ depth * lanes }}u; p < HW; p += {{ lanes }}u) {
        let d = T(h[base + p * units]) - pivot;
        sum += d;
        square += d * d;
    }
{% if lanes > 1 %}
    sums[lid] = sum;
    squares[lid] = square;
{{ tree(["sums", "squares"], lanes, cols) }}
    sum = sums[col];
    square = squares[col];
{% endif %}
    if lid < {{ cols }}u {
        let mean_c = pivot + sum / n;
        // If all values are equal, rounding may make this negative.
        let spread_c = max(square - sum * sum / n, T(0.0));
{% for q in range(width) %}
        means[col * {{ width }}u + {{ q }}u] = mean_c{{ "[" ~ q ~ "]" if four }};
        spreads[col * {{ width }}u + {{ q }}u] = spread_c{{ "[" ~ q ~ "]" if four }};
{% endfor %}
    }
    workgroupBarrier();
    var A: T;
    var D: T;
    var mean: T;
    var rstd: T;
{% if lanes > 1 %}
    // One lane computes these for all lanes.
    if lane == 0u {
{% endif %}
    let at = b * units + c;
    let plane = info.batch * units;
    A = gamma[c];
    D = beta[c];
    if (info.flags & 1u) != 0u {
        let m = b * 2u * units + c;
        let t_scale = t_mod[m];
        let z_scale = z_mod[m];
        A = z_scale * (t_scale * A);
        D = z_scale * (t_scale * D + t_mod[m + units]) + z_mod[m + units];
    }
    if here && lane == 0u {
        saved[at] = A;
        saved[at + plane] = D;
    }
{% if lanes > 1 %}
    // There are at least two lanes.
    sums[lid + {{ cols }}u] = A;
    squares[lid + {{ cols }}u] = D;
{% endif %}
{% for q in range(width) %}
    {
        let size = info.group_size;
        let member = (col * {{ width }}u + {{ q }}u) / size * size;
        var total = Acc(0.0);
        for (var k = 0u; k < size; k++) { total += means[member + k]; }
        let centre = total / Acc(size);
        var spread = Acc(0.0);
        for (var k = 0u; k < size; k++) {
            let d = means[member + k] - centre;
            spread += spreads[member + k] + n * d * d;
        }
        mean{{ "[" ~ q ~ "]" if four }} = centre;
        rstd{{ "[" ~ q ~ "]" if four }} = inverseSqrt(spread / (Acc(size) * n) + info.eps);
    }
{% endfor %}
    if here && lane == 0u {
        saved[at + 2u * plane] = mean;
        saved[at + 3u * plane] = rstd;
    }
{% if lanes > 1 %}
    sums[lid] = mean;
    squares[lid] = rstd;
    }
    workgroupBarrier();
    mean = sums[col];
    rstd = squares[col];
    A = sums[col + {{ cols }}u];
    D = squares[col + {{ cols }}u];
{% endif %}
{% for s in range(depth) %}
    if begin + {{ s * lanes }}u < HW { finish(base + (begin + {{ s * lanes }}u) * units, (d{{ s }} + (pivot - mean)) * rstd, A, D); }
{% endfor %}
    for (var p = begin + {{ depth * lanes }}u; p < HW; p += {{ lanes }}u) {
        let at = base + p * units;
        finish(at, (T(h[at]) - mean) * rstd, A, D);
    }
}
