// Convolution as an implicit matrix product, tiles in workgroup memory, blocks in registers: the forward pass, and the gradient
// of the input as a convolution of the gradient of the output.
//
//   y[n, at(p), o] = bias[o] + residual[n, at(p), o] + sum over taps t, channels c of w[t, c, o] * x[n, stride * p + offset(t), c]
//
// p runs over a grid of positions, at(p) = out_stride * p + first is its pixel of y: a convolution has out_stride 1; the gradient
// of one with stride 2 takes four launches, one for each parity of the pixel, with the taps that reach it, and so does a convolution
// of an upsampled input (src/kernels/conv2d/upsample.rs). x is 0 outside.
//
// Layouts    x [N, H, W, C], y and residual [N, OH, OW, O] (NHWC);  w [taps, C, O / 4] of four (packed);  bias [O].
// Workgroup  {{ bm }} positions (of all images in a row) times {{ bn }} channels; {{ bk }} channels of one tap at a time in workgroup memory,
//            the next ones fetched to registers meanwhile. An invocation: {{ tm }} positions times {{ tn }} channels.
// Template   bm, bn, bk, tm, tn;  x4, y4: whether C, O are multiples of four;  taps: room for so many;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/tiled_product.wgsl" import registers, main_loop %}
{% set bk4 = bk // 4 %}
{% set bn4 = bn // 4 %}
{% set tn4 = tn // 4 %}
{% set tx = bn // tn %}
{% set ty = bm // tm %}
{% set x_loads = bm * bk4 // wg %}
{% set w_loads = bk * bn4 // wg %}
{% include "shared/conv2d_operands.wgsl" %}

// Of x, [position][channel / 4], and of w, [channel][out channel / 4].
var<workgroup> a_tile: array<Elem4, {{ bm * bk4 }}>;
var<workgroup> b_tile: array<Elem4, {{ bk * bn4 }}>;

{# The tiles of step `step`, to registers. #}
{% macro fetch(step) %}
        {
            let tap = info.tap[{{ step }} / chunks];
            let c0 = {{ step }} % chunks * {{ bk }}u;
{% for i in range(x_loads) %}
            {
                let pixel = reach(at{{ i }}, tap);
                let c = c0 + lid % {{ bk4 }}u * 4u;
                next_a{{ i }} = Elem4(0.0);
                if pixel.y == 1u && inside{{ i }} && c < info.channels { next_a{{ i }} = source(pixel.x, c); }
            }
{% endfor %}
{% for i in range(w_loads) %}
            {
                let c = c0 + (lid + {{ i * wg }}u) / {{ bn4 }}u;
                let o = o0 + (lid + {{ i * wg }}u) % {{ bn4 }}u;
                next_b{{ i }} = Elem4(0.0);
                if c < info.channels && o < out4 { next_b{{ i }} = w[(u32(tap.z) * info.channels + c) * out4 + o]; }
            }
{% endfor %}
        }
{% endmacro %}
@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let out4 = (info.out_channels + 3u) / 4u;
    let tiles = (out4 + {{ bn4 - 1 }}u) / {{ bn4 }}u;
    let tile = wid.x + wid.y * grid.x;
    let p0 = tile / tiles * {{ bm }}u;
    let o0 = tile % tiles * {{ bn4 }}u;
    if p0 >= info.positions { return; }
    let chunks = (info.channels + {{ bk - 1 }}u) / {{ bk }}u;
    let steps = info.taps * chunks;
    let tx = lid % {{ tx }}u;
    let ty = lid / {{ tx }}u;

{% for i in range(x_loads) %}
    let at{{ i }} = position(p0 + lid / {{ bk4 }}u + {{ i * (wg // bk4) }}u);
    let inside{{ i }} = p0 + lid / {{ bk4 }}u + {{ i * (wg // bk4) }}u < info.positions;
{% endfor %}
{{ registers(x_loads, w_loads, tm, tn4) }}
{% set first %}{{ fetch("0u") }}{% endset %}
{% set next %}{{ fetch("(step + 1u)") }}{% endset %}
{% set multiply %}
        for (var k = 0u; k < {{ bk4 }}u; k++) {
{% for q in range(4) %}
{% for n in range(tn4) %}
            let w{{ q }}_{{ n }} = Acc4(b_tile[(k * 4u + {{ q }}u) * {{ bn4 }}u + tx + {{ n * tx }}u]);
{% endfor %}
{% endfor %}
{% for m in range(tm) %}
            let x{{ m }} = Acc4(a_tile[(ty + {{ m * ty }}u) * {{ bk4 }}u + k]);
{% for n in range(tn4) %}
{% for q in range(4) %}
            sum{{ m }}_{{ n }} = fma(Acc4(x{{ m }}[{{ q }}]), w{{ q }}_{{ n }}, sum{{ m }}_{{ n }});
{% endfor %}
{% endfor %}
{% endfor %}
        }
{% endset %}
{{ main_loop(wg, x_loads, w_loads, "0u", "steps", "1u", first, next, multiply) }}
{% for m in range(tm) %}
    {
        let p = p0 + ty + {{ m * ty }}u;
        if p < info.positions {
{% for n in range(tn4) %}
            if o0 + tx + {{ n * tx }}u < out4 { store(position(p), (o0 + tx + {{ n * tx }}u) * 4u, sum{{ m }}_{{ n }}); }
{% endfor %}
        }
    }
{% endfor %}
}
