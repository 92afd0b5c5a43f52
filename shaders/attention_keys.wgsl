// Attention, backward: the gradients of the keys and values.
//
//   p_ij = exp(q_i . k_j / sqrt(C) - log_sum_i),  ds_ij = p_ij * (d_out_i . v_j - delta_i)
//   dv_j = sum over i of p_ij d_out_i,  dk_j = sum over i of ds_ij q_i / sqrt(C)
//
// Layouts    qkv, d_qkv [B, H*W, 3C] (q | k | v);  d_out [B, H*W, C];  log_sums, deltas [B, H*W]
//            (for deltas see attention_queries.wgsl). C is a multiple of 4. Writes dk and dv.
// Workgroup  ROWS keys of one image and a chunk of the channels of dk and dv; the blocks are
//            queries. On GPUs it computes dv first, then dk, each from its own products.
// Template   wg: invocations;  the others as in shared/attention_tiles.wgsl;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% include "shared/attention_tiles.wgsl" %}

@group(0) @binding(0) var<storage, read_write> qkv: array<Elem4>;
@group(0) @binding(1) var<storage, read_write> d_out: array<Elem4>;
@group(0) @binding(2) var<storage, read_write> log_sums: array<Acc>;
@group(0) @binding(3) var<storage, read_write> deltas: array<Acc>;
@group(0) @binding(4) var<storage, read_write> d_qkv: array<Elem4>;
@group(0) @binding(5) var<uniform> info: Info;

{% include "shared/attention_backward.wgsl" %}

/// Returns p of the queries from `pixel` on, COLUMNS apart.
fn weights_of(s: Mat, image: u32, pixel: u32) -> Mat {
    return Mat(
        weight(s[0], image, pixel),
        weight(s[1], image, pixel + COLUMNS),
        weight(s[2], image, pixel + 2u * COLUMNS),
        weight(s[3], image, pixel + 3u * COLUMNS),
    );
}

fn weight(s: Acc4, image: u32, pixel: u32) -> Acc4 {
    let log_sum = log_sums[image * info.pixels + min(pixel, info.pixels - 1u)];
    return select(Acc4(0.0), exp(s * info.scale - log_sum), pixel < info.pixels);
}

/// Returns ds of the queries from `pixel` on, COLUMNS apart.
fn score_gradients(p: Mat, dp: Mat, image: u32, pixel: u32) -> Mat {
    return Mat(
        p[0] * (dp[0] - delta(image, pixel)),
        p[1] * (dp[1] - delta(image, pixel + COLUMNS)),
        p[2] * (dp[2] - delta(image, pixel + 2u * COLUMNS)),
        p[3] * (dp[3] - delta(image, pixel + 3u * COLUMNS)),
    );
}

fn delta(image: u32, pixel: u32) -> Acc {
    return deltas[image * info.pixels + min(pixel, info.pixels - 1u)];
}

{% macro weights() %}
        var p = product(K, Q, block, at, lid);
{% for r in range(row_quads) %}{% for c in range(column_quads) %}
        p.s{{ r }}{{ c }} = weights_of(p.s{{ r }}{{ c }}, at.image, block + at.column + 4u * {{ c }}u * COLUMNS);
{% endfor %}{% endfor %}
{% endmacro %}
{% macro gradients() %}
        var ds = product(V, D_OUT, block, at, lid);
{% for r in range(row_quads) %}{% for c in range(column_quads) %}
        ds.s{{ r }}{{ c }} = score_gradients(p.s{{ r }}{{ c }}, ds.s{{ r }}{{ c }}, at.image, block + at.column + 4u * {{ c }}u * COLUMNS);
{% endfor %}{% endfor %}
{% endmacro %}
{# Adds to dv or dk. After the first barrier no invocation reads the previous weights any more. #}
{% macro add(sums, scores, other) %}
        workgroupBarrier();
        set_weights({{ scores }}, at, lid);
        workgroupBarrier();
        {{ sums }} = accumulate({{ sums }}, {{ other }}, block, at);
{% endmacro %}
@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let workgroup = wid.x + wid.y * grid.x;
    if workgroup >= info.workgroups { return; }
    let at = place(lid, workgroup);
    var factor: Quads;
{% for r in range(row_quads) %}
    factor.q{{ r }} = Acc4(1.0);
{% endfor %}
    var dv = Sums();
{% if depth == 0 %}
    var dk = Sums();
    for (var block = 0u; block < info.pixels; block += BLOCK) {
{{ weights() }}
{{ gradients() }}
{{ add("dv", "p", "D_OUT") }}
{{ add("dk", "ds", "Q") }}
    }
    store_sums(V, dv, factor, at);
{% else %}
    // One after the other, with p computed twice: both sums at once, together with what the
    // products need, exceed a GPU's registers.
    for (var block = 0u; block < info.pixels; block += BLOCK) {
{{ weights() }}
{{ add("dv", "p", "D_OUT") }}
    }
    store_sums(V, dv, factor, at);
    var dk = Sums();
    for (var block = 0u; block < info.pixels; block += BLOCK) {
{{ weights() }}
{{ gradients() }}
{{ add("dk", "ds", "Q") }}
    }
{% endif %}
{% for r in range(row_quads) %}
    factor.q{{ r }} = Acc4(info.scale);
{% endfor %}
    store_sums(K, dk, factor, at);
}
