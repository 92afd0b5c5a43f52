// Convolution as an implicit matrix product, with tiles in workgroup memory and blocks in
// registers: the forward pass, and the gradient of the input as a convolution of the gradient of
// the output.
//
//   y[n, at(p), o] = bias[o] + residual[n, at(p), o]
//       + sum over taps t, channels c of w[t, c, o] * x[n, stride * p + offset(t), c]
//
// p runs over a grid of positions; at(p) = out_stride * p + first is its pixel of y. A convolution
// has out_stride 1. The gradient of one with stride 2 takes four launches, one for each parity of
// the pixel, with the taps that reach it; so does a convolution of an upsampled input
// (src/kernels/conv2d/upsample.rs). x is 0 outside the image.
//
// Layouts    x [N, H, W, C], y and residual [N, OH, OW, O] (NHWC);  w [taps, C, O / 4] of vec4
//            (packed);  bias [O].
// Workgroup  {{ bm }} positions (numbered through all images) times {{ bn }} channels; {{ bk }}
//            channels of one tap at a time in workgroup memory, while the next ones are fetched to
//            registers. An invocation computes {{ tm }} positions times {{ tn }} channels.
// Template   bm, bn, bk, tm, tn;  round: channels per iteration of the innermost loop, even;  x4,
//            y4: whether C, O are multiples of four;  taps: the capacity of info.tap;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/tiled_product.wgsl" import registers, step %}
{% set bk4 = bk // 4 %}
{% set bn4 = bn // 4 %}
{% set tn4 = tn // 4 %}
{% set tx = bn // tn %}
{% set ty = bm // tm %}
{% set x_loads = bm * bk4 // wg %}
{% set w_loads = bk * bn4 // wg %}
{% include "shared/conv2d_operands.wgsl" %}

// Of x, [position][channel / 2] of vec2: an invocation reads two channels of its operands at a
// time. Of w, [channel][out channel / 4].
var<workgroup> a_tile: array<vec2<Elem>, {{ bm * bk // 2 }}>;
var<workgroup> b_tile: array<Elem4, {{ bk * bn4 }}>;

/// Returns four channels from 4 c on of the pixel that begins at `first`; channels beyond the last
/// are 0.
fn channels(first: u32, c: u32) -> Elem4 {
{% if x4 %}
    return {{ factor("x[first + c]") }};
{% else %}
    return select(Elem4(0.0), source(first, 4u * c), 4u * c + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(info.channels));
{% endif %}
}

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let tiles = (info.out4 + {{ bn4 - 1 }}u) / {{ bn4 }}u;
    let tile = wid.x + wid.y * grid.x;
    let p0 = tile / tiles * {{ bm }}u;
    let o0 = tile % tiles * {{ bn4 }}u;
    if p0 >= info.positions { return; }
    let tx = lid % {{ tx }}u;
    let ty = lid / {{ tx }}u;

    // What the invocation fetches of x: quad k4 of the channels of the pixels that taps reach from
    // row and column `corner` (16 bits each), which begin at `first`.
    let k4 = lid % {{ bk4 }}u;
{% for i in range(x_loads) %}
    let own{{ i }} = p0 + lid / {{ bk4 }}u + {{ i * (wg // bk4) }}u;
    let at{{ i }} = position(own{{ i }});
    // For positions beyond the last: a row from which no tap reaches the image.
    let row{{ i }} = select(at{{ i }}.x * info.stride, 0x7fffu, own{{ i }} >= info.positions);
    let col{{ i }} = at{{ i }}.y * info.stride;
    let corner{{ i }} = (row{{ i }} << 16u) | col{{ i }};
    var first{{ i }} = ((at{{ i }}.z * info.height + at{{ i }}.x * info.stride) * info.width + col{{ i }}) * info.pixel{{ " + k4" if x4 }};
{% endfor %}
{{ registers(x_loads, w_loads, tm, tn4) }}
{% set multiply %}
            for (var k = 0u; k < info.rounds; k++) {
{% for r in range(round // 2) %}
                {
{% for q in range(2) %}
{% for n in range(tn4) %}
                    let w{{ q }}_{{ n }} = Acc4(b_tile[k * {{ round * bn4 }}u + tx + {{ (2 * r + q) * bn4 + n * tx }}u]);
{% endfor %}
{% endfor %}
{% for m in range(tm) %}
                    let x{{ m }} = vec2<Acc>(a_tile[ty * {{ bk // 2 }}u + k * {{ round // 2 }}u + {{ m * ty * bk // 2 + r }}u]);
{% for q in range(2) %}
{% for n in range(tn4) %}
                    sum{{ m }}_{{ n }} = fma(Acc4(x{{ m }}[{{ q }}]), w{{ q }}_{{ n }}, sum{{ m }}_{{ n }});
{% endfor %}
{% endfor %}
{% endfor %}
                }
{% endfor %}
            }
{% endset %}
{% set set_a %}
{% for i in range(x_loads) %}
        a_tile[2u * (lid + {{ i * wg }}u)] = next_a{{ i }}.xy;
        a_tile[2u * (lid + {{ i * wg }}u) + 1u] = next_a{{ i }}.zw;
{% endfor %}
{% endset %}
    // By how much the previous tap shifted `first`.
    var before = 0u;
    // One iteration more than there are taps, in which nothing is fetched.
    for (var t = 0u; t <= info.taps; t++) {
        let tap = info.tap[min(t, info.taps - 1u)];
        let shift = (u32(tap.x) * info.width + u32(tap.y)) * info.pixel;
        let w_tap = (u32(tap.z) * info.channels + lid / {{ bn4 }}u) * info.out4 + min(o0 + lid % {{ bn4 }}u, info.out4 - 1u);
{% for i in range(x_loads) %}
        let here{{ i }} = t < info.taps && (corner{{ i }} >> 16u) + u32(tap.x) < info.height && (corner{{ i }} & 0xffffu) + u32(tap.y) < info.width;
        first{{ i }} += shift - before;
{% endfor %}
        before = shift;
        for (var c = 0u; c < info.channels4 && (c == 0u || t < info.taps); c += {{ bk4 }}u) {
{% for i in range(x_loads) %}
            next_a{{ i }} = Elem4(0.0);
            if here{{ i }} && c + k4 < info.channels4 { next_a{{ i }} = channels(first{{ i }}, {{ 'c' if x4 else 'c + k4' }}); }
{% endfor %}
            // Any weight will do beyond the last channel, where x is 0, and beyond the last output,
            // which isn't stored.
{% for i in range(w_loads) %}
            next_b{{ i }} = w[min(w_tap + (4u * c + {{ i * wg // bn4 }}u) * info.out4, info.last_w)];
{% endfor %}
{{ step(wg, w_loads, "t + c > 0u", multiply, set_a) }}
        }
    }
{% for m in range(tm) %}
    {
        let p = p0 + ty + {{ m * ty }}u;
        if p < info.positions {
{% for n in range(tn4) %}
            if o0 + tx + {{ n * tx }}u < info.out4 { store(position(p), (o0 + tx + {{ n * tx }}u) * 4u, sum{{ m }}_{{ n }}); }
{% endfor %}
        }
    }
{% endfor %}
}
