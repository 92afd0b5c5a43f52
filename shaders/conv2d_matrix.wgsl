// Convolution as an implicit matrix product by cooperative matrices (tensor cores). It computes
// what conv2d_tiled.wgsl computes, from the same operands except for the order of the weights, with
// factors of Elem and sums of Acc.
//
//   y[n, at(p), o] = bias[o] + residual[n, at(p), o]
//       + sum over taps t, channels c of w[t, o, c] * x[n, stride * p + offset(t), c]
//
// Layouts    x [N, H, W, C], y and residual [N, OH, OW, O] (NHWC);  w [taps, O, C / 4] of vec4
//            (packed, with the terms of a sum contiguous);  bias [O].
// Workgroup  {{ bm }} positions times {{ bn }} channels by {{ subgroups }} subgroups, two along
//            each side; {{ bk }} channels of one tap at a time in workgroup memory, while the next
//            ones are fetched to registers. A subgroup computes {{ rows }} times {{ cols }}
//            matrices of {{ s }} x {{ s }}. Channels and positions beyond the last are zeros in the
//            tiles. Sums are stored through workgroup memory, {{ batch }} matrices of each subgroup
//            at a time.
// Banks      Rows of a tile are {{ stride }} values apart, 4 words (mod 8) for f16. Eight rows of
//            16 bytes, what a subgroup loads of a matrix at a time, begin at banks 0, 12, 24, 4,
//            16, 28, 8, 20 or 0, 20, 8, 28, 16, 4, 24, 12 (mod 32) and so use every bank once. Four
//            or eight invocations fill a row; their stores of 8 bytes use a bank twice at most.
// Template   bm, bn, bk;  stride: bk plus 8 values of padding;  s;  rows, cols;  batch;  subgroups:
//            4;  lanes: invocations of a subgroup;  shim: no cooperative matrices, but plain WGSL
//            with the same indices, for tests;  x4, y4: whether C, O are multiples of four;  taps:
//            the capacity of info.tap;  elem, acc (shared/types.wgsl).

{% if not shim %}
enable wgpu_cooperative_matrix;
{% endif %}
{% include "shared/types.wgsl" %}
{% set bk4 = bk // 4 %}
{% set bn4 = bn // 4 %}
{% set x_loads = bm * bk4 // wg %}
{% set w_loads = bn * bk4 // wg %}
{% set parts = subgroups * batch * s * s // 4 // wg %}
{% include "shared/conv2d_operands.wgsl" %}

{% include "shared/matrix_tiles.wgsl" %}

/// Returns four channels from 4 c on of the pixel that begins at `first`; channels beyond the last
/// are 0.
fn channels(first: u32, c: u32) -> Elem4 {
{% if x4 %}
    return x[first + c];
{% else %}
    return select(Elem4(0.0), source(first, 4u * c), 4u * c + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(info.channels));
{% endif %}
}

@compute @workgroup_size({{ wg }})
fn main(
    @builtin(local_invocation_index) lid: u32,
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
{% if not shim %}
    @builtin(subgroup_id) subgroup: u32,
{% endif %}
) {
    let tiles = (info.out4 + {{ bn4 - 1 }}u) / {{ bn4 }}u;
    let tile = wid.x + wid.y * grid.x;
    let first_p = tile / tiles * {{ bm }}u;
    let first_o = tile % tiles * {{ bn4 }}u;
    if first_p >= info.positions { return; }
{% if shim %}
    let subgroup = lid / {{ lanes }}u;
    let lane = lid % {{ lanes }}u;
{% endif %}

    // What the invocation fetches: quad k4 of the channels of some outputs' weights, and of the
    // pixels that taps reach from row and column `corner` (16 bits each), which begin at `first`.
    let k4 = lid % {{ bk4 }}u;
{% for i in range(x_loads) %}
    let own{{ i }} = first_p + lid / {{ bk4 }}u + {{ i * (wg // bk4) }}u;
    let at{{ i }} = position(own{{ i }});
    // For positions beyond the last: a row from which no tap reaches the image.
    let row{{ i }} = select(at{{ i }}.x * info.stride, 0x7fffu, own{{ i }} >= info.positions);
    let col{{ i }} = at{{ i }}.y * info.stride;
    let corner{{ i }} = (row{{ i }} << 16u) | col{{ i }};
    var first{{ i }} = ((at{{ i }}.z * info.height + at{{ i }}.x * info.stride) * info.width + col{{ i }}) * info.pixel{{ " + k4" if x4 }};
    var here{{ i }} = false;
    var next_a{{ i }} = Elem4(0.0);
{% endfor %}
    // Outputs beyond the last take the weights of the last and aren't stored.
{% for i in range(w_loads) %}
    let w_row{{ i }} = min(first_o * 4u + lid / {{ bk4 }}u + {{ i * (wg // bk4) }}u, info.out_channels - 1u) * info.channels4 + k4;
    var next_b{{ i }} = Elem4(0.0);
{% endfor %}
{% include "shared/matrix_sums.wgsl" %}

    // What is fetched next: the channels from quad c on of tap number t - 1, whose weights begin at
    // w_tap and which has shifted `first` by `shift`.
    var c = info.channels4;
    var t = 0u;
    var w_tap = 0u;
    var shift = 0u;
{% set fetch %}
        c += {{ bk4 }}u;
        if c >= info.channels4 {
            let tap = info.tap[min(t, info.taps - 1u)];
            let before = shift;
            shift = (u32(tap.x) * info.width + u32(tap.y)) * info.pixel;
            w_tap = u32(tap.z) * info.out_channels * info.channels4;
{% for i in range(x_loads) %}
            here{{ i }} = (corner{{ i }} >> 16u) + u32(tap.x) < info.height && (corner{{ i }} & 0xffffu) + u32(tap.y) < info.width;
            first{{ i }} += shift - before;
{% endfor %}
            c = 0u;
            t += 1u;
        }
        more = t <= info.taps && c + k4 < info.channels4;
{% for i in range(x_loads) %}
        next_a{{ i }} = Elem4(0.0);
        if more && here{{ i }} { next_a{{ i }} = channels(first{{ i }}, {{ 'c' if x4 else 'c + k4' }}); }
{% endfor %}
{% for i in range(w_loads) %}
        next_b{{ i }} = Elem4(0.0);
        if more { next_b{{ i }} = w[w_tap + w_row{{ i }} + c]; }
{% endfor %}
{% endset %}
    var more = true;
{{ fetch }}
    let place = lid / {{ bk4 }}u * {{ stride }}u + k4 * 4u;
    let steps = (info.channels4 + {{ bk4 - 1 }}u) / {{ bk4 }}u * info.taps;
    for (var i = 0u; i < steps; i++) {
        workgroupBarrier();
{% for i in range(x_loads) %}
{% for q in range(4) %}
        a_tile[place + {{ i * (wg // bk4) * stride + q }}u] = next_a{{ i }}[{{ q }}];
{% endfor %}
{% endfor %}
{% for i in range(w_loads) %}
{% for q in range(4) %}
        b_tile[place + {{ i * (wg // bk4) * stride + q }}u] = next_b{{ i }}[{{ q }}];
{% endfor %}
{% endfor %}
        workgroupBarrier();
        // Fetches the next channels; none after the last.
{{ fetch }}
{% include "shared/matrix_product.wgsl" %}
    }

    // Quads of the sums, numbered through the matrices of all subgroups: the position and the four
    // channels of each.
{% for q in range(parts) %}
    let i{{ q }} = lid + {{ q * wg }}u;
    let pos{{ q }} = first_p + i{{ q }} / {{ batch * s * s // 2 }}u * {{ bm // 2 }}u + i{{ q }} % {{ s * s // 4 }}u / {{ s // 4 }}u;
    let out{{ q }} = first_o + i{{ q }} / {{ batch * s * s // 4 }}u % 2u * {{ bn4 // 2 }}u + i{{ q }} / {{ s * s // 4 }}u % {{ batch }}u * {{ s // 4 }}u + i{{ q }} % {{ s // 4 }}u;
{% endfor %}
{% for m in range(rows) %}
    {
{% for q in range(parts) %}
        let pixel{{ q }} = pixel(position(pos{{ q }} + {{ m * s }}u));
        let has{{ q }} = pos{{ q }} + {{ m * s }}u < info.positions;
{% endfor %}
{% for n in range(0, cols, batch) %}
{% for j in range(batch) %}
        {{ "leave(" if shim else "coopStoreT(" }}sum{{ m }}_{{ n + j }}, {{ "" if shim else "&results[" }}subgroup * {{ batch * s * s }}u + {{ j * s * s }}u{{ ", lane" if shim else "], " ~ s ~ "u" }});
{% endfor %}
        workgroupBarrier();
{% for q in range(parts) %}
        if has{{ q }} && out{{ q }} + {{ n * s // 4 }}u < info.out4 { put(pixel{{ q }}, (out{{ q }} + {{ n * s // 4 }}u) * 4u, result(i{{ q }})); }
{% endfor %}
        workgroupBarrier();
{% endfor %}
    }
{% endfor %}
}
