// What the general shaders of the weights' gradient have in common: their operands, and how they are read. Appended to
// conv2d_weights_tiled.wgsl and conv2d_weights_taps.wgsl, whose headers say more.
//
// Template   x4, y4: whether C, O are multiples of four.

struct Info {
    height: u32,
    width: u32,
    channels: u32,     // C
    stride: u32,
    rows: u32,         // the grid of positions
    cols: u32,
    out_channels: u32, // O
    taps: u32,
    positions: u32,    // N * rows * cols
    share: u32,        // positions of a share
    shares: u32,
    unused: u32,
    tap: array<vec4<i32>, 9>, // (row offset, column offset)
}

@group(0) @binding(0) var<storage, read_write> x: array<{{ "vec4<f32>" if x4 else "f32" }}>;
@group(0) @binding(1) var<storage, read_write> dy: array<{{ "vec4<f32>" if y4 else "f32" }}>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> info: Info;

/// Four channels from `c` on of the pixel that `tap` reaches from position `p`, 0 outside.
fn source(p: u32, tap: vec4<i32>, c: u32, end: u32) -> vec4<f32> {
    let row = p / info.cols % info.rows * info.stride + u32(tap.x);
    let col = p % info.cols * info.stride + u32(tap.y);
    if !(p < end && row < info.height && col < info.width && c < info.channels) { return vec4<f32>(0.0); }
    let first = ((p / (info.cols * info.rows) * info.height + row) * info.width + col) * info.channels + c;
{% if x4 %}
    return x[first / 4u];
{% else %}
    var values = vec4<f32>(0.0);
    for (var k = 0u; k < 4u; k++) {
        if c + k < info.channels { values[k] = x[first + k]; }
    }
    return values;
{% endif %}
}

/// Four channels from `o` on of position `p` of dy, 0 beyond.
fn gradient(p: u32, o: u32, end: u32) -> vec4<f32> {
    if !(p < end && o < info.out_channels) { return vec4<f32>(0.0); }
    let first = p * info.out_channels + o;
{% if y4 %}
    return dy[first / 4u];
{% else %}
    var values = vec4<f32>(0.0);
    for (var k = 0u; k < 4u; k++) {
        if o + k < info.out_channels { values[k] = dy[first + k]; }
    }
    return values;
{% endif %}
}
