// The convolution of conv2d_tiled.wgsl without workgroup memory or barriers, for software adapters, on which both are slow: any
// kernel, any stride, any number of channels. (conv2d_block.wgsl is faster where it fits.)
//
// Layouts    as conv2d_tiled.wgsl.
// Workgroup  {{ positions }} positions (of all images in a row) in registers;  8 invocations along channels, {{ quads }} groups of four each.
// Template   positions;  quads;  x4, y4: whether C, O are multiples of four.

@compute @workgroup_size(8)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let out4 = (info.out_channels + 3u) / 4u;
    let groups = (out4 + {{ 8 * quads - 1 }}u) / {{ 8 * quads }}u;
    let group = wid.x + wid.y * grid.x;
    let p0 = group / groups * {{ positions }}u;
    if p0 >= info.positions { return; }
    let wanted = group % groups * {{ 8 * quads }}u + lid;
    // Invocations beyond the last channel do its work again, and write nothing.
{% for n in range(quads) %}
    let o{{ n }} = min(wanted + {{ 8 * n }}u, out4 - 1u);
{% endfor %}
{% for m in range(positions) %}
    let at{{ m }} = position(p0 + {{ m }}u);
{% for n in range(quads) %}
    var sum{{ m }}_{{ n }} = vec4<f32>(0.0);
{% endfor %}
{% endfor %}
    for (var t = 0u; t < info.taps; t++) {
        let tap = info.tap[t];
{% if x4 %}
        // Each position's pixel, in units of four channels, and 0 for one outside.
{% for m in range(positions) %}
        let row{{ m }} = at{{ m }}.x + u32(tap.x);
        let col{{ m }} = at{{ m }}.y + u32(tap.y);
        let inside{{ m }} = f32(row{{ m }} < info.height && col{{ m }} < info.width && p0 + {{ m }}u < info.positions);
        let pixel{{ m }} = select(0u, ((at{{ m }}.z * info.height + row{{ m }}) * info.width + col{{ m }}) * (info.channels / 4u), inside{{ m }} > 0.0);
{% endfor %}
{% endif %}
        for (var c = 0u; c < info.channels; c += 4u) {
{% for q in range(4) %}
            // Rows of w beyond the last channel are multiplied by 0.
            let row{{ q }}_w = (u32(tap.z) * info.channels + min(c + {{ q }}u, info.channels - 1u)) * out4;
{% for n in range(quads) %}
            let w{{ q }}_{{ n }} = w[row{{ q }}_w + o{{ n }}];
{% endfor %}
{% endfor %}
{% for m in range(positions) %}
            {
{% if x4 %}
                let v = x[pixel{{ m }} + c / 4u] * inside{{ m }};
{% else %}
                let v = source(at{{ m }}, tap, c, p0 + {{ m }}u < info.positions);
{% endif %}
{% for n in range(quads) %}
{% for q in range(4) %}
                sum{{ m }}_{{ n }} += v[{{ q }}] * w{{ q }}_{{ n }};
{% endfor %}
{% endfor %}
            }
{% endfor %}
        }
    }
{% for m in range(positions) %}
    if p0 + {{ m }}u < info.positions {
{% for n in range(quads) %}
        if wanted + {{ 8 * n }}u < out4 { store(p0 + {{ m }}u, o{{ n }} * 4u, sum{{ m }}_{{ n }}); }
{% endfor %}
    }
{% endfor %}
}

