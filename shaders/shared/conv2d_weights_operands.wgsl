{#
The operands of the general shaders of the weights' gradient. conv2d_weights_tiled.wgsl explains
them.

From outside: x4, y4: whether C, O are multiples of four; taps: the capacity of info.tap.
#}
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
    share: u32,        // positions per share
    shares: u32,
    channels4: u32,    // C / 4, rounded up
    out4: u32,         // O / 4, rounded up
    pixel: u32,        // elements of x per pixel: C / 4 where C is a multiple of four, else C
    on_cols: u32,      // from one tile of positions to the next: columns, rows and elements of x
    on_rows: u32,
    on: u32,
    span_cols: u32,    // columns and rows of x that a row and a column of positions span
    span_rows: u32,
    next_row: u32,     // elements of x to advance where columns, or rows, have passed their span
    next_image: u32,
    last: u32,         // the last position
    rounds: u32,       // iterations of a tile's product
    unused: u32,
    tap: array<vec4<i32>, {{ taps }}>, // (row offset, column offset)
}

@group(0) @binding(0) var<storage, read_write> x: array<{{ "Elem4" if x4 else "Elem" }}>;
@group(0) @binding(1) var<storage, read_write> dy: array<{{ "Elem4" if y4 else "Elem" }}>;
@group(0) @binding(2) var<storage, read_write> partial: array<Acc4>;
@group(0) @binding(3) var<uniform> info: Info;
