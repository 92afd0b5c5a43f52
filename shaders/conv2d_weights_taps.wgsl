// The gradient of conv2d_weights_tiled.wgsl without workgroup memory or barriers, for software adapters, on which both are slow: any
// kernel, any stride, any number of channels. (conv2d_weights_block.wgsl is faster where it fits.)
//
// Layouts    as conv2d_weights_tiled.wgsl.
// Workgroup  one share, one tap, {{ 4 * blocks }} channels c;  8 invocations along channels o, four each;  {{ positions }} positions at a time.
// Template   blocks: of four channels c;  positions;  x4, y4: whether C, O are multiples of four.

@compute @workgroup_size(8)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let out4 = (info.out_channels + 3u) / 4u;
    let o_groups = (out4 + 7u) / 8u;
    let c_groups = (info.channels + {{ 4 * blocks - 1 }}u) / {{ 4 * blocks }}u;
    var group = wid.x + wid.y * grid.x;
    let o = group % o_groups * 8u + lid;
    group /= o_groups;
    let c0 = group % c_groups * {{ 4 * blocks }}u;
    group /= c_groups;
    let t = group % info.taps;
    let share = group / info.taps;
    if share >= info.shares { return; }
    let tap = info.tap[t];
    let begin = share * info.share;
    let end = min(begin + info.share, info.positions);
{% for m in range(4 * blocks) %}
    var sum{{ m }} = vec4<f32>(0.0);
{% endfor %}
    for (var p = begin; p < end; p += {{ positions }}u) {
{% for i in range(positions) %}
        let y{{ i }} = gradient(p + {{ i }}u, o * 4u, end);
{% for m in range(blocks) %}
        let x{{ i }}_{{ m }} = source(p + {{ i }}u, tap, c0 + {{ 4 * m }}u, end);
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
    if o >= out4 { return; }
    let row = (share * info.taps + t) * info.channels;
{% for m in range(4 * blocks) %}
    if c0 + {{ m }}u < info.channels { partial[(row + c0 + {{ m }}u) * out4 + o] = sum{{ m }}; }
{% endfor %}
}

