// Convolution without workgroup memory or barriers, for software adapters, on which both are slow:
// the forward pass, and the gradient of the input with weights packed for it. Forms:
//
//   same  3x3, stride 1:
//         y[n, i, j, o] = bias[o] + residual[n, i, j, o]
//             + sum over k, l, c of w[3 k + l, c, o] * x[n, i + k - 1, j + l - 1, c]
//   up    3x3 on x upsampled, from H x W to 2H x 2W: 2x2 taps of a 4x4 kernel for each parity
//         (f, g) of the pixel:
//         y[n, 2 i + f, 2 j + g, o] = ..
//             + sum over k, l, c of w[4 (f + 2 k) + g + 2 l, c, o]
//                 * x[n, i + k + f - 1, j + l + g - 1, c]
//   down  the gradient of up, from 2H x 2W to H x W, with the same taps for each parity of the
//         source:
//         y[n, i, j, o] = ..
//             + sum over f, g, k, l, c of w[4 (f + 2 k) + g + 2 l, c, o]
//                 * x[n, 2 (i + k) + f - 1, 2 (j + l) + g - 1, c]
//
// Layouts    x [N, .., .., C / 4] and y, residual [N, .., .., O / 4] of vec4 (NHWC);
//            w [taps, C, O / 4] of vec4 (packed);  bias [O / 4] of vec4. H and W are multiples of
//            {{ rows }} and {{ cols }}.
// Workgroup  8 invocations along channels, four channels each;  {{ rows }} x {{ cols }} pixels of
//            one image (of one parity) in registers.
// Template   rows, cols;  form;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% set same = form == "same" %}
{% set up = form == "up" %}
{% set down = form == "down" %}
{% set taps = 3 if same else 2 %}
// Pixels of x, and of y, from one position to the next.
{% set x_step = 2 if down else 1 %}
{% set y_step = 2 if up else 1 %}
struct Info {
    height: u32,    // H
    width: u32,     // W
    channels4: u32, // C / 4
    out4: u32,      // O / 4
    groups: u32,    // workgroups along channels
    total: u32,     // workgroups
    flags: u32,     // 1: bias, 2: residual
}

@group(0) @binding(0) var<storage, read_write> x: array<Elem4>;
@group(0) @binding(1) var<storage, read_write> w: array<Elem4>;
@group(0) @binding(2) var<storage, read_write> bias: array<Acc4>;
@group(0) @binding(3) var<storage, read_write> residual: array<Elem4>;
@group(0) @binding(4) var<storage, read_write> y: array<Elem4>;
@group(0) @binding(5) var<uniform> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let group = wid.x + wid.y * grid.x;
    if group >= info.total { return; }
    let H = info.height;
    let W = info.width;
    let C4 = info.channels4;
    let out4 = info.out4;
    // Invocations beyond the last channel repeat its work and write nothing.
    let wanted = group % info.groups * 8u + lid;
    let o = min(wanted, out4 - 1u);
{% if up %}
    let parity = group / info.groups % 4u;
    let block = group / info.groups / 4u;
{% else %}
    let block = group / info.groups;
{% endif %}
    let col = block % (W / {{ cols }}u) * {{ cols }}u;
    let row = block / (W / {{ cols }}u) % (H / {{ rows }}u) * {{ rows }}u;
    let n = block / (W / {{ cols }}u * (H / {{ rows }}u));
{% for i in range(rows) %}
{% for j in range(cols) %}
    var sum{{ i }}_{{ j }} = Acc4(0.0);
{% endfor %}
{% endfor %}
{% if down %}
    for (var parity = 0u; parity < 4u; parity++) {
{% endif %}
    let f = {{ "0u" if same else "parity / 2u" }};
    let g = {{ "0u" if same else "parity % 2u" }};
{% for i in range(rows + taps - 1) %}
    let row{{ i }} = ((n * H + clamp(row + f + {{ i }}u, 1u, H) - 1u) * {{ x_step }}u{{ " + 1u - f" if down }}) * {{ x_step }}u * W;
{% endfor %}
{% for j in range(cols + taps - 1) %}
    let col{{ j }} = (clamp(col + g + {{ j }}u, 1u, W) - 1u) * {{ x_step }}u{{ " + 1u - g" if down }};
{% endfor %}
    // 0 for rows and columns outside the image.
    let top = Acc(row + f > 0u);
    let bottom = Acc(row + f + {{ rows + taps - 2 }}u <= H);
    let left = Acc(col + g > 0u);
    let right = Acc(col + g + {{ cols + taps - 2 }}u <= W);
    for (var c = 0u; c < C4; c++) {
{% for i in range(rows + taps - 1) %}
{% for j in range(cols + taps - 1) %}
        let x{{ i }}_{{ j }} = Acc4({{ factor("x[(row" ~ i ~ " + col" ~ j ~ ") * C4 + c]") }})
{%- if i == 0 %} * top{% elif i == rows + taps - 2 %} * bottom{% endif %}
{%- if j == 0 %} * left{% elif j == cols + taps - 2 %} * right{% endif %};
{% endfor %}
{% endfor %}
{% for k in range(taps) %}
{% for l in range(taps) %}
        {
{% if same %}
            let tap = {{ 3 * k + l }}u;
{% else %}
            let tap = 4u * (f + {{ 2 * k }}u) + g + {{ 2 * l }}u;
{% endif %}
{% for q in range(4) %}
            let w{{ q }} = Acc4(w[(tap * C4 * 4u + c * 4u + {{ q }}u) * out4 + o]);
{% endfor %}
{% for i in range(rows) %}
{% for j in range(cols) %}
{% for q in range(4) %}
            sum{{ i }}_{{ j }} += x{{ i + k }}_{{ j + l }}[{{ q }}] * w{{ q }};
{% endfor %}
{% endfor %}
{% endfor %}
        }
{% endfor %}
{% endfor %}
    }
{% if down %}
    }
{% endif %}
    if wanted >= out4 { return; }
    var b = Acc4(0.0);
    if (info.flags & 1u) != 0u { b = bias[o]; }
{% if up %}
    let first = (((n * H + row) * 2u + parity / 2u) * 2u * W + col * 2u + parity % 2u) * out4 + o;
{% else %}
    let first = ((n * H + row) * W + col) * out4 + o;
{% endif %}
    if (info.flags & 2u) != 0u {
{% for i in range(rows) %}
{% for j in range(cols) %}
        y[first + ({{ i * y_step * y_step }}u * W + {{ j * y_step }}u) * out4] = Elem4(sum{{ i }}_{{ j }} + b + Acc4(residual[first + ({{ i * y_step * y_step }}u * W + {{ j * y_step }}u) * out4]));
{% endfor %}
{% endfor %}
    } else {
{% for i in range(rows) %}
{% for j in range(cols) %}
        y[first + ({{ i * y_step * y_step }}u * W + {{ j * y_step }}u) * out4] = Elem4(sum{{ i }}_{{ j }} + b);
{% endfor %}
{% endfor %}
    }
}
