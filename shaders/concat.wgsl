// Concatenation of two feature maps along the channels, or its opposite: a map's first channels, and the others.
//
//   y[p] = a[p] | b[p]
//
// Layouts    a [P, C1], b [P, C2], y [P, C1 + C2] (NHWC, P pixels of all images).
// Workgroup  one block of pixels, as many channels as it is wide; each invocation some pixels of one channel.
// Template   wg: invocations;  cols: those along the channels;  lanes: pixels at a time;  vec4: whether a value is four
//            channels;  split: whether y is read, and a and b written.

const COLS: u32 = {{ cols }}u;
const LANES: u32 = {{ lanes }}u;
alias Values = {{ "vec4<f32>" if vec4 else "f32" }};

struct Info {
    width: u32,    // C1 + C2 in values
    pixels: u32,
    size: u32,     // pixels of a block
    count: u32,    // blocks
    first: u32,    // C1 in values
}

@group(0) @binding(0) var<storage, read_write> a: array<Values>;
@group(0) @binding(1) var<storage, read_write> b: array<Values>;
@group(0) @binding(2) var<storage, read_write> y: array<Values>;
@group(0) @binding(3) var<storage, read_write> info: Info;

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let id = wid.x + wid.y * grid.x;
    let tiles = (info.width + COLS - 1u) / COLS;
    let block = id / tiles;
    let c = (id % tiles) * COLS + lid % COLS;
    let lane = lid / COLS;
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
