// Attention, backward: the gradient of the queries.
//
//   p_ij = exp(q_i . k_j / sqrt(C) - log_sum_i),  delta_i = d_out_i . out_i
//   ds_ij = p_ij * (d_out_i . v_j - delta_i),  dq_i = sum over j of ds_ij k_j / sqrt(C)
//
// Layouts    qkv, d_qkv [B, H*W, 3C] (q | k | v);  out, d_out [B, H*W, C];  log_sums, deltas
//            [B, H*W]. C is a multiple of 4. Writes dq and deltas.
// Workgroup  ROWS queries of one image and a chunk of the channels of dq; the blocks are keys.
// Template   wg: invocations;  the others as in shared/attention_tiles.wgsl;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/attention_rows.wgsl" import store_rows_of %}
{% include "shared/attention_tiles.wgsl" %}

@group(0) @binding(0) var<storage, read_write> qkv: array<Elem4>;
@group(0) @binding(1) var<storage, read_write> d_out: array<Elem4>;
@group(0) @binding(2) var<storage, read_write> out: array<Elem4>;
@group(0) @binding(3) var<storage, read_write> log_sums: array<Acc>;
@group(0) @binding(4) var<storage, read_write> deltas: array<Acc>;
@group(0) @binding(5) var<storage, read_write> d_qkv: array<Elem4>;
@group(0) @binding(6) var<uniform> info: Info;

/// [QUADS, LANES]: partial sums of the deltas of 4 rows.
var<workgroup> partial: array<Acc4, QUADS * LANES>;

{% include "shared/attention_backward.wgsl" %}

/// Returns this lane's part of d_out . out of one pixel.
fn delta(lane: u32, row: u32, image: u32) -> Acc {
    let pixel = image * info.pixels + min(row, info.pixels - 1u);
    var sum = Acc(0.0);
    for (var c = lane; c < info.vectors; c += LANES) {
        sum += dot(Acc4({{ factor("d_out[pixel * info.vectors + c]") }}), Acc4(out[pixel * info.vectors + c]));
    }
    return sum;
}

/// Returns the same for 4 rows.
fn delta_parts(lane: u32, row: u32, image: u32) -> Acc4 {
    return Acc4(
        delta(lane, row, image),
        delta(lane, row + 1u, image),
        delta(lane, row + 2u, image),
        delta(lane, row + 3u, image),
    );
}

/// Returns the deltas of the 4 rows of a quad.
fn total(quad: u32) -> Acc4 {
    var value = partial[quad * LANES];
    for (var i = 1u; i < LANES; i++) { value += partial[quad * LANES + i]; }
    return value;
}

fn log_sum_quad(image: u32, row: u32) -> Acc4 {
    let base = image * info.pixels;
    let last = info.pixels - 1u;
    return Acc4(
        log_sums[base + min(row, last)],
        log_sums[base + min(row + 1u, last)],
        log_sums[base + min(row + 2u, last)],
        log_sums[base + min(row + 3u, last)],
    );
}

/// Returns ds of the keys from `pixel` on, COLUMNS apart.
fn score_gradients(s: Mat, dp: Mat, log_sum: Acc4, d: Acc4, pixel: u32) -> Mat {
    return Mat(
        score_gradient(s[0], dp[0], log_sum, d, pixel),
        score_gradient(s[1], dp[1], log_sum, d, pixel + COLUMNS),
        score_gradient(s[2], dp[2], log_sum, d, pixel + 2u * COLUMNS),
        score_gradient(s[3], dp[3], log_sum, d, pixel + 3u * COLUMNS),
    );
}

fn score_gradient(s: Acc4, dp: Acc4, log_sum: Acc4, d: Acc4, pixel: u32) -> Acc4 {
    return select(Acc4(0.0), exp(s * info.scale - log_sum) * (dp - d), pixel < info.pixels);
}

{{ store_rows_of("deltas") }}
@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let workgroup = wid.x + wid.y * grid.x;
    if workgroup >= info.workgroups { return; }
    let at = place(lid, workgroup);
    let lane = lid % LANES;
{% for r in range(row_quads) %}
    partial[(at.sum_quad + {{ r }}u) * LANES + lane] = delta_parts(lane, at.sum_row + 4u * {{ r }}u, at.image);
{% endfor %}
    workgroupBarrier();
{% for r in range(row_quads) %}
    let d{{ r }} = total(at.quad + {{ r }}u);
    let log_sum{{ r }} = log_sum_quad(at.image, at.row + 4u * {{ r }}u);
{% endfor %}
    if lid < SCORERS && at.column == 0u && at.chunk == 0u {
{% for r in range(row_quads) %}
        store_deltas(d{{ r }}, at.image, at.row + 4u * {{ r }}u);
{% endfor %}
    }

    var sums = Sums();
    for (var block = 0u; block < info.pixels; block += BLOCK) {
        var ds = product(Q, K, block, at, lid);
        let dp = product(D_OUT, V, block, at, lid);
        let pixel = block + at.column;
{% for r in range(row_quads) %}{% for c in range(column_quads) %}
        ds.s{{ r }}{{ c }} = score_gradients(ds.s{{ r }}{{ c }}, dp.s{{ r }}{{ c }}, log_sum{{ r }}, d{{ r }}, pixel + 4u * {{ c }}u * COLUMNS);
{% endfor %}{% endfor %}
        // After this barrier no invocation reads the previous block's weights any more.
        workgroupBarrier();
        set_weights(ds, at, lid);
        workgroupBarrier();
        sums = accumulate(sums, K, block, at);
    }
    var factor: Quads;
{% for r in range(row_quads) %}
    factor.q{{ r }} = Acc4(info.scale);
{% endfor %}
    store_sums(Q, sums, factor, at);
}
