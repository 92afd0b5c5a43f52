// Concatenation of two feature maps along the channels, or its inverse, which splits a map into its
// first channels and the rest.
//
//   y[p] = a[p] | b[p]
//
// Layouts    a [P, C1], b [P, C2], y [P, C1 + C2] (NHWC, P pixels of all images), in units S of
//            four channels, or of one.
// Workgroup  one block of pixels, and as many units as the workgroup is wide; each invocation
//            copies one unit of several pixels.
// Template   wg: invocations;  cols: invocations along the channels;  four: whether S is four
//            channels, not one;  split: whether y is read, and a and b are written;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/columns.wgsl" import declare, place %}
{{ declare(wg, cols, four) }}

struct Info {
    width: u32,    // C1 + C2 in units
    pixels: u32,
    size: u32,     // pixels per block
    count: u32,    // blocks
    first: u32,    // C1 in units
}

@group(0) @binding(0) var<storage, read_write> a: array<S>;
@group(0) @binding(1) var<storage, read_write> b: array<S>;
@group(0) @binding(2) var<storage, read_write> y: array<S>;
@group(0) @binding(3) var<uniform> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
{{ place() }}
    if block >= info.count || c >= info.width || lane >= LANES { return; }
    let begin = block * info.size + lane;
    let end = min((block + 1u) * info.size, info.pixels);

{% macro move(part, whole) %}
{% if split %}{{ part }} = {{ whole }};{% else %}{{ whole }} = {{ part }};{% endif %}
{% endmacro %}
    let first = info.first;
    if c < first {
        for (var p = begin; p < end; p += LANES) { {{ move("a[p * first + c]", "y[p * info.width + c]") }} }
    } else {
        for (var p = begin; p < end; p += LANES) { {{ move("b[p * (info.width - first) + c - first]", "y[p * info.width + c]") }} }
    }
}
