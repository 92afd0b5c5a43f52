// Max-pooling over 3x3 windows with stride 2 and padding 1.
//
//   y[n, i, j, c] = max over k, l of x[n, 2 i + k - 1, 2 j + l - 1, c], over the pixels inside the
//   image; NaN if any of them is NaN
//
// Layouts    x [N, H, W, C], y [N, OH, OW, C] (NHWC), stored as S, four channels or one;
//            OH is H / 2 rounded up, OW is W / 2 rounded up.
// Invocation one unit of y.
// Template   wg: invocations;  four: whether S and T are four channels, not one;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% include "shared/max_pool_window.wgsl" %}

@group(0) @binding(0) var<storage, read_write> x: array<S>;
@group(0) @binding(1) var<storage, read_write> y: array<S>;
@group(0) @binding(2) var<uniform> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let id = (wid.x + wid.y * grid.x) * {{ wg }}u + lid;
    if id >= info.total { return; }
    let unit = id % info.units;
    let window = id / info.units;
    let j = window % info.out_width;
    let i = window / info.out_width % info.out_height;
    let n = window / (info.out_width * info.out_height);
    y[id] = S(search(n * info.height * info.width * info.units + unit, i, j).value);
}
