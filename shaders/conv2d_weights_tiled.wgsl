// Gradient of convolution weights as a matrix product over pixels, with tiles in workgroup memory
// and blocks in registers. It computes partial sums over equal shares of the pixels (split-K),
// which conv2d_weights_sum.wgsl adds up in a fixed order.
//
//   partial[s, t, c, o] = sum over the positions p of share s of
//       x[n, stride * p + offset(t), c] * dy[n, p, o]
//
// Layouts    x [N, H, W, C], dy [N, rows, cols, O] (NHWC);  partial [shares, taps, C, O / 4] of
//            vec4 (the last ones padded).
// Workgroup  one share, one tap, {{ bm }} channels c times {{ bn }} channels o; {{ bk }} positions
//            at a time in workgroup memory, while the next ones are fetched to registers. An
//            invocation computes {{ tm }} times {{ tn }} channels.
// Template   bm, bn, bk, tm, tn;  round: positions per iteration of the innermost loop;  x4, y4:
//            whether C, O are multiples of four;  taps: the capacity of info.tap;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/four.wgsl" import four %}
{% from "shared/tiled_product.wgsl" import registers, step %}
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

/// Returns four channels from 4 c on of the pixel of x that begins at `first`.
fn source(first: u32, c: u32) -> Elem4 {
{% if x4 %}
    return {{ factor("x[first]") }};
{% else %}
    let last = info.channels - 1u;
    return {{ factor(four("x", "first", "4u * c", "last", false)) }};
{% endif %}
}

/// Returns four channels from 4 o on of position `p` of dy.
fn gradient(p: u32, o: u32) -> Elem4 {
{% if y4 %}
    return {{ factor("dy[p * info.out4 + o]") }};
{% else %}
    let last = info.out_channels - 1u;
    let first = p * info.out_channels;
    return {{ factor(four("dy", "first", "4u * o", "last", false)) }};
{% endif %}
}

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let o_tiles = (info.out4 + {{ bn4 - 1 }}u) / {{ bn4 }}u;
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

    // What the invocation fetches: quads c and o of some positions. (Quads beyond the last repeat
    // the last and aren't stored.) Positions advance by {{ bk }}, in columns, rows and images, with
    // a further step where they leave a row or an image.
    let c = min(c0 + lid % {{ bm4 }}u, info.channels4 - 1u);
    let o = min(o0 + lid % {{ bn4 }}u, info.out4 - 1u);
{% for i in range(x_loads) %}
    let p{{ i }} = begin + (lid + {{ i * wg }}u) / {{ bm4 }}u;
    var col{{ i }} = p{{ i }} % info.cols * info.stride;
    var row{{ i }} = p{{ i }} / info.cols % info.rows * info.stride;
    var first{{ i }} = ((p{{ i }} / (info.cols * info.rows) * info.height + row{{ i }} + u32(tap.x)) * info.width + col{{ i }} + u32(tap.y)) * info.pixel{{ " + c" if x4 }};
{% endfor %}
{{ registers(x_loads, y_loads, tm, tn4) }}
{% set multiply %}
            for (var k = 0u; k < info.rounds; k++) {
{% for r in range(round) %}
                {
{% for n in range(tn4) %}
                    let y{{ n }} = Acc4(b_tile[k * {{ round * bn4 }}u + tx + {{ r * bn4 + n * tx }}u]);
{% endfor %}
{% for m in range(tm4) %}
                    let x{{ m }} = Acc4(a_tile[k * {{ round * bm4 }}u + ty + {{ r * bm4 + m * ty }}u]);
{% for q in range(4) %}
{% for n in range(tn4) %}
                    sum{{ m * 4 + q }}_{{ n }} = fma(Acc4(x{{ m }}[{{ q }}]), y{{ n }}, sum{{ m * 4 + q }}_{{ n }});
{% endfor %}
{% endfor %}
{% endfor %}
                }
{% endfor %}
            }
{% endset %}
{% set set_a %}
{% for i in range(x_loads) %}
        a_tile[lid + {{ i * wg }}u] = next_a{{ i }};
{% endfor %}
{% endset %}
    // One iteration more than there are tiles, in which nothing is fetched.
    for (var p = begin; p < end + {{ bk }}u; p += {{ bk }}u) {
{% for i in range(x_loads) %}
        next_a{{ i }} = Elem4(0.0);
        if p + (lid + {{ i * wg }}u) / {{ bm4 }}u < end && row{{ i }} + u32(tap.x) < info.height && col{{ i }} + u32(tap.y) < info.width { next_a{{ i }} = source(first{{ i }}, c); }
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
{% endfor %}
{% for i in range(y_loads) %}
        // Beyond the end x is 0, so any gradient will do.
        next_b{{ i }} = gradient(min(p + (lid + {{ i * wg }}u) / {{ bn4 }}u, info.last), o);
{% endfor %}
{{ step(wg, y_loads, "p > begin", multiply, set_a) }}
    }
    let row = (share * info.taps + t) * info.channels;
{% for m in range(tm4) %}
{% for q in range(4) %}
    {
        let c = (c0 + ty + {{ m * ty }}u) * 4u + {{ q }}u;
        if c < info.channels {
{% for n in range(tn4) %}
            if o0 + tx + {{ n * tx }}u < info.out4 { partial[(row + c) * info.out4 + o0 + tx + {{ n * tx }}u] = sum{{ m * 4 + q }}_{{ n }}; }
{% endfor %}
        }
    }
{% endfor %}
{% endfor %}
}
