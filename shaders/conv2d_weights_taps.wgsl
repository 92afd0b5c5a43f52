// The gradient of conv2d_weights_tiled.wgsl without workgroup memory or barriers, for software
// adapters, on which both are slow: any kernel, any stride, any number of channels.
// (conv2d_weights_block.wgsl is faster where it applies.)
//
// Layouts    as in conv2d_weights_tiled.wgsl; shares consist of whole rows of dy.
// Workgroup  one share, one tap, {{ 4 * blocks }} channels c;  8 invocations along channels o, four
//            channels each;  {{ positions }} positions at a time.
// Template   blocks: of four channels c;  positions;  x4, y4: whether C, O are multiples of four;
//            taps: the capacity of info.tap;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/four.wgsl" import four %}
{% include "shared/conv2d_weights_operands.wgsl" %}

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let out4 = (info.out_channels + 3u) / 4u;
    let o_groups = (out4 + 7u) / 8u;
    let c_groups = (info.channels + {{ 4 * blocks - 1 }}u) / {{ 4 * blocks }}u;
    var group = wid.x + wid.y * grid.x;
    let wanted = group % o_groups * 8u + lid;
    group /= o_groups;
    let channel = group % c_groups * {{ 4 * blocks }}u;
    group /= c_groups;
    let t = group % info.taps;
    let share = group / info.taps;
    if share >= info.shares { return; }
    let tap = info.tap[t];
    // Invocations and blocks beyond the last channels repeat the work of others and write nothing.
    let o = min(wanted, out4 - 1u) * 4u;
    let last = info.channels - 1u;
{% if not y4 %}
    let last_o = info.out_channels - 1u;
{% endif %}
{% for m in range(blocks) %}
    let c{{ m }} = min(channel + {{ 4 * m }}u, last / 4u * 4u);
{% endfor %}
{% for m in range(4 * blocks) %}
    var sum{{ m }} = Acc4(0.0);
{% endfor %}
    let end = min((share + 1u) * info.share, info.positions) / info.cols;
    for (var r = share * info.share / info.cols; r < end; r++) {
        let row = r % info.rows * info.stride + u32(tap.x);
        if row >= info.height { continue; }
        let image = (r / info.rows * info.height + row) * info.width;
        for (var p = 0u; p < info.cols; p += {{ positions }}u) {
{% for i in range(positions) %}
            let col{{ i }} = (p + {{ i }}u) * info.stride + u32(tap.y);
            let inside{{ i }} = p + {{ i }}u < info.cols && col{{ i }} < info.width;
            let pixel{{ i }} = select(image, image + col{{ i }}, inside{{ i }}) * info.channels;
            let at{{ i }} = (r * info.cols + min(p + {{ i }}u, info.cols - 1u)) * info.out_channels;
            let y{{ i }} = Acc4({{ factor(four("dy", "at" ~ i, "o", "last_o", y4)) }}) * Acc(inside{{ i }});
{% for m in range(blocks) %}
            let x{{ i }}_{{ m }} = Acc4({{ factor(four("x", "pixel" ~ i, "c" ~ m, "last", x4)) }});
{% endfor %}
{% endfor %}
{% for m in range(blocks) %}
{% for q in range(4) %}
{% for i in range(positions) %}
            sum{{ 4 * m + q }} += x{{ i }}_{{ m }}[{{ q }}] * y{{ i }};
{% endfor %}
{% endfor %}
{% endfor %}
        }
    }
    if wanted >= out4 { return; }
    let first = (share * info.taps + t) * info.channels;
{% for m in range(4 * blocks) %}
    if channel + {{ m }}u < info.channels { partial[(first + channel + {{ m }}u) * out4 + wanted] = sum{{ m }}; }
{% endfor %}
}
