{#
Operands of the general shaders of the weights' gradient. conv2d_weights_tiled.wgsl says more of them.

From outside: x4, y4, whether C, O are multiples of four; taps, room for so many.
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
    share: u32,        // positions of a share
    shares: u32,
    unused: u32,
    tap: array<vec4<i32>, {{ taps }}>, // (row offset, column offset)
}

@group(0) @binding(0) var<storage, read_write> x: array<{{ "Elem4" if x4 else "Elem" }}>;
@group(0) @binding(1) var<storage, read_write> dy: array<{{ "Elem4" if y4 else "Elem" }}>;
@group(0) @binding(2) var<storage, read_write> partial: array<Acc4>;
@group(0) @binding(3) var<uniform> info: Info;
