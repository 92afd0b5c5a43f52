// The convolution of conv2d_tiled.wgsl without workgroup memory or barriers, for software adapters,
// on which both are slow: any kernel, any stride, any number of channels. (conv2d_block.wgsl is
// faster where it applies.)
//
// Layouts    as in conv2d_tiled.wgsl.
// Workgroup  8 invocations; positions are numbered through all images. Along channels:
//            {{ positions }} positions, of which an invocation computes four channels each. Along
//            positions: {{ positions }} positions per invocation, 8 apart, all with the same four
//            channels.
// Template   positions;  across: whether invocations run along positions;  x4, y4: whether C, O are
//            multiples of four;  taps: the capacity of info.tap;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% include "shared/conv2d_operands.wgsl" %}

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let out4 = (info.out_channels + 3u) / 4u;
    let groups = (out4 + {{ 0 if across else 7 }}u) / {{ 1 if across else 8 }}u;
    let group = wid.x + wid.y * grid.x;
    let p0 = group / groups * {{ positions * (8 if across else 1) }}u;
    if p0 >= info.positions { return; }
    let wanted = group % groups * {{ 1 if across else 8 }}u{{ "" if across else " + lid" }};
    // Invocations beyond the last channel repeat its work and write nothing.
    let o = min(wanted, out4 - 1u);
{% for m in range(positions) %}
{% if across %}
    let at{{ m }} = position(p0 + {{ 8 * m }}u + lid);
    let here{{ m }} = p0 + {{ 8 * m }}u + lid < info.positions;
{% else %}
{% if m == 0 %}
    let at0 = position(p0);
{% else %}
    // The next position, without divisions, which are slow on vectors.
    let col{{ m }} = at{{ m - 1 }}.y + 1u;
    let row{{ m }} = at{{ m - 1 }}.x + u32(col{{ m }} == info.cols);
    let at{{ m }} = vec3<u32>(select(row{{ m }}, 0u, row{{ m }} == info.rows), select(col{{ m }}, 0u, col{{ m }} == info.cols), at{{ m - 1 }}.z + u32(row{{ m }} == info.rows));
{% endif %}
    let here{{ m }} = p0 + {{ m }}u < info.positions;
{% endif %}
    var sum{{ m }} = Acc4(0.0);
{% endfor %}
    for (var t = 0u; t < info.taps; t++) {
        let tap = info.tap[t];
{% for m in range(positions) %}
        let pixel{{ m }} = reach(at{{ m }}, tap);
        let first{{ m }} = select(0u, pixel{{ m }}.x, here{{ m }});
        let factor{{ m }} = Acc(pixel{{ m }}.y);
{% endfor %}
        for (var c = 0u; c < info.channels; c += 4u) {
            // Channels beyond the last have weights of 0.
{% for q in range(4) %}
            let row{{ q }}_w = (u32(tap.z) * info.channels + min(c + {{ q }}u, info.channels - 1u)) * out4;
            let w{{ q }} = Acc4(w[row{{ q }}_w + o]){{ "" if x4 or q == 0 else " * Acc(c + " ~ q ~ "u < info.channels)" }};
{% endfor %}
{% for m in range(positions) %}
            {
                let v = Acc4(source(first{{ m }}, c)) * factor{{ m }};
{% for q in range(4) %}
                sum{{ m }} += v[{{ q }}] * w{{ q }};
{% endfor %}
            }
{% endfor %}
        }
    }
{% for m in range(positions) %}
    if here{{ m }} && wanted < out4 { store(at{{ m }}, o * 4u, sum{{ m }}); }
{% endfor %}
}
