// Attention over the pixels of an image, forward.
//
//   s_ij = q_i . k_j / sqrt(C),  m_i = max over j of s_ij,  l_i = sum over j of exp(s_ij - m_i)
//   out_i = sum over j of exp(s_ij - m_i) v_j / l_i,  log_sum_i = m_i + log(l_i)
//
// Layouts    qkv [B, H*W, 3C] (q | k | v);  out [B, H*W, C], stored as Elem;  log_sums [B, H*W]. C
//            is a multiple of 4.
// Workgroup  ROWS queries of one image and a chunk of the channels of v. It takes blocks of keys
//            one after another: m and l cover the keys so far, and the sums so far are rescaled
//            when m grows. No attention weight leaves the workgroup.
// Template   wg: invocations;  the others as in shared/attention_tiles.wgsl;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/attention_rows.wgsl" import store_rows_of %}
const LOWEST: Acc = -1e30;

{% include "shared/attention_tiles.wgsl" %}

@group(0) @binding(0) var<storage, read_write> qkv: array<Elem4>;
@group(0) @binding(1) var<storage, read_write> result: array<Elem4>;
@group(0) @binding(2) var<storage, read_write> log_sums: array<Acc>;
@group(0) @binding(3) var<uniform> info: Info;

/// [QUADS, COLUMNS]: the maxima of 4 rows of each tile of scores; in the end their sums.
var<workgroup> partial: array<Acc4, QUADS * COLUMNS>;

fn first(part: u32, pixel: u32) -> u32 {
    return (3u * pixel + part) * info.vectors;
}

fn fetch(part: u32, i: u32) -> Acc4 {
    return Acc4({{ factor("qkv[i]") }});
}

fn store(part: u32, pixel: u32, c: u32, value: Acc4) {
    result[pixel * info.vectors + c] = Elem4(value);
}

/// Returns the maxima of the 4 rows of a quad.
fn highest(quad: u32) -> Acc4 {
    var value = partial[quad * COLUMNS];
    for (var i = 1u; i < COLUMNS; i++) { value = max(value, partial[quad * COLUMNS + i]); }
    return value;
}

/// Returns the sums of the 4 rows of a quad.
fn total(quad: u32) -> Acc4 {
    var value = partial[quad * COLUMNS];
    for (var i = 1u; i < COLUMNS; i++) { value += partial[quad * COLUMNS + i]; }
    return value;
}

/// Returns the scaled scores of the keys from `pixel` on, COLUMNS apart.
fn scaled(s: Mat, pixel: u32) -> Mat {
    return Mat(
        masked(s[0], pixel),
        masked(s[1], pixel + COLUMNS),
        masked(s[2], pixel + 2u * COLUMNS),
        masked(s[3], pixel + 3u * COLUMNS),
    );
}

fn masked(score: Acc4, pixel: u32) -> Acc4 {
    return select(Acc4(LOWEST), score * info.scale, pixel < info.pixels);
}

fn column_max(s: Mat) -> Acc4 {
    return max(max(s[0], s[1]), max(s[2], s[3]));
}

fn exponentials(s: Mat, m: Acc4) -> Mat {
    return Mat(exp(s[0] - m), exp(s[1] - m), exp(s[2] - m), exp(s[3] - m));
}

fn by_row(rows: Mat, factor: Acc4) -> Mat {
    return Mat(rows[0] * factor.x, rows[1] * factor.y, rows[2] * factor.z, rows[3] * factor.w);
}

{{ store_rows_of("log_sums") }}
@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let workgroup = wid.x + wid.y * grid.x;
    if workgroup >= info.workgroups { return; }
    let at = place(lid, workgroup);
    // m and l of the rows of the invocation's scores, and m of the rows of its sums.
{% for r in range(row_quads) %}
    var m{{ r }} = Acc4(LOWEST);
    var l{{ r }} = Acc4(0.0);
    var sum_m{{ r }} = Acc4(LOWEST);
{% endfor %}
    var sums = Sums();

    for (var block = 0u; block < info.pixels; block += BLOCK) {
        var p = product(Q, K, block, at, lid);
        var block_m = Quads();
{% for r in range(row_quads) %}
        block_m.q{{ r }} = Acc4(LOWEST);
{% endfor %}
{% for r in range(row_quads) %}{% for c in range(column_quads) %}
        p.s{{ r }}{{ c }} = scaled(p.s{{ r }}{{ c }}, block + at.column + 4u * {{ c }}u * COLUMNS);
        block_m.q{{ r }} = max(block_m.q{{ r }}, column_max(p.s{{ r }}{{ c }}));
{% endfor %}{% endfor %}
        if lid < SCORERS {
{% for r in range(row_quads) %}
            partial[(at.quad + {{ r }}u) * COLUMNS + at.column] = block_m.q{{ r }};
{% endfor %}
        }
        workgroupBarrier();

{% for r in range(row_quads) %}
        let new_m{{ r }} = max(m{{ r }}, highest(at.quad + {{ r }}u));
        let new_sum_m{{ r }} = max(sum_m{{ r }}, highest(at.sum_quad + {{ r }}u));
        l{{ r }} *= exp(m{{ r }} - new_m{{ r }});
        m{{ r }} = new_m{{ r }};
{% endfor %}
{% for r in range(row_quads) %}{% for c in range(column_quads) %}
        p.s{{ r }}{{ c }} = exponentials(p.s{{ r }}{{ c }}, m{{ r }});
        l{{ r }} += (p.s{{ r }}{{ c }}[0] + p.s{{ r }}{{ c }}[1]) + (p.s{{ r }}{{ c }}[2] + p.s{{ r }}{{ c }}[3]);
{% endfor %}{% endfor %}
        set_weights(p, at, lid);
        workgroupBarrier();

{% for r in range(row_quads) %}
        let shrink{{ r }} = exp(sum_m{{ r }} - new_sum_m{{ r }});
        sum_m{{ r }} = new_sum_m{{ r }};
{% endfor %}
{% for r in range(row_quads) %}{% for n in range(channel_quads) %}
        sums.s{{ r }}{{ n }} = by_row(sums.s{{ r }}{{ n }}, shrink{{ r }});
{% endfor %}{% endfor %}
        sums = accumulate(sums, V, block, at);
    }

    if lid < SCORERS {
{% for r in range(row_quads) %}
        partial[(at.quad + {{ r }}u) * COLUMNS + at.column] = l{{ r }};
{% endfor %}
    }
    workgroupBarrier();
    var factor: Quads;
{% for r in range(row_quads) %}
    factor.q{{ r }} = 1.0 / total(at.sum_quad + {{ r }}u);
{% endfor %}
    store_sums(V, sums, factor, at);
    if lid < SCORERS && at.column == 0u && at.chunk == 0u {
{% for r in range(row_quads) %}
        store_log_sums(m{{ r }} + log(total(at.quad + {{ r }}u)), at.image, at.row + 4u * {{ r }}u);
{% endfor %}
    }
}
