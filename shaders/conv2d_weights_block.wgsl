// Gradient of the weights of a convolution with padding 1, without workgroup memory or barriers,
// for software adapters. It computes partial sums over equal shares of the rows (split-K), which
// conv2d_weights_sum.wgsl adds up in a fixed order.
//
//   partial[s, {{ kernel }} k + l, c, o] = sum over n, i of share s, and j, of
//       x[n, {{ stride }} i + k - 1, {{ stride }} j + l - 1, c] * dy[n, i, j, o]
//
// Layouts    x [N, {{ stride }} H, {{ stride }} W, C / 4], dy [N, H, W, O / 4] of vec4 (NHWC);
//            partial [shares, taps, C, O / 4] of vec4. W is a multiple of {{ cols }}.
// Workgroup  one share, one k, {{ 4 * blocks }} channels c; 8 invocations along channels o, four
//            channels each; {{ cols }} pixels of a row at a time.
// Template   cols;  blocks: of four channels c;  kernel, stride: 3 and 1, or 4 and 2;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% set columns = stride * (cols - 1) + kernel %}

struct Info {
    height: u32,    // H
    width: u32,     // W
    channels4: u32, // C / 4
    out4: u32,      // O / 4
    rows: u32,      // N * H
    share: u32,     // rows per share
    shares: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Elem4>;
@group(0) @binding(1) var<storage, read_write> dy: array<Elem4>;
@group(0) @binding(2) var<storage, read_write> partial: array<Acc4>;
@group(0) @binding(3) var<uniform> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let H = info.height;
    let W = info.width;
    let C4 = info.channels4;
    let out4 = info.out4;
    var group = wid.x + wid.y * grid.x;
    let o_groups = (out4 + 7u) / 8u;
    let c_groups = (C4 + {{ blocks - 1 }}u) / {{ blocks }}u;
    // Invocations and blocks beyond the last channels repeat their work and write nothing.
    let o_wanted = group % o_groups * 8u + lid;
    let o = min(o_wanted, out4 - 1u);
    group /= o_groups;
    let c_wanted = group % c_groups * {{ blocks }}u;
    group /= c_groups;
    let k = group % {{ kernel }}u;
    let share = group / {{ kernel }}u;
    if share >= info.shares { return; }
{% for m in range(blocks) %}
    let c{{ m }} = min(c_wanted + {{ m }}u, C4 - 1u);
{% for l in range(kernel) %}
{% for q in range(4) %}
    var sum{{ l }}_{{ 4 * m + q }} = Acc4(0.0);
{% endfor %}
{% endfor %}
{% endfor %}
    let end = min((share + 1u) * info.share, info.rows);
    for (var row = share * info.share; row < end; row++) {
        let i = row % H * {{ stride }}u + k;
        if i == 0u || i > {{ stride }}u * H { continue; }
        let source = (row / H * H * {{ stride }}u + i - 1u) * W * {{ stride }}u;
        for (var j = 0u; j < W; j += {{ cols }}u) {
            let left = Acc(j > 0u);
            let right = Acc(j + {{ cols }}u < W);
{% for m in range(blocks) %}
            let x0_{{ m }} = Acc4({{ factor("x[(source + max(j * " ~ stride ~ "u, 1u) - 1u) * C4 + c" ~ m ~ "]") }}) * left;
{% for p in range(1, columns - 1) %}
            let x{{ p }}_{{ m }} = Acc4({{ factor("x[(source + j * " ~ stride ~ "u + " ~ (p - 1) ~ "u) * C4 + c" ~ m ~ "]") }});
{% endfor %}
            let x{{ columns - 1 }}_{{ m }} = Acc4({{ factor("x[(source + min(j * " ~ stride ~ "u + " ~ (columns - 2) ~ "u, W * " ~ stride ~ "u - 1u)) * C4 + c" ~ m ~ "]") }}) * right;
{% endfor %}
{% for p in range(cols) %}
            let y{{ p }} = Acc4({{ factor("dy[(row * W + j + " ~ p ~ "u) * out4 + o]") }});
{% endfor %}
{% for l in range(kernel) %}
{% for m in range(blocks) %}
{% for q in range(4) %}
{% for p in range(cols) %}
            sum{{ l }}_{{ 4 * m + q }} += x{{ p * stride + l }}_{{ m }}[{{ q }}] * y{{ p }};
{% endfor %}
{% endfor %}
{% endfor %}
{% endfor %}
        }
    }
    if o_wanted >= out4 { return; }
{% for m in range(blocks) %}
    if c_wanted + {{ m }}u < C4 {
{% for l in range(kernel) %}
        {
            let first = (((share * {{ kernel * kernel }}u + k * {{ kernel }}u + {{ l }}u) * C4 + c{{ m }}) * 4u) * out4 + o;
{% for q in range(4) %}
            partial[first + {{ q }}u * out4] = sum{{ l }}_{{ 4 * m + q }};
{% endfor %}
        }
{% endfor %}
    }
{% endfor %}
}
