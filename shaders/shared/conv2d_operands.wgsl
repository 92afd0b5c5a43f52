{#
What the general convolution shaders have in common: their operands, and how they are read and
written. conv2d_tiled.wgsl explains them.

From outside: x4, y4: whether C, O are multiples of four; taps: the capacity of info.tap.
#}
{% from "shared/four.wgsl" import four %}
struct Info {
    height: u32,
    width: u32,
    channels: u32,     // C
    stride: u32,
    rows: u32,         // the grid of positions
    cols: u32,
    out_channels: u32, // O
    taps: u32,
    out_height: u32,
    out_width: u32,
    first_row: u32,
    first_col: u32,
    out_stride: u32,
    flags: u32,        // 1: bias, 2: residual
    positions: u32,    // N * rows * cols
    last_w: u32,       // the last vec4 of w
    channels4: u32,    // C / 4, rounded up
    out4: u32,         // O / 4, rounded up
    pixel: u32,        // elements of x per pixel: C / 4 where C is a multiple of four, else C
    rounds: u32,       // iterations of a tile's product
    tap: array<vec4<i32>, {{ taps }}>, // (row offset, column offset, index into w)
}

@group(0) @binding(0) var<storage, read_write> x: array<{{ "Elem4" if x4 else "Elem" }}>;
@group(0) @binding(1) var<storage, read_write> w: array<Elem4>;
@group(0) @binding(2) var<storage, read_write> bias: array<{{ "Acc4" if y4 else "Acc" }}>;
@group(0) @binding(3) var<storage, read_write> residual: array<{{ "Elem4" if y4 else "Elem" }}>;
@group(0) @binding(4) var<storage, read_write> y: array<{{ "Elem4" if y4 else "Elem" }}>;
@group(0) @binding(5) var<uniform> info: Info;

/// Returns row and column of position `p` in the grid, and its image.
fn position(p: u32) -> vec3<u32> {
    return vec3<u32>(p / info.cols % info.rows, p % info.cols, p / (info.cols * info.rows));
}

/// Returns the pixel that `tap` reaches from position `at`: the index of its first value in x, and
/// whether it lies in the image.
fn reach(at: vec3<u32>, tap: vec4<i32>) -> vec2<u32> {
    let row = at.x * info.stride + u32(tap.x);
    let col = at.y * info.stride + u32(tap.y);
    let inside = row < info.height && col < info.width;
    return vec2<u32>(select(0u, ((at.z * info.height + row) * info.width + col) * info.channels, inside), u32(inside));
}

/// Returns four channels from `c` on of the pixel that begins at `first`; channels beyond the last
/// repeat the last.
fn source(first: u32, c: u32) -> Elem4 {
{% if not x4 %}
    let last = info.channels - 1u;
{% endif %}
    return {{ factor(four("x", "first", "c", "last", x4)) }};
}

/// Returns the index in y of the first value of the pixel of position `at`.
fn pixel(at: vec3<u32>) -> u32 {
    let row = at.x * info.out_stride + info.first_row;
    let col = at.y * info.out_stride + info.first_col;
    return ((at.z * info.out_height + row) * info.out_width + col) * info.out_channels;
}

/// Writes four channels of y from `o` on, except those beyond the last.
fn store(at: vec3<u32>, o: u32, sum: Acc4) {
    put(pixel(at), o, sum);
}

/// Does the same for the pixel that begins at `pixel`.
fn put(pixel: u32, o: u32, sum: Acc4) {
    let first = pixel + o;
    var value = sum;
{% if y4 %}
    if (info.flags & 1u) != 0u { value += bias[o / 4u]; }
    if (info.flags & 2u) != 0u { value += Acc4(residual[first / 4u]); }
    y[first / 4u] = Elem4(value);
{% else %}
    for (var k = 0u; k < 4u; k++) {
        if o + k < info.out_channels {
            if (info.flags & 1u) != 0u { value[k] += bias[o + k]; }
            if (info.flags & 2u) != 0u { value[k] += Acc(residual[first + k]); }
            y[first + k] = Elem(value[k]);
        }
    }
{% endif %}
}
