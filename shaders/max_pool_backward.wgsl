// Max-pooling over 3x3 windows with stride 2 and padding 1: the gradient of x.
//
//   dx[n, p, q, c] = sum over the windows (i, j) whose maximum is x[n, p, q, c] of dy[n, i, j, c]
//
// Layouts    x, dx [N, H, W, C], dy [N, OH, OW, C] (NHWC), stored as S, four channels or one;
//            OH is H / 2 rounded up, OW is W / 2 rounded up.
// Invocation the pixels (2 a, 2 b) to (2 a + 1, 2 b + 1). Only the windows (a, b) to (a + 1, b + 1)
//            cover them: the invocation searches these windows again and adds their gradients in
//            this order.
// Template   wg: invocations;  four: whether S and T are four channels, not one;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% include "shared/max_pool_window.wgsl" %}

@group(0) @binding(0) var<storage, read_write> x: array<S>;
@group(0) @binding(1) var<storage, read_write> dy: array<S>;
@group(0) @binding(2) var<storage, read_write> dx: array<S>;
@group(0) @binding(3) var<uniform> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let id = (wid.x + wid.y * grid.x) * {{ wg }}u + lid;
    if id >= info.total { return; }
    let unit = id % info.units;
    let window = id / info.units;
    let b = window % info.out_width;
    let a = window / info.out_width % info.out_height;
    let n = window / (info.out_width * info.out_height);
    let base = n * info.height * info.width * info.units + unit;
{% for p in range(2) %}
{% for q in range(2) %}
    var sum{{ p }}_{{ q }} = T(0.0);
{% endfor %}
{% endfor %}
{% for i in range(2) %}
{% for j in range(2) %}
    if a + {{ i }}u < info.out_height && b + {{ j }}u < info.out_width {
        let tap = search(base, a + {{ i }}u, b + {{ j }}u).tap;
        let g = T(dy[id + ({{ i }}u * info.out_width + {{ j }}u) * info.units]);
{# Pixel 2 a + p is row p + 1 - 2 i of window a + i. #}
{% for p in range(i, 2) %}
{% for q in range(j, 2) %}
        sum{{ p }}_{{ q }} += select(T(0.0), g, tap == U({{ 3 * (p + 1 - 2 * i) + q + 1 - 2 * j }}u));
{% endfor %}
{% endfor %}
    }
{% endfor %}
{% endfor %}
    let first = base + (2u * a * info.width + 2u * b) * info.units;
{% for p in range(2) %}
{% for q in range(2) %}
    if 2u * a + {{ p }}u < info.height && 2u * b + {{ q }}u < info.width {
        dx[first + ({{ p }}u * info.width + {{ q }}u) * info.units] = S(sum{{ p }}_{{ q }});
    }
{% endfor %}
{% endfor %}
}
