// 3x3 convolution of stride 1 without workgroup memory or barriers, for software adapters, on which both are slow: the forward
// pass, and the gradient of the input with weights packed for it.
//
//   y[n, i, j, o] = bias[o] + residual[n, i, j, o] + sum over k, l, c of w[3 k + l, c, o] * x[n, i + k - 1, j + l - 1, c]
//
// Layouts    x [N, H, W, C / 4] and y, residual [N, H, W, O / 4] of four (NHWC);  w [9, C, O / 4] of four (packed);  bias [O / 4] of
//            four. H and W are multiples of {{ rows }} and {{ cols }}.
// Workgroup  8 invocations along channels, four each;  {{ rows }} x {{ cols }} pixels of one image in registers.
// Template   rows, cols.

struct Info {
    height: u32,
    width: u32,
    channels4: u32, // C / 4
    out4: u32,      // O / 4
    groups: u32,    // workgroups along channels
    total: u32,     // workgroups
    flags: u32,     // 1: bias, 2: residual
}

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> residual: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> info: Info;

@compute @workgroup_size(8)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let group = wid.x + wid.y * grid.x;
    if group >= info.total { return; }
    let H = info.height;
    let W = info.width;
    let C4 = info.channels4;
    let out4 = info.out4;
    // Invocations beyond the last channel do its work again, and write nothing.
    let wanted = group % info.groups * 8u + lid;
    let o = min(wanted, out4 - 1u);
    let block = group / info.groups;
    let col = block % (W / {{ cols }}u) * {{ cols }}u;
    let row = block / (W / {{ cols }}u) % (H / {{ rows }}u) * {{ rows }}u;
    let n = block / (W / {{ cols }}u * (H / {{ rows }}u));
{% for i in range(rows + 2) %}
    let row{{ i }} = (n * H + clamp(row + {{ i }}u, 1u, H) - 1u) * W;
{% endfor %}
{% for j in range(cols + 2) %}
    let col{{ j }} = clamp(col + {{ j }}u, 1u, W) - 1u;
{% endfor %}
    // 0 for the rows and columns around the image.
    let top = f32(row > 0u);
    let bottom = f32(row + {{ rows }}u < H);
    let left = f32(col > 0u);
    let right = f32(col + {{ cols }}u < W);
{% for i in range(rows) %}
{% for j in range(cols) %}
    var sum{{ i }}_{{ j }} = vec4<f32>(0.0);
{% endfor %}
{% endfor %}
    for (var c = 0u; c < C4; c++) {
{% for i in range(rows + 2) %}
{% for j in range(cols + 2) %}
        let x{{ i }}_{{ j }} = x[(row{{ i }} + col{{ j }}) * C4 + c]
{%- if i == 0 %} * top{% elif i == rows + 1 %} * bottom{% endif %}
{%- if j == 0 %} * left{% elif j == cols + 1 %} * right{% endif %};
{% endfor %}
{% endfor %}
{% for k in range(3) %}
{% for l in range(3) %}
        {
{% for q in range(4) %}
            let w{{ q }} = w[({{ 3 * k + l }}u * C4 * 4u + c * 4u + {{ q }}u) * out4 + o];
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
    if wanted >= out4 { return; }
    var b = vec4<f32>(0.0);
    if (info.flags & 1u) != 0u { b = bias[o]; }
    let first = ((n * H + row) * W + col) * out4 + o;
    if (info.flags & 2u) != 0u {
{% for i in range(rows) %}
{% for j in range(cols) %}
        y[first + ({{ i }}u * W + {{ j }}u) * out4] = sum{{ i }}_{{ j }} + b + residual[first + ({{ i }}u * W + {{ j }}u) * out4];
{% endfor %}
{% endfor %}
    } else {
{% for i in range(rows) %}
{% for j in range(cols) %}
        y[first + ({{ i }}u * W + {{ j }}u) * out4] = sum{{ i }}_{{ j }} + b;
{% endfor %}
{% endfor %}
    }
}
