// Gradient of convolution weights as a matrix product over pixels, tiles in workgroup memory, blocks in registers. Sums over
// equal shares of the pixels, which conv2d_weights_sum.wgsl adds up in a fixed order.
//
//   partial[s, t, c, o] = sum over the positions p of share s of x[n, stride * p + offset(t), c] * dy[n, p, o]
//
// Layouts    x [N, H, W, C], dy [N, rows, cols, O] (NHWC);  partial [shares, taps, C, O / 4] of four (the last ones padded).
// Workgroup  one share, one tap, {{ bm }} channels c times {{ bn }} channels o; {{ bk }} positions at a time in workgroup memory, the next ones
//            fetched to registers meanwhile. An invocation: {{ tm }} times {{ tn }}.
// Template   bm, bn, bk, tm, tn;  x4, y4: whether C, O are multiples of four.

{% set bm4 = bm // 4 %}
{% set bn4 = bn // 4 %}
{% set tm4 = tm // 4 %}
{% set tn4 = tn // 4 %}
{% set tx = bn // tn %}
{% set ty = bm // tm %}
{% set wg = tx * ty %}
{% set x_loads = bk * bm4 // wg %}
{% set y_loads = bk * bn4 // wg %}
// [position][channel / 4].
var<workgroup> x_tile: array<vec4<f32>, {{ bk * bm4 }}>;
var<workgroup> y_tile: array<vec4<f32>, {{ bk * bn4 }}>;

/// Four channels from `c` on of the pixel that `tap` reaches from position `p`, 0 outside.
fn source(p: u32, tap: vec4<i32>, c: u32, end: u32) -> vec4<f32> {
    let row = p / info.cols % info.rows * info.stride + u32(tap.x);
    let col = p % info.cols * info.stride + u32(tap.y);
    if !(p < end && row < info.height && col < info.width && c < info.channels) { return vec4<f32>(0.0); }
    let first = ((p / (info.cols * info.rows) * info.height + row) * info.width + col) * info.channels + c;
{% if x4 %}
    return x[first / 4u];
{% else %}
    var values = vec4<f32>(0.0);
    for (var k = 0u; k < 4u; k++) {
        if c + k < info.channels { values[k] = x[first + k]; }
    }
    return values;
{% endif %}
}

/// Four channels from `o` on of position `p` of dy, 0 beyond.
fn gradient(p: u32, o: u32, end: u32) -> vec4<f32> {
    if !(p < end && o < info.out_channels) { return vec4<f32>(0.0); }
    let first = p * info.out_channels + o;
{% if y4 %}
    return dy[first / 4u];
{% else %}
    var values = vec4<f32>(0.0);
    for (var k = 0u; k < 4u; k++) {
        if o + k < info.out_channels { values[k] = dy[first + k]; }
    }
    return values;
{% endif %}
}

{# The tiles from position `p` on, to registers. #}
{% macro fetch(p) %}
{% for i in range(x_loads) %}
        next_x{{ i }} = source({{ p }} + (lid + {{ i * wg }}u) / {{ bm4 }}u, tap, (c0 + (lid + {{ i * wg }}u) % {{ bm4 }}u) * 4u, end);
{% endfor %}
{% for i in range(y_loads) %}
        next_y{{ i }} = gradient({{ p }} + (lid + {{ i * wg }}u) / {{ bn4 }}u, (o0 + (lid + {{ i * wg }}u) % {{ bn4 }}u) * 4u, end);
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

{% for i in range(x_loads) %}
    var next_x{{ i }} = vec4<f32>(0.0);
{% endfor %}
{% for i in range(y_loads) %}
    var next_y{{ i }} = vec4<f32>(0.0);
{% endfor %}
{% for m in range(tm) %}
{% for n in range(tn4) %}
    var sum{{ m }}_{{ n }} = vec4<f32>(0.0);
{% endfor %}
{% endfor %}
{{ fetch("begin") }}
    for (var p = begin; p < end; p += {{ bk }}u) {
        workgroupBarrier();
{% for i in range(x_loads) %}
        x_tile[lid + {{ i * wg }}u] = next_x{{ i }};
{% endfor %}
{% for i in range(y_loads) %}
        y_tile[lid + {{ i * wg }}u] = next_y{{ i }};
{% endfor %}
        workgroupBarrier();
        if p + {{ bk }}u < end {
{{ fetch("p + " ~ bk ~ "u") }}
        }
        for (var k = 0u; k < {{ bk }}u; k++) {
{% for n in range(tn4) %}
            let y{{ n }} = y_tile[k * {{ bn4 }}u + tx + {{ n * tx }}u];
{% endfor %}
{% for m in range(tm4) %}
            let x{{ m }} = x_tile[k * {{ bm4 }}u + ty + {{ m * ty }}u];
{% for q in range(4) %}
{% for n in range(tn4) %}
            sum{{ m * 4 + q }}_{{ n }} = fma(vec4<f32>(x{{ m }}[{{ q }}]), y{{ n }}, sum{{ m * 4 + q }}_{{ n }});
{% endfor %}
{% endfor %}
{% endfor %}
        }
    }
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

