// Gradient of convolution weights as a matrix product over pixels by cooperative matrices (tensor
// cores). It computes what conv2d_weights_tiled.wgsl computes, from the same operands, with factors
// of Elem and sums of Acc: partial sums over equal shares of the pixels (split-K), which
// conv2d_weights_sum.wgsl adds up in a fixed order.
//
//   partial[s, t, c, o] = sum over the positions p of share s of
//       x[n, stride * p + offset(t), c] * dy[n, p, o]
//
// Layouts    x [N, H, W, C], dy [N, rows, cols, O] (NHWC);  partial [shares, taps, C, O / 4] of
//            vec4 (the last ones padded).
// Workgroup  one share, one tap, {{ bm }} channels c times {{ bn }} channels o by {{ subgroups }}
//            subgroups, two along each side; {{ bk }} positions at a time in workgroup memory,
//            while the next ones are fetched to registers. A subgroup computes {{ rows }} times
//            {{ cols }} matrices of {{ s }} x {{ s }}. An invocation fetches blocks of four
//            channels at four positions and transposes them, since the terms of a sum (positions)
//            are contiguous in the tiles. Positions beyond the last are zeros. Sums are stored
//            through workgroup memory, {{ batch }} matrices of each subgroup at a time.
// Banks      Loads of matrices use every bank once, as conv2d_matrix.wgsl explains. Stores of 8
//            bytes: {{ bk // 4 }} adjacent blocks fill a row, and the next ones are four rows, 16
//            banks (mod 32), further on: two at a time in a bank where rows have four blocks, one
//            where they have eight.
// Template   bm, bn, bk;  stride: bk plus 8 values of padding;  s;  rows, cols;  batch;  subgroups:
//            4;  lanes: invocations of a subgroup;  shim: no cooperative matrices, but plain WGSL
//            with the same indices, for tests;  x4, y4: whether C, O are multiples of four;  taps:
//            the capacity of info.tap;  elem, acc (shared/types.wgsl).

{% if not shim %}
enable wgpu_cooperative_matrix;
{% endif %}
{% include "shared/types.wgsl" %}
{% from "shared/four.wgsl" import four %}
{% set bk4 = bk // 4 %}
{% set bm4 = bm // 4 %}
{% set bn4 = bn // 4 %}
{% set x_blocks = bm4 * bk4 // wg %}
{% set y_blocks = bn4 * bk4 // wg %}
{% set parts = subgroups * batch * s * s // 4 // wg %}
{% include "shared/conv2d_weights_operands.wgsl" %}

{% include "shared/matrix_tiles.wgsl" %}

/// Returns four channels from 4 c on of the pixel of x that begins at `first`.
fn source(first: u32, c: u32) -> Elem4 {
{% if x4 %}
    return x[first + c];
{% else %}
    let last = info.channels - 1u;
    return {{ four("x", "first", "4u * c", "last", false) }};
{% endif %}
}

/// Returns four channels from 4 o on of position `p` of dy.
fn gradient(p: u32, o: u32) -> Elem4 {
{% if y4 %}
    return dy[p * info.out4 + o];
{% else %}
    let last = info.out_channels - 1u;
    let first = p * info.out_channels;
    return {{ four("dy", "first", "4u * o", "last", false) }};
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
    let o_tiles = (info.out4 + {{ bn4 - 1 }}u) / {{ bn4 }}u;
    let c_tiles = (info.channels + {{ bm - 1 }}u) / {{ bm }}u;
    let tile = wid.x + wid.y * grid.x;
    let first_o = tile % o_tiles * {{ bn4 }}u;
    let first_c = tile / o_tiles % c_tiles * {{ bm4 }}u;
    let t = tile / (o_tiles * c_tiles) % info.taps;
    let share = tile / (o_tiles * c_tiles) / info.taps;
    if share >= info.shares { return; }
    let tap = info.tap[t];
    let begin = share * info.share;
    let end = min(begin + info.share, info.positions);
{% if shim %}
    let subgroup = lid / {{ lanes }}u;
    let lane = lid % {{ lanes }}u;
{% endif %}

    // What the invocation fetches: quads c and o of four positions from p + k on. (Quads beyond the
    // last repeat the last and aren't stored.) Positions advance by {{ bk }}, in columns, rows and
    // images, with a further step where they leave a row or an image.
    let k = lid % {{ bk4 }}u * 4u;
{% for b in range(x_blocks) %}
    let c{{ b }} = min(first_c + lid / {{ bk4 }}u + {{ b * (wg // bk4) }}u, info.channels4 - 1u);
{% endfor %}
{% for b in range(y_blocks) %}
    let o{{ b }} = min(first_o + lid / {{ bk4 }}u + {{ b * (wg // bk4) }}u, info.out4 - 1u);
{% endfor %}
{% for i in range(4) %}
    let p{{ i }} = begin + k + {{ i }}u;
    var col{{ i }} = p{{ i }} % info.cols * info.stride;
    var row{{ i }} = p{{ i }} / info.cols % info.rows * info.stride;
    var first{{ i }} = ((p{{ i }} / (info.cols * info.rows) * info.height + row{{ i }} + u32(tap.x)) * info.width + col{{ i }} + u32(tap.y)) * info.pixel;
{% for b in range(x_blocks) %}
    var next_a{{ b }}_{{ i }} = Elem4(0.0);
{% endfor %}
{% for b in range(y_blocks) %}
    var next_b{{ b }}_{{ i }} = Elem4(0.0);
{% endfor %}
{% endfor %}
{% include "shared/matrix_sums.wgsl" %}

{% set fetch %}
{% for i in range(4) %}
{% for b in range(x_blocks) %}
        next_a{{ b }}_{{ i }} = Elem4(0.0);
{% endfor %}
        if p + k + {{ i }}u < end && row{{ i }} + u32(tap.x) < info.height && col{{ i }} + u32(tap.y) < info.width {
{% for b in range(x_blocks) %}
            next_a{{ b }}_{{ i }} = source(first{{ i }}, c{{ b }});
{% endfor %}
        }
        col{{ i }} += info.on_cols;
        row{{ i }} += info.on_rows;
        first{{ i }} += info.on;
        if col{{ i }} >= info.span_cols {
            col{{ i }} -= info.span_cols;
            row{{ i }} += info.stride;
            first{{ i }} += info.next_row;
        }
        if row{{ i }} >= info.span_rows {
            row{{ i }} -= info.span_rows;
            first{{ i }} += info.next_image;
        }
        // Beyond the end x is 0, so any gradient will do.
{% for b in range(y_blocks) %}
        next_b{{ b }}_{{ i }} = gradient(min(p + k + {{ i }}u, info.last), o{{ b }});
{% endfor %}
{% endfor %}
{% endset %}
    var p = begin;
{{ fetch }}
    let place = lid / {{ bk4 }}u * {{ 4 * stride }}u + k;
    while p < end {
        workgroupBarrier();
{% for name, blocks in [["a", x_blocks], ["b", y_blocks]] %}
{% for b in range(blocks) %}
{% for q in range(4) %}
{% for i in range(4) %}
        {{ name }}_tile[place + {{ (b * (wg // bk4) * 4 + q) * stride + i }}u] = next_{{ name }}{{ b }}_{{ i }}[{{ q }}];
{% endfor %}
{% endfor %}
{% endfor %}
{% endfor %}
        workgroupBarrier();
        // Fetches the next positions; none after the last.
        p += {{ bk }}u;
{{ fetch }}
{% include "shared/matrix_product.wgsl" %}
    }

    // Quads of the sums, numbered through the matrices of all subgroups: the row and the four
    // columns of each.
    let row = (share * info.taps + t) * info.channels;
{% for q in range(parts) %}
    let i{{ q }} = lid + {{ q * wg }}u;
    let in{{ q }} = first_c * 4u + i{{ q }} / {{ batch * s * s // 2 }}u * {{ bm // 2 }}u + i{{ q }} % {{ s * s // 4 }}u / {{ s // 4 }}u;
    let out{{ q }} = first_o + i{{ q }} / {{ batch * s * s // 4 }}u % 2u * {{ bn4 // 2 }}u + i{{ q }} / {{ s * s // 4 }}u % {{ batch }}u * {{ s // 4 }}u + i{{ q }} % {{ s // 4 }}u;
{% endfor %}
{% for m in range(rows) %}
{% for n in range(0, cols, batch) %}
{% for j in range(batch) %}
    {{ "leave(" if shim else "coopStoreT(" }}sum{{ m }}_{{ n + j }}, {{ "" if shim else "&results[" }}subgroup * {{ batch * s * s }}u + {{ j * s * s }}u{{ ", lane" if shim else "], " ~ s ~ "u" }});
{% endfor %}
    workgroupBarrier();
{% for q in range(parts) %}
    if in{{ q }} + {{ m * s }}u < info.channels && out{{ q }} + {{ n * s // 4 }}u < info.out4 {
        partial[(row + in{{ q }} + {{ m * s }}u) * info.out4 + out{{ q }} + {{ n * s // 4 }}u] = result(i{{ q }});
    }
{% endfor %}
    workgroupBarrier();
{% endfor %}
{% endfor %}
}
