// Gradient of convolution weights as a matrix product over pixels, tiles in workgroup memory, blocks in registers. Sums over
// equal shares of the pixels, which conv2d_weights_sum.wgsl adds up in a fixed order.
//
//   partial[s, t, c, o] = sum over the positions p of share s of x[n, stride * p + offset(t), c] * dy[n, p, o]
//
// Layouts    x [N, H, W, C], dy [N, rows, cols, O] (NHWC);  partial [shares, taps, C, O / 4] of four (the last ones padded).
// Workgroup  one share, one tap, {{ bm }} channels c times {{ bn }} channels o; {{ bk }} positions at a time in workgroup memory, the next ones
//            fetched to registers meanwhile. An invocation: {{ tm }} times {{ tn }}.
// Template   bm, bn, bk, tm, tn;  x4, y4: whether C, O are multiples of four;  taps: room for so many;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/four.wgsl" import four %}
{% from "shared/tiled_product.wgsl" import registers, main_loop %}
{% set bm4 = bm // 4 %}
{% set bn4 = bn // 4 %}
{% set tm4 = tm // 4 %}
{% set tn4 = tn // 4 %}
{% set tx = bn // tn %}
{% set ty = bm // tm %}
{% set x_loads = bk * bm4 // wg %}
{% set y_loads = bk * bn4 // wg %}
{% include "shared/conv2d_weights_operands.wgsl" %}

// Of x and of dy, [position][channel / 4].
var<workgroup> a_tile: array<Elem4, {{ bk * bm4 }}>;
var<workgroup> b_tile: array<Elem4, {{ bk * bn4 }}>;

/// Four channels from `c` on of the pixel that `tap` reaches from position `p`, 0 outside; channels beyond the last repeat it.
fn source(p: u32, tap: vec4<i32>, c: u32, end: u32) -> Elem4 {
    let row = p / info.cols % info.rows * info.stride + u32(tap.x);
    let col = p % info.cols * info.stride + u32(tap.y);
    if !(p < end && row < info.height && col < info.width && c < info.channels) { return Elem4(0.0); }
    let first = ((p / (info.cols * info.rows) * info.height + row) * info.width + col) * info.channels;
{% if not x4 %}
    let last = info.channels - 1u;
{% endif %}
    return {{ four("x", "first", "c", "last", x4) }};
}

/// Four channels from `o` on of position `p` of dy, 0 beyond; channels beyond the last repeat it.
fn gradient(p: u32, o: u32, end: u32) -> Elem4 {
    if !(p < end && o < info.out_channels) { return Elem4(0.0); }
    let first = p * info.out_channels;
{% if not y4 %}
    let last = info.out_channels - 1u;
{% endif %}
    return {{ four("dy", "first", "o", "last", y4) }};
}

{# The tiles from position `p` on, to registers. #}
{% macro fetch(p) %}
{% for i in range(x_loads) %}
        next_a{{ i }} = source({{ p }} + (lid + {{ i * wg }}u) / {{ bm4 }}u, tap, (c0 + (lid + {{ i * wg }}u) % {{ bm4 }}u) * 4u, end);
{% endfor %}
{% for i in range(y_loads) %}
        next_b{{ i }} = gradient({{ p }} + (lid + {{ i * wg }}u) / {{ bn4 }}u, (o0 + (lid + {{ i * wg }}u) % {{ bn4 }}u) * 4u, end);
{% endfor %}
{% endmacro %}
@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let out4 = (info.out_channels + 3u) / 4u;
    let o_tiles = (out4 + {{ bn4 - 1 }}u) / {{ bn4 }}u;
    let c_tiles = (info.channels + {{ bm - 1 }}u) / {{ bm }}u;
    var tile = wid.x + wid.y * grid.x;
    let o0 = tile % o_tiles * {{ bn4 }}u;
    tile /= o_tiles;
    let c0 = tile % c_tiles * {{ bm4 }}u;
    tile /= c_tiles;
    let t = tile % info.taps;
    let share = tile / info.taps;
    if share >= info.shares { return; }
    let tap = info.tap[t];
    let begin = share * info.share;
    let end = min(begin + info.share, info.positions);
    let tx = lid % {{ tx }}u;
    let ty = lid / {{ tx }}u;

{{ registers(x_loads, y_loads, tm, tn4) }}
{% set first %}{{ fetch("begin") }}{% endset %}
{% set next %}{{ fetch("step + " ~ bk ~ "u") }}{% endset %}
{% set multiply %}
        for (var k = 0u; k < {{ bk }}u; k++) {
{% for n in range(tn4) %}
            let y{{ n }} = Acc4(b_tile[k * {{ bn4 }}u + tx + {{ n * tx }}u]);
{% endfor %}
{% for m in range(tm4) %}
            let x{{ m }} = Acc4(a_tile[k * {{ bm4 }}u + ty + {{ m * ty }}u]);
{% for q in range(4) %}
{% for n in range(tn4) %}
            sum{{ m * 4 + q }}_{{ n }} = fma(Acc4(x{{ m }}[{{ q }}]), y{{ n }}, sum{{ m * 4 + q }}_{{ n }});
{% endfor %}
{% endfor %}
{% endfor %}
        }
{% endset %}
{{ main_loop(wg, x_loads, y_loads, "begin", "end", bk ~ "u", first, next, multiply) }}
    let row = (share * info.taps + t) * info.channels;
{% for m in range(tm4) %}
{% for q in range(4) %}
    {
        let c = (c0 + ty + {{ m * ty }}u) * 4u + {{ q }}u;
        if c < info.channels {
{% for n in range(tn4) %}
            if o0 + tx + {{ n * tx }}u < out4 { partial[(row + c) * out4 + o0 + tx + {{ n * tx }}u] = sum{{ m * 4 + q }}_{{ n }}; }
{% endfor %}
        }
    }
{% endfor %}
{% endfor %}
}
