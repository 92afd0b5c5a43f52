// Convolution as an implicit matrix product, tiles in workgroup memory, blocks in registers: the forward pass, and the gradient
// of the input as a convolution of the gradient of the output.
//
//   y[n, at(p), o] = bias[o] + residual[n, at(p), o] + sum over taps t, channels c of w[t, c, o] * x[n, stride * p + offset(t), c]
//
// p runs over a grid of positions, at(p) = out_stride * p + first is its pixel of y: a convolution has out_stride 1; the gradient
// of one with stride 2 takes four launches, one for each parity of the pixel, with the taps that reach it. x is 0 outside.
//
// Layouts    x [N, H, W, C], y and residual [N, OH, OW, O] (NHWC);  w [taps, C, O / 4] of four (packed);  bias [O].
// Workgroup  {{ bm }} positions (of all images in a row) times {{ bn }} channels; {{ bk }} channels of one tap at a time in workgroup memory,
//            the next ones fetched to registers meanwhile. An invocation: {{ tm }} positions times {{ tn }} channels.
// Template   bm, bn, bk, tm, tn;  x4, y4: whether C, O are multiples of four.

{% set bk4 = bk // 4 %}
{% set bn4 = bn // 4 %}
{% set tn4 = tn // 4 %}
{% set tx = bn // tn %}
{% set ty = bm // tm %}
{% set wg = tx * ty %}
{% set x_loads = bm * bk4 // wg %}
{% set w_loads = bk * bn4 // wg %}
struct Info {
    height: u32,
    width: u32,
    channels: u32,     // C
    stride: u32,
    rows: u32,         // the grid of positions
    cols: u32,
    out_channels: u32, // O
    taps: u32,
    out_height: u32,
    out_width: u32,
    first_row: u32,
    first_col: u32,
    out_stride: u32,
    flags: u32,        // 1: bias, 2: residual
    positions: u32,    // N * rows * cols
    unused: u32,
    tap: array<vec4<i32>, 9>, // (row offset, column offset, index into w)
}

@group(0) @binding(0) var<storage, read_write> x: array<{{ "vec4<f32>" if x4 else "f32" }}>;
@group(0) @binding(1) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> residual: array<{{ "vec4<f32>" if y4 else "f32" }}>;
@group(0) @binding(4) var<storage, read_write> y: array<{{ "vec4<f32>" if y4 else "f32" }}>;
@group(0) @binding(5) var<storage, read_write> info: Info;

// [position][channel / 4] and [channel][out channel / 4].
var<workgroup> x_tile: array<vec4<f32>, {{ bm * bk4 }}>;
var<workgroup> w_tile: array<vec4<f32>, {{ bk * bn4 }}>;

/// A position: row and column of its first tap's pixel (offset not added), and its image.
fn position(p: u32) -> vec3<u32> {
    return vec3<u32>(p / info.cols % info.rows * info.stride, p % info.cols * info.stride, p / (info.cols * info.rows));
}

/// Four channels from `c` on of the pixel that `tap` reaches from position `at`, 0 outside.
fn source(at: vec3<u32>, tap: vec4<i32>, c: u32, inside: bool) -> vec4<f32> {
    let row = at.x + u32(tap.x);
    let col = at.y + u32(tap.y);
    if !(inside && row < info.height && col < info.width && c < info.channels) { return vec4<f32>(0.0); }
    let first = ((at.z * info.height + row) * info.width + col) * info.channels + c;
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

/// Writes four channels of y from `o` on.
fn store(p: u32, o: u32, sum: vec4<f32>) {
    let n = p / (info.cols * info.rows);
    let row = p / info.cols % info.rows * info.out_stride + info.first_row;
    let col = p % info.cols * info.out_stride + info.first_col;
    let first = ((n * info.out_height + row) * info.out_width + col) * info.out_channels + o;
    var value = sum;
    for (var k = 0u; k < 4u; k++) {
        if (info.flags & 1u) != 0u && o + k < info.out_channels { value[k] += bias[o + k]; }
    }
{% if y4 %}
    if (info.flags & 2u) != 0u { value += residual[first / 4u]; }
    y[first / 4u] = value;
{% else %}
    for (var k = 0u; k < 4u; k++) {
        if o + k < info.out_channels {
            if (info.flags & 2u) != 0u { value[k] += residual[first + k]; }
            y[first + k] = value[k];
        }
    }
{% endif %}
}

{# The tiles of step `step`, to registers. #}
{% macro fetch(step) %}
        {
            let tap = info.tap[{{ step }} / chunks];
            let c0 = {{ step }} % chunks * {{ bk }}u;
{% for i in range(x_loads) %}
            next_x{{ i }} = source(at{{ i }}, tap, c0 + lid % {{ bk4 }}u * 4u, inside{{ i }});
{% endfor %}
{% for i in range(w_loads) %}
            {
                let c = c0 + (lid + {{ i * wg }}u) / {{ bn4 }}u;
                let o = o0 + (lid + {{ i * wg }}u) % {{ bn4 }}u;
                next_w{{ i }} = vec4<f32>(0.0);
                if c < info.channels && o < out4 { next_w{{ i }} = w[(u32(tap.z) * info.channels + c) * out4 + o]; }
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
    var next_x{{ i }} = vec4<f32>(0.0);
{% endfor %}
{% for i in range(w_loads) %}
    var next_w{{ i }} = vec4<f32>(0.0);
{% endfor %}
{% for m in range(tm) %}
{% for n in range(tn4) %}
    var sum{{ m }}_{{ n }} = vec4<f32>(0.0);
{% endfor %}
{% endfor %}
    if steps > 0u {
{{ fetch("0u") }}
    }
    for (var step = 0u; step < steps; step++) {
        workgroupBarrier();
{% for i in range(x_loads) %}
        x_tile[lid + {{ i * wg }}u] = next_x{{ i }};
{% endfor %}
{% for i in range(w_loads) %}
        w_tile[lid + {{ i * wg }}u] = next_w{{ i }};
{% endfor %}
        workgroupBarrier();
        if step + 1u < steps {
{{ fetch("(step + 1u)") }}
        }
        for (var k = 0u; k < {{ bk4 }}u; k++) {
{% for q in range(4) %}
{% for n in range(tn4) %}
            let w{{ q }}_{{ n }} = w_tile[(k * 4u + {{ q }}u) * {{ bn4 }}u + tx + {{ n * tx }}u];
{% endfor %}
{% endfor %}
{% for m in range(tm) %}
            let x{{ m }} = x_tile[(ty + {{ m * ty }}u) * {{ bk4 }}u + k];
{% for n in range(tn4) %}
{% for q in range(4) %}
            sum{{ m }}_{{ n }} = fma(vec4<f32>(x{{ m }}[{{ q }}]), w{{ q }}_{{ n }}, sum{{ m }}_{{ n }});
{% endfor %}
{% endfor %}
{% endfor %}
        }
    }
{% for m in range(tm) %}
    {
        let p = p0 + ty + {{ m * ty }}u;
        if p < info.positions {
{% for n in range(tn4) %}
            if o0 + tx + {{ n * tx }}u < out4 { store(p, (o0 + tx + {{ n * tx }}u) * 4u, sum{{ m }}_{{ n }}); }
{% endfor %}
        }
    }
{% endfor %}
}
